"""supervisord keeps the programs of one ``AIDOS_HOME`` running: its configuration, and control through its XML-RPC.

supervisord listens on a Unix socket that only the platform's user can open. Each program is started through ``launch.py``, so
whatever a killed life of it left behind is gone before the next one starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import Faults, SupervisorTransport

from cluster import launch
from cluster.settings import inherited_environment

# A Unix socket path may have 107 bytes. supervisord appends a pid while it binds, Ray a session name (about 70). HAProxy allows 97, of
# which Serve takes 73 (`/ha/`, a node id of 56, `/metrics.sock`): a directory for sockets has at most this length.
SOCKET_DIRECTORY_BYTES = 24
_POLL_S = 0.1


class NotReady(Exception):
    """A program does not answer yet; the text says what it answered instead."""


@dataclass(frozen=True)
class Port:
    """A TCP port that a program listens on, and on which address."""

    name: str
    number: int
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Program:
    """One supervised program. ``ready`` raises until it does its work; ``prepare`` runs before it starts, ``provision`` once it answers."""

    name: str
    title: str
    command: tuple[str, ...]
    ready: Callable[[], None]
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    user: str = ""
    needs: tuple[str, ...] = ()
    fresh: tuple[Path, ...] = ()  # files that each new life of it begins without
    prepare: Callable[[], None] | None = None
    provision: Callable[[], None] | None = None
    stop_signal: str = "TERM"
    stop_wait_s: int = 5


@dataclass(frozen=True)
class ProgramStatus:
    """What supervisord knows of one program; ``state`` is supervisord's own word."""

    name: str
    state: str
    pid: int | None
    uptime_s: int
    log: Path


def socket_directory(home: Path, name: str = "run") -> Path:
    """``home/name``, or a short private directory elsewhere when that path is too long for the sockets in it."""
    directory = home / name
    if len(str(directory)) > SOCKET_DIRECTORY_BYTES:
        digest = hashlib.sha256(f"{os.getuid()} {directory}".encode()).hexdigest()[:10]
        directory = Path(tempfile.gettempdir()) / f"aidos-{digest}"
        if len(str(directory)) > SOCKET_DIRECTORY_BYTES:
            directory = Path("/tmp") / directory.name  # noqa: S108  # TMPDIR itself is too long; make_private looks at the owner
    return directory


def make_private(directory: Path) -> None:
    """Make the directory, for its owner alone. Raises: PermissionError when another user made it before."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.is_symlink() or (os.getuid() != 0 and directory.lstat().st_uid != os.getuid()):
        raise PermissionError(f"{directory} belongs to another user: remove it, or choose another AIDOS_HOME")
    directory.chmod(0o700)


class Supervisor:
    """The supervisord of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = socket_directory(home) / "supervisor.sock"
        self.config = home / "config" / "supervisord.conf"
        self.log = home / "logs" / "supervisord.log"

    def is_running(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError, http.client.HTTPException, Fault):
            return bool(self._call("getState")["statename"] == "RUNNING")
        return False

    def start(self, programs: tuple[Program, ...]) -> None:
        """Make it run with exactly these programs, none of them started by that. A living one with the same list is kept."""
        make_private(self.log.parent)
        make_private(self.socket.parent)
        text = self._configuration(programs)
        running = self.is_running()
        if running and self.config.exists() and self.config.read_text() == text:
            return
        if running:
            self.shutdown()
        launch.end_leftovers(self.home)
        write_private(self.config, text)
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.config)]
        environment = inherited_environment() | {launch.MARK: launch.mark("supervisord", self.home)}
        # so that "python" in a job is the one that has the platform's packages
        environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), environment.get("PATH", os.defpath)])
        done = subprocess.run(command, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"supervisord did not start: {(done.stderr or done.stdout).strip()}; see {self.log}")
        wait_until(self.is_running, 10.0, lambda: f"supervisord does not answer on {self.socket}; see {self.log}")

    def start_program(self, program: Program) -> None:
        """Start it, again if its specification changed; one that runs as specified is left alone."""
        path = self._spec_path(program.name)
        text = json.dumps(self._spec(program), indent=1)
        state = self._call("getProcessInfo", program.name)["statename"]
        alive = state in {"RUNNING", "STARTING", "BACKOFF"}
        if alive and path.exists() and path.read_text() == text:
            return
        if alive:
            self.stop_program(program.name)
        write_private(path, text)
        if program.prepare:
            program.prepare()
        self._call("startProcess", program.name, False)

    def stop_program(self, name: str, wait: bool = True) -> None:
        """Stop it; one that does not run is left alone."""
        try:
            self._call("stopProcess", name, wait)
        except Fault as fault:
            if fault.faultCode not in (Faults.NOT_RUNNING, Faults.BAD_NAME):
                raise

    def status(self) -> list[ProgramStatus]:
        """Every program it knows; empty when it does not run."""
        if not self.is_running():
            return []
        return [self._status(row) for row in self._call("getAllProcessInfo")]

    def _status(self, row: dict[str, Any]) -> ProgramStatus:
        uptime_s = row["now"] - row["start"] if row["pid"] else 0
        return ProgramStatus(row["name"], row["statename"], row["pid"] or None, max(0, uptime_s), self.log_path(row["name"]))

    def shutdown(self) -> None:
        """End it and every program with it; returns when it is gone."""
        with contextlib.suppress(OSError, http.client.HTTPException, Fault):
            self._call("shutdown")
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.socket.exists() or not self.is_alive(), 20.0, lambda: "supervisord does not end")

    def is_alive(self) -> bool:
        """Whether a supervisord process of this home exists, answering or not."""
        return bool(launch.find_marked(self.home, "supervisord"))

    def log_path(self, name: str) -> Path:
        """File that holds what the program wrote to its standard streams."""
        return self.home / "logs" / f"{name}.log"

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            return getattr(ServerProxy("http://localhost", transport=transport).supervisor, method)(*arguments)
        finally:
            transport.close()

    def _spec_path(self, name: str) -> Path:
        return self.home / "config" / "programs" / f"{name}.json"

    def _spec(self, program: Program) -> dict[str, Any]:
        return {
            "name": program.name,
            "home": str(self.home),
            "command": list(program.command),
            "environment": dict(program.environment),
            "user": program.user,
            "fresh": [str(path) for path in program.fresh],
        }

    def _configuration(self, programs: tuple[Program, ...]) -> str:
        user = "user=root\n" if os.geteuid() == 0 else ""
        head = (
            f"[unix_http_server]\nfile={_escape(self.socket)}\nchmod=0700\n\n"
            f"[supervisord]\nlogfile={_escape(self.log)}\nlogfile_maxbytes=5MB\nlogfile_backups=2\n"
            f"pidfile={_escape(self.home / 'run' / 'supervisord.pid')}\numask=077\nnocleanup=true\n{user}\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        return head + "".join(self._section(program) for program in programs)

    def _section(self, program: Program) -> str:
        command = shlex.join([sys.executable, "-P", launch.__file__, str(self._spec_path(program.name))])
        # supervisord waits one second more after each failed start; with so many tries it never gives a program up.
        return (
            f"\n[program:{program.name}]\ncommand={_escape(command)}\nautostart=false\nautorestart=true\nstartsecs=1\nstartretries=1000\n"
            f"stopsignal={program.stop_signal}\nstopwaitsecs={program.stop_wait_s}\nkillasgroup=true\nredirect_stderr=true\n"
            f"stdout_logfile={_escape(self.log_path(program.name))}\nstdout_logfile_maxbytes=20MB\nstdout_logfile_backups=2\n"
        )


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 in one step: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def wait_until(condition: Callable[[], bool], deadline_s: float, reason: Callable[[], str]) -> None:
    """Poll until ``condition`` holds. Raises: TimeoutError with ``reason()`` after ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(reason())
        time.sleep(_POLL_S)
