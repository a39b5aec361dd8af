"""The one-machine default: PostgreSQL, S3 and a Ray head started from installed packages and kept running by supervisord.

``start`` makes what is missing under ``AIDOS_HOME`` (directories of mode 0700, secrets of mode 0600) and returns when every program
answers; ``stop`` ends them. A part that a setting replaces (``AIDOS_DATABASE_URL``, ``AIDOS_S3_ENDPOINT``, ``RAY_ADDRESS``) is not
started.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import filelock
import psutil
import urllib3
from pydantic import SecretStr

from aidos.errors import AidosError
from cluster import launch, postgres_server, ray_head, s3_server
from cluster.settings import Settings, read_settings
from cluster.supervision import NotReady, Port, Program, Supervisor, make_private, wait_until, write_private

Progress = Callable[[str, str], None]
"""Told a program's title and what happens to it, from several threads."""

_GENERATED = ("postgres_password", "s3_access_key", "s3_secret_key", "s3_jwt_key", "ray_token")
INSTALLATION_SECRETS = frozenset({*_GENERATED, "database_url", "s3_endpoint"})
"""Secrets that reach this installation's servers; all others belong to the data and go with a backup of it."""
TITLES = {"postgres": "PostgreSQL 18", "s3": "SeaweedFS S3", "ray": "Ray head", "platform": "AI-DOS"}
_DIRECTORIES = ("secrets", "config", "logs", "run")


class CannotStart(AidosError):
    """The platform does not start; the sentence says why and what to do."""

    status = 500
    title = "Cannot start"
    detail = "{reason}"


def silent(title: str, message: str) -> None:
    """A progress that nobody watches."""


def start(settings: Settings, progress: Progress = silent, only: Collection[str] | None = None) -> Settings:
    """Start the programs (all, or those named in ``only``) and wait until each answers; returns the settings that reach them.

    Raises: CannotStart, with everything that already answers left running.
    """
    make_home(settings.home)
    with start_lock(settings.home):
        settings = make_secrets(settings)
        everything = build_programs(settings, progress)
        chosen = [program for program in everything if only is None or program.name in only]
        supervisor = Supervisor(settings.home)
        try:
            supervisor.start(everything)
        except (RuntimeError, TimeoutError, PermissionError) as error:
            raise CannotStart(reason=str(error)) from error
        _start_in_order(supervisor, chosen, settings.start_timeout_s, progress)
    return settings


def stop(settings: Settings, progress: Progress = silent) -> bool:
    """End every program of this home, users of a program before it, then the supervisor and whatever outlived it.

    Returns whether anything ran.
    """
    supervisor = Supervisor(settings.home)
    running = {status.name for status in supervisor.status() if status.pid}
    for group in (("platform",), ("ray",), ("s3", "postgres")):
        chosen = [name for name in group if name in running]
        with ThreadPoolExecutor(len(group)) as pool:
            for stopped in [pool.submit(_stop_program, supervisor, name, progress) for name in chosen]:
                stopped.result()
    supervisor.shutdown()
    leftovers = launch.end_leftovers(settings.home)
    ray_head.forget_state(settings.home)
    return bool(running or leftovers)


def _stop_program(supervisor: Supervisor, name: str, progress: Progress) -> None:
    title = TITLES.get(name, name)
    progress(title, "stopping")
    began = time.monotonic()
    supervisor.stop_program(name)
    launch.end_leftovers(supervisor.home, name)
    progress(title, f"stopped in {time.monotonic() - began:.1f} s")


def build_programs(settings: Settings, progress: Progress = silent) -> tuple[Program, ...]:
    """The programs that these settings ask for, in the order of their needs. Needs the secrets of ``make_secrets``."""
    programs = []
    if is_embedded(settings, "database_url"):
        password = settings.secret("postgres_password")
        programs.append(postgres_server.build_program(settings, password, lambda text: progress(TITLES["postgres"], text)))
    if is_embedded(settings, "s3_endpoint"):
        keys = (settings.secret(name) for name in ("s3_access_key", "s3_secret_key", "s3_jwt_key"))
        programs.append(s3_server.build_program(settings, *keys))
    if not settings.ray_address:
        programs.append(ray_head.build_program(settings, public_environment(settings)))
    programs.append(build_platform(settings))
    return tuple(programs)


def build_platform(settings: Settings) -> Program:
    """The platform itself: migrations, then actors and Serve apps as soon as Ray answers (it waits for that), then a watch over them."""
    return Program(
        name="platform",
        title=TITLES["platform"],
        command=(sys.executable, "-m", "cluster.boot"),
        environment=ray_head.serve_environment(settings) | public_environment(settings) | ray_head.driver_environment(settings),
        ports=(Port("gateway", settings.gateway_port, settings.gateway_host),),
        needs=("postgres", "s3"),
        fresh=(settings.home / "run" / "platform.json",),
        ready=lambda: check_platform(settings),
        stop_wait_s=5,
    )


def check_platform(settings: Settings) -> None:
    """Raises: NotReady unless the platform has announced itself and its gateway answers."""
    announced = read_announcement(settings.home)
    if announced is None:
        raise NotReady("it has not announced itself yet")
    host = "127.0.0.1" if settings.gateway_host in ("", "*", "0.0.0.0", "::") else settings.gateway_host  # compared, not bound
    try:
        answer = urllib3.request("GET", f"http://{host}:{settings.gateway_port}/healthz", timeout=2.0, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise NotReady(f"the gateway does not answer: {error}") from None
    if answer.status != 200:
        raise NotReady(f"the gateway answers {answer.status}")


def read_announcement(home: Path) -> dict[str, Any] | None:
    """What the running platform said of itself: ``url``, ``ray_dashboard``, ``pid``; None before it has."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((home / "run" / "platform.json").read_text())
        return dict(found) if psutil.pid_exists(found["pid"]) else None
    return None


def take_admin_key(home: Path) -> str | None:
    """The one-time administrator key of a new installation; it is gone from the disk afterwards."""
    path = home / "run" / "admin_key"
    if not path.exists():
        return None
    key = path.read_text().strip()
    path.unlink()
    return key


def public_environment(settings: Settings) -> dict[str, str]:
    """What a process of the platform needs in its environment to read these settings: the home and no secret."""
    environment = {"AIDOS_HOME": str(settings.home)}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name not in ("home", "ray_address") and not isinstance(value, SecretStr) and value != field.default:
            environment[f"AIDOS_{name.upper()}"] = str(value)
    return environment


def make_home(home: Path) -> None:
    """Make the home and its directories, private to their owner."""
    if not str(home).isprintable() or set(str(home)) & set("%'\""):
        raise CannotStart(reason=f"AIDOS_HOME {str(home)!r} has a percent sign, quote or control character in it: choose another")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        raise CannotStart(reason=f"{home} belongs to another user: choose your own directory by AIDOS_HOME")
    if home.stat().st_mode & 0o007:
        home.chmod(0o700)
    for name in _DIRECTORIES:
        make_private(home / name)


@contextlib.contextmanager
def start_lock(home: Path) -> Iterator[None]:
    """One start at a time; the lock dies with its holder. Raises: CannotStart when another process holds it."""
    path = home / "run" / "up.lock"
    holder = home / "run" / "up.pid"
    try:
        with filelock.FileLock(path, blocking=False):
            write_private(holder, str(os.getpid()))
            yield
    except filelock.Timeout:
        pid = holder.read_text() if holder.exists() else "unknown"
        raise CannotStart(reason=f"another 'aidos up' for {home} is at work (process {pid}): wait for it, or end it") from None


def is_embedded(settings: Settings, name: str) -> bool:
    """Whether ``database_url`` or ``s3_endpoint`` is unset, or is what an earlier start wrote for the embedded server."""
    value = _reveal(settings, name)
    record = settings.home / "config" / f"embedded_{name}"
    return not value or (record.exists() and record.read_text() == value)


def make_secrets(settings: Settings) -> Settings:
    """Write the secret files that are missing, and where the embedded servers are found; returns settings that hold them.

    What the environment gives for an outer database or S3 is written too, so that a Ray worker needs only ``AIDOS_HOME``.
    """
    for name in _GENERATED:
        if not settings.secret_path(name).exists():
            write_private(settings.secret_path(name), _reveal(settings, name) or secrets.token_hex(32))
    connections = {
        "database_url": postgres_server.database_url(settings, settings.secret("postgres_password")),
        "s3_endpoint": s3_server.endpoint(settings),
    }
    for name, value in connections.items():
        if is_embedded(settings, name):
            write_private(settings.home / "config" / f"embedded_{name}", value)
            write_private(settings.secret_path(name), value)
        else:
            write_private(settings.secret_path(name), _reveal(settings, name))
    if not is_embedded(settings, "s3_endpoint"):
        for name in ("s3_access_key", "s3_secret_key"):
            write_private(settings.secret_path(name), _reveal(settings, name))
    fresh = read_settings(settings.home)
    found = ("database_url", "s3_endpoint", "s3_access_key", "s3_secret_key")
    return settings.model_copy(update={name: getattr(fresh, name) for name in found})


def _reveal(settings: Settings, name: str) -> str:
    value = getattr(settings, name, "")
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def _start_in_order(supervisor: Supervisor, programs: list[Program], timeout_s: float, progress: Progress) -> None:
    """Start each program as soon as those it needs answer, all others beside it."""
    answered = {program.name: threading.Event() for program in programs}
    failed = threading.Event()

    def bring_up(program: Program) -> None:
        try:
            for need in program.needs:
                while need in answered and not answered[need].wait(0.2):
                    if failed.is_set():
                        return
            _bring_up(supervisor, program, timeout_s, progress, failed)
            answered[program.name].set()
        except BaseException:
            failed.set()
            raise

    if not programs:
        return
    with ThreadPoolExecutor(len(programs)) as pool:
        try:
            done, _ = wait([pool.submit(bring_up, program) for program in programs], return_when=FIRST_EXCEPTION)
        finally:
            failed.set()  # the others stop waiting, also when the operator interrupts
    for future in done:
        future.result()


def _bring_up(supervisor: Supervisor, program: Program, timeout_s: float, progress: Progress, failed: threading.Event) -> None:
    began = time.monotonic()
    running = {status.name for status in supervisor.status() if status.state in ("RUNNING", "STARTING")}
    if program.name not in running:
        ended = launch.end_leftovers(supervisor.home, program.name)
        refuse_busy_ports(program.ports, patience_s=10.0 if ended else 0.0)
    progress(program.title, "starting")
    try:
        supervisor.start_program(program)
    except (RuntimeError, KeyError, OSError, Fault) as error:
        raise CannotStart(reason=f"{program.title} cannot be prepared: {error}") from error
    reason, pids = "", set()
    while time.monotonic() - began < timeout_s and not failed.is_set():
        try:
            if program.provision:
                program.provision()
            program.ready()
            progress(program.title, f"ready in {time.monotonic() - began:.1f} s")
            return
        except Exception as error:  # any failure means "not yet", and the last one is told
            reason = " ".join(str(error).split())
        pids |= {status.pid for status in supervisor.status() if status.name == program.name and status.pid}
        if len(pids) > 4:
            reason = f"it ended {len(pids) - 1} times"
            break
        failed.wait(0.1)
    if not failed.is_set():
        log = supervisor.log_path(program.name)
        said = _last_words(log)  # before it is stopped: what it says of that is no reason
        supervisor.stop_program(program.name)
        raise CannotStart(reason=f"{program.title} does not answer: {reason}; its log {log} says {said!r}")


def _last_words(log: Path) -> str:
    """The last complaint near the end of a log, or its last line."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        lines = [line.strip() for line in stream.read().decode(errors="replace").split("\n") if line.strip()]
        complaints = [line for line in lines if re.search(r"PANIC|FATAL|[Ee]rror\b", line)]
        return (complaints or lines or [""])[-1][-300:]
    return ""


def refuse_busy_ports(ports: Collection[Port], patience_s: float = 0.0) -> None:
    """Wait up to ``patience_s`` for what is just ending. Raises: CannotStart naming a port that is taken, and by which process."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not find_busy_ports(ports), patience_s, str)
    for port, pid in find_busy_ports(ports).items():
        raise CannotStart(reason=f"port {port.number} ({port.name}) is taken by {describe(pid)}: end it, or set another port")


def find_busy_ports(ports: Collection[Port]) -> dict[Port, int | None]:
    """Which of the ports somebody listens on, and the process where it can be seen."""
    listening = {row.laddr.port: row.pid for row in psutil.net_connections(kind="tcp") if row.status == psutil.CONN_LISTEN}
    return {port: listening[port.number] for port in ports if port.number in listening}


def describe(pid: int | None) -> str:
    """A process in words."""
    with contextlib.suppress(psutil.Error, TypeError):
        if pid:
            process = psutil.Process(pid)
            return f"process {pid} ({process.name()}, user {process.username()})"
    return "a process of another user"
