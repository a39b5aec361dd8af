"""What runs: each program of the platform with its process, ports, memory and whether it does its work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from cluster import embedded, launch, postgres_server, ray_head, s3_server
from cluster.settings import Settings
from cluster.supervision import ProgramStatus, Supervisor


@dataclass(frozen=True)
class ProgramReport:
    """One line of ``aidos status``. ``state`` is supervisord's word, or ``external`` for what a setting names instead."""

    name: str
    title: str
    state: str
    healthy: bool
    detail: str
    pid: int | None = None
    uptime_s: int = 0
    memory_bytes: int = 0  # proportional: a page that processes share is shared out between them
    processes: int = 0
    ports: tuple[int, ...] = ()


def list_reports(settings: Settings) -> list[ProgramReport]:
    """A report of each program, asked side by side."""
    known = {status.name: status for status in Supervisor(settings.home).status()}
    parts = [
        (program.name, program.title, tuple(port.number for port in program.ports), program.ready) for program in list_programs(settings)
    ]
    external = list_external(settings)
    with ThreadPoolExecutor(max(1, len(parts) + len(external))) as pool:
        running = [pool.submit(_report, settings, name, title, ports, ready, known.get(name)) for name, title, ports, ready in parts]
        outside = [pool.submit(_report_external, name, title, check) for name, title, check in external]
    return [future.result() for future in (*running, *outside)]


def list_external(settings: Settings) -> list[tuple[str, str, Callable[[], None]]]:
    """Name, title and check of each part that a setting replaces."""
    external: list[tuple[str, str, Callable[[], None]]] = []
    if not embedded.is_embedded(settings, "database_url"):
        external.append(("postgres", "PostgreSQL", lambda: postgres_server.check(settings.database_url.get_secret_value())))
    if not embedded.is_embedded(settings, "s3_endpoint"):
        keys = (settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value())
        external.append(("s3", "S3", lambda: s3_server.check(settings.s3_endpoint, *keys, settings.s3_region)))
    if settings.ray_address:
        external.append(("ray", "Ray", lambda: ray_head.check(settings.ray_address, settings.secret("ray_token"))))
    return external


def list_programs(settings: Settings) -> tuple[embedded.Program, ...]:
    """The programs that these settings ask for; none before the first `aidos up`."""
    try:
        return embedded.build_programs(settings)
    except FileNotFoundError:
        return ()


def _report(
    settings: Settings, name: str, title: str, ports: tuple[int, ...], ready: Callable[[], None], known: ProgramStatus | None
) -> ProgramReport:
    if known is None or known.pid is None:
        return ProgramReport(name, title, known.state if known else "STOPPED", False, "not running; `aidos up` starts it", ports=ports)
    problem = _ask(ready)
    memory = [taken for process in launch.find_marked(settings.home, name) if (taken := _memory_bytes(process))]
    return ProgramReport(
        name, title, known.state, not problem, problem or "answers", known.pid, known.uptime_s, sum(memory), len(memory), ports
    )


def _report_external(name: str, title: str, check: Callable[[], None]) -> ProgramReport:
    problem = _ask(check)
    return ProgramReport(name, title, "external", not problem, problem or "answers")


def _ask(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # whatever it is, it is what the operator needs to read
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
