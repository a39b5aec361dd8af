"""Looks at what goes wrong on real machines, and at what makes a start insecure; each finding says its remedy.

``refuse_unsafe`` is the part that ``aidos up`` runs first: it does not start what fails there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import psutil
import psycopg
import urllib3
from minio.error import S3Error

from aidos.config import read_config
from cluster import embedded, launch, postgres_server, ray_head, s3_server
from cluster.sandbox.outside import find_refusal
from cluster.settings import Settings, ambient_environment
from cluster.status import list_external, list_programs
from cluster.supervision import NotReady, Supervisor

RAY_VERSION = "2.60"
MEMORY_BYTES = 2 * 2**30
CLOCK_SKEW_S = 5.0
UNSIGNED_SKEW_S = 900.0
# SECURITY I3: each lets a data file run code where Ray Data reads it.
UNSAFE_RAY_DATA = (
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
    "RAY_DATA_ARROW_EXTENSION_SERIALIZATION_CLOUDPICKLE",
    "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``remedy`` is empty when it is well; a warning does not keep the platform from starting."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    warning: bool = False


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> list[Finding]:
    """Every check; none of them changes anything."""
    return _run(settings, (*BEFORE_START, check_sandbox, check_ports, check_running))


def refuse_unsafe(settings: Settings) -> None:
    """Raises: CannotStart with the first finding that forbids a start, and its remedy."""
    for finding in _run(settings, BEFORE_START):
        if not finding.ok and not finding.warning:
            raise embedded.CannotStart(reason=f"{finding.detail}: {finding.remedy}")


def _run(settings: Settings, checks: tuple[Check, ...]) -> list[Finding]:
    return [finding for check in checks for finding in check(settings)]


def check_versions(settings: Settings) -> Iterator[Finding]:
    ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding("python", ok, f"Python {sys.version.split()[0]}", "" if ok else "use Python 3.11, 3.12 or 3.13")
    ray = importlib.metadata.version("ray")
    ok = ray.startswith(RAY_VERSION + ".")
    yield Finding("ray version", ok, f"Ray {ray}", "" if ok else f"install Ray {RAY_VERSION}: `make install`")
    for name, path in (("postgres", postgres_server.BIN / "postgres"), ("weed", s3_server.WEED), ("ray", ray_head.RAY)):
        ok = os.access(path, os.X_OK)
        yield Finding(f"{name} program", ok, str(path), "" if ok else "it is missing or not executable: `make install`")


def check_disk(settings: Settings) -> Iterator[Finding]:
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    ok = free >= settings.free_disk_bytes
    detail = f"{free / 2**30:.1f} GiB free under {settings.home}"
    yield Finding(
        "disk", ok, detail, "" if ok else f"at least {settings.free_disk_bytes / 2**30:.1f} GiB must be free: make room, or set AIDOS_HOME"
    )


def check_memory(settings: Settings) -> Iterator[Finding]:
    free = psutil.virtual_memory().available
    ok = free >= MEMORY_BYTES or Supervisor(settings.home).is_running()
    detail = f"{free / 2**30:.1f} GiB of memory available"
    yield Finding("memory", ok, detail, "" if ok else "the platform takes about 2 GiB: end other programs", warning=True)


def check_clock(settings: Settings) -> Iterator[Finding]:
    now, newest = time.time(), 0.0
    for name in ("run", "logs", "secrets", "config"):
        for path in (settings.home / name).glob("*"):
            newest = max(newest, path.lstat().st_mtime)
    ok = newest <= now + CLOCK_SKEW_S
    detail = (
        "the clock is not behind the files of AIDOS_HOME"
        if ok
        else f"the clock is {newest - now:.0f} s behind the newest file of {settings.home}"
    )
    yield Finding("clock", ok, detail, "" if ok else "set the clock (NTP), or wait: tokens and leases depend on time")


def check_home(settings: Settings) -> Iterator[Finding]:
    for path in (settings.home, settings.home / "secrets"):
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            # as root, PostgreSQL's own user may walk through the home by its group
            ok = not mode & (0o067 if path == settings.home else 0o077)
            yield Finding("home", ok, f"{path} has mode {mode:04o}", "" if ok else "`aidos up` makes it private", warning=True)
    secrets = settings.home / "secrets"
    for path in sorted(secrets.glob("aidos_*")) if secrets.exists() else ():
        mode = stat.S_IMODE(path.stat().st_mode)
        owner = path.stat().st_uid
        if mode & 0o077 or owner != os.geteuid():
            remedy = f"`chmod 600 {path}`, and make a new secret if others may have read it"
            yield Finding("secret", False, f"{path} has mode {mode:04o} and owner {owner}", remedy)


def check_ray_security(settings: Settings) -> Iterator[Finding]:
    environment = ambient_environment()
    mode = environment.get("RAY_AUTH_MODE", "token")
    ok = mode == "token"
    yield Finding(
        "ray auth mode", ok, f"RAY_AUTH_MODE={mode}", "" if ok else "unset it: without the token anyone who reaches Ray runs code"
    )
    token = settings.secret_path("ray_token")
    if token.exists():
        mode_bits = stat.S_IMODE(token.stat().st_mode)
        ok = mode_bits == 0o600 and len(token.read_text().strip()) >= 32
        remedy = f"remove {token} and start again" if mode_bits == 0o600 else f"`chmod 600 {token}`"
        yield Finding("ray token", ok, f"{token} has mode {mode_bits:04o}", "" if ok else remedy)
    for name in UNSAFE_RAY_DATA:
        value = environment.get(name, "0").lower()
        ok = value in ("", "0", "false")
        if not ok:
            yield Finding("ray data", ok, f"{name}={value}", "unset it: a data file could run code")
    yield from _check_refusal(settings) if settings.ray_address else ()


def check_external(settings: Settings) -> Iterator[Finding]:
    for name, title, check in list_external(settings):
        try:
            check()
        except Exception as error:  # whatever it is, it is what the operator needs to read
            setting = {
                "postgres": "AIDOS_DATABASE_URL",
                "s3": "AIDOS_S3_ENDPOINT and its keys",
                "ray": "RAY_ADDRESS and secrets/aidos_ray_token",
            }[name]
            yield Finding(name, False, f"{title} cannot be used: {' '.join(str(error).split())}", f"set {setting} right")
        else:
            yield Finding(name, True, f"{title} answers")
            if name == "ray":
                yield from _check_system_group(settings)
            if name == "postgres":
                yield from _check_database_clock(settings)
            if name == "s3":
                yield from _check_http_clock("S3", settings.s3_endpoint)


def _check_system_group(settings: Settings) -> Iterator[Finding]:
    try:
        ok = ray_head.has_system_node(settings.ray_address, settings.secret("ray_token"))
    except NotReady as error:
        yield Finding("ray label", False, str(error), "`aidos status` says whether it runs")
        return
    detail = f"a node carries the label {ray_head.SYSTEM_LABEL}" if ok else ray_head.NO_SYSTEM_NODE
    yield Finding("ray label", ok, detail, "" if ok else ray_head.SYSTEM_REMEDY)


def check_sandbox(settings: Settings) -> Iterator[Finding]:
    """By making one."""
    refusal = find_refusal()
    detail = refusal or "this node can run untrusted code in a sandbox"
    remedy = (
        "untrusted jobs fail here: it takes Linux 5.12, user namespaces (user.max_user_namespaces above 0) and libseccomp2"
        if refusal
        else ""
    )
    yield Finding("sandbox", refusal is None, detail, remedy, warning=True)


BEFORE_START: tuple[Check, ...] = (check_versions, check_disk, check_memory, check_clock, check_home, check_external, check_ray_security)


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Ports of programs that do not run must be free."""
    running = {status.name for status in Supervisor(settings.home).status() if status.pid}
    for program in list_programs(settings):
        if program.name in running:
            continue
        busy = embedded.find_busy_ports(program.ports)
        for port, pid in busy.items():
            yield Finding(
                "port", False, f"port {port.number} ({port.name}) is taken by {embedded.describe(pid)}", "end it, or set another port"
            )
        if not busy:
            yield Finding("ports", True, f"the ports of {program.title} are free")


def check_running(settings: Settings) -> Iterator[Finding]:
    """What only a running platform can show: strangers are refused, and sockets are where they should be."""
    if not Supervisor(settings.home).is_running():
        yield Finding("running", True, "the platform does not run here; `aidos up` starts it")
        yield from _check_http_clock("platform", read_config().url)
        return
    running = {status.name for status in Supervisor(settings.home).status() if status.pid}
    if "ray" in running:
        yield from _check_refusal(settings)
    if "s3" in running:
        try:
            yield from _check_s3(settings)
        except urllib3.exceptions.HTTPError as error:
            yield Finding("s3", False, f"S3 does not answer: {' '.join(str(error).split())}", "`aidos status` says whether it runs")
    if "postgres" in running:
        yield from _check_database_clock(settings)
    yield from check_sockets(settings)


def _check_refusal(settings: Settings) -> Iterator[Finding]:
    try:
        ok = ray_head.refuses_strangers(ray_head.address(settings))
    except NotReady as error:
        yield Finding("ray refusal", False, str(error), "`aidos status` says whether it runs")
        return
    detail = "Ray refuses a call without the token" if ok else "Ray answers a call without the token"
    yield Finding("ray refusal", ok, detail, "" if ok else "start the cluster with RAY_AUTH_MODE=token")


def _check_s3(settings: Settings) -> Iterator[Finding]:
    try:
        s3_server.connect(s3_server.endpoint(settings), None, None, settings.s3_region).list_buckets()
        refused = False
    except S3Error as error:
        refused = error.code == "AccessDenied"
    yield Finding(
        "s3 refusal",
        refused,
        "S3 " + ("refuses" if refused else "answers") + " anonymous requests",
        "" if refused else "give it keys: `aidos down`, `aidos up`",
    )
    filer = f"http://127.0.0.1:{s3_server.ports(settings)['filer']}/"
    status = urllib3.request("GET", filer, timeout=2.0, retries=False).status
    ok = status in (401, 403)
    yield Finding(
        "s3 filer",
        ok,
        f"SeaweedFS's filer answers {status} to strangers",
        "" if ok else "config/s3/security.toml lost its keys: `aidos down`, `aidos up`",
    )
    open_ports = ", ".join(s3_server.ports_open_to_strangers(settings))
    yield Finding(
        "s3 grpc",
        not open_ports,
        f"SeaweedFS answers strangers on {open_ports}" if open_ports else "SeaweedFS's gRPC ports refuse who has no certificate",
        "config/s3/security.toml lost its certificate: `aidos down`, `aidos up`" if open_ports else "",
    )


def _check_database_clock(settings: Settings) -> Iterator[Finding]:
    try:
        with psycopg.connect(settings.database_url.get_secret_value(), connect_timeout=3) as connection:
            row = connection.execute("select extract(epoch from clock_timestamp())").fetchone()
    except psycopg.Error as error:
        yield Finding(
            "database", False, f"PostgreSQL refuses the platform: {' '.join(str(error).split())}", "`aidos up` sets its password again"
        )
        return
    if row:
        yield _compare_clocks("database", float(row[0]))


def _check_http_clock(name: str, url: str) -> Iterator[Finding]:
    """By the date of whatever answer it gives; nothing where nobody answers."""
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        date = urllib3.request("HEAD", url, timeout=2.0, retries=False).headers.get("date")
        if date:
            yield _compare_clocks(name, parsedate_to_datetime(date).timestamp())


def _compare_clocks(name: str, theirs: float) -> Finding:
    """More than 15 minutes, and S3 takes no signature (RequestTimeTooSkewed)."""
    ahead_s = time.time() - theirs
    ok = abs(ahead_s) < CLOCK_SKEW_S
    detail = f"this machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the {name}'s"
    remedy = "" if ok else "set both clocks (NTP): tokens and signatures depend on time"
    return Finding(f"{name} clock", ok, detail, remedy, warning=abs(ahead_s) < UNSIGNED_SKEW_S)


def check_sockets(settings: Settings) -> Iterator[Finding]:
    """Every listening socket of the platform that is not on loopback; the gateway's alone may be."""
    pids = {process.pid: process.name() for process in launch.find_marked(settings.home)}
    open_to_all = []
    for row in psutil.net_connections(kind="tcp"):
        if row.status == psutil.CONN_LISTEN and row.pid in pids and row.laddr.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1"):
            open_to_all.append((row.laddr.port, row.laddr.ip, pids[row.pid]))
    gateway = [entry for entry in open_to_all if entry[0] == settings.gateway_port]
    replicas = [entry for entry in open_to_all if entry[2].startswith("ray::ServeRepl") and entry[0] != settings.gateway_port]
    others = [entry for entry in open_to_all if entry not in gateway and entry not in replicas]
    if others:
        text = ", ".join(f"{port} on {ip} ({name})" for port, ip, name in others)
        yield Finding(
            "sockets",
            settings.ray_host != "127.0.0.1",
            f"listening beyond this machine: {text}",
            "close them by a firewall, or set AIDOS_RAY_HOST=127.0.0.1",
        )
    else:
        yield Finding("sockets", True, f"{len(gateway)} gateway socket(s) beyond this machine, and nothing else that could be closed")
    if replicas:
        text = ", ".join(str(port) for port, _, _ in replicas)
        detail = f"Serve replicas listen on all interfaces (ports {text}); the Ray token guards them"
        yield Finding("replica sockets", False, detail, "close these ports to other machines by a firewall: Ray 2.60 cannot", warning=True)
