"""The operator's commands: ``aidos up``, ``down``, ``status``, ``doctor``, ``admin-key``, ``rotate-secret-key``,
``backup`` and ``restore``.

An entry point joins them to the client's.

Exit codes: 0 all is well, 1 there is a problem, 2 the command was used wrongly.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli.session import Session, session

if TYPE_CHECKING:
    from cluster.embedded import Progress

PROGRAMS = ("postgres", "s3", "ray", "platform")

Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="PROGRAM", help=f"Start only this program ({', '.join(PROGRAMS)}); may be repeated."),
]


def register(group: typer.Typer) -> None:
    """Add the commands to the root of ``aidos``."""
    group.command()(up)
    group.command()(down)
    group.command()(status)
    group.command()(doctor)
    group.command()(admin_key)
    group.command()(rotate_secret_key)
    group.command()(backup)
    group.command()(restore)


def up(only: Only = None) -> None:
    """Start the platform on this machine and print where it is."""
    from cluster import doctor as checks
    from cluster import embedded
    from cluster.settings import get_settings

    run, settings = session(), get_settings()
    if unknown := set(only or ()) - set(PROGRAMS):
        raise typer.BadParameter(f"no program is called {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}", param_hint="--only")
    began = time.monotonic()
    checks.refuse_unsafe(settings)
    with _tell_progress(run) as progress:
        embedded.start(settings, progress, only)
    announced = embedded.read_announcement(settings.home) or {}
    facts = {
        "url": announced.get("url"),
        "console": announced.get("console"),
        "ray_dashboard": announced.get("ray_dashboard") or embedded.ray_head.dashboard_url(settings),
        "admin_key": embedded.take_admin_key(settings.home),
    }
    if run.as_json:
        typer.echo(json.dumps(facts))
        return
    _print_facts(run, facts, time.monotonic() - began)


def down() -> None:
    """Stop the platform; everything stays on disk."""
    from cluster import embedded
    from cluster.settings import get_settings

    run, settings = session(), get_settings()
    began = time.monotonic()
    with _tell_progress(run) as progress:
        was_running = embedded.stop(settings, progress)
    if run.as_json:
        typer.echo(json.dumps({"stopped": was_running, "home": str(settings.home)}))
    elif was_running:
        run.out.print(f"Stopped in {time.monotonic() - began:.1f} s. Everything is kept in {settings.home}.")
    else:
        run.out.print(f"Nothing of {settings.home} was running.")


def status() -> None:
    """What runs, where, and how healthy it is. Exit code 1 when something is not."""
    from cluster import embedded
    from cluster import status as reports
    from cluster.settings import get_settings

    run, settings = session(), get_settings()
    rows = reports.list_reports(settings)
    healthy = bool(rows) and all(row.healthy for row in rows)
    if run.as_json:
        announced = embedded.read_announcement(settings.home) or {}
        facts = {"home": str(settings.home), "url": announced.get("url"), "healthy": healthy, "programs": [asdict(row) for row in rows]}
        typer.echo(json.dumps(facts, indent=2))
    elif not rows:
        run.out.print(f"No platform was ever started in {settings.home}; `aidos up` does.")
    else:
        _print_table(run, ("program", "state", "pid", "port", "uptime", "memory", "health"), [_status_row(row) for row in rows])
        run.out.print(
            f"\nhome {settings.home}, gateway {settings.url}, {'all well' if healthy else 'not all is well: `aidos doctor` looks into it'}"
        )
    raise typer.Exit(0 if healthy else 1)


def doctor() -> None:
    """Examine this machine and the platform on it; each problem comes with its remedy. Exit code 1 when there is one."""
    from cluster import doctor as checks
    from cluster.settings import get_settings

    run, settings = session(), get_settings()
    findings = checks.examine(settings)
    problems = [finding for finding in findings if not finding.ok and not finding.warning]
    if run.as_json:
        typer.echo(json.dumps({"ok": not problems, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            word = "ok  " if finding.ok else "warn" if finding.warning else "FAIL"
            run.out.print(f"{word}  {finding.name}: {finding.detail}" + (f"\n      → {finding.remedy}" if finding.remedy else ""))
        run.out.print(f"\n{len(findings)} checks, {len(problems)} problem(s).")
    raise typer.Exit(1 if problems else 0)


def admin_key() -> None:
    """Make a new administrator key for who has this machine but lost the key. The one before it ends at once."""
    import asyncio

    from actors.securityvault import service as securityvault
    from aidos.errors import Unavailable
    from cluster.db import Database
    from cluster.settings import get_settings

    run, settings = session(), get_settings()

    async def replace() -> str:
        async with Database(settings, timeout_s=5.0) as db:
            return await securityvault.replace_admin_key(db, settings)

    try:
        key = asyncio.run(replace())
    except Unavailable as error:
        raise Unavailable(reason="The database does not answer. `aidos up --only postgres` starts it.", retry_after_s=5) from error
    if run.as_json:
        typer.echo(json.dumps({"key": key}))
        return
    run.out.print(key)
    run.note("This key is shown once. Keep it: export AIDOS_API_KEY=… or `aidos login --key`.")


def rotate_secret_key() -> None:
    """Make a new master key for the secrets of all projects, and wrap every one of them by it."""
    import asyncio

    from actors.securityvault import service as securityvault
    from cluster.db import Database
    from cluster.settings import get_settings

    run, settings = session(), get_settings()

    async def rotate() -> int:
        async with Database(settings, timeout_s=5.0) as db:
            return await securityvault.rotate_secret_key(db, settings)

    count = asyncio.run(rotate())
    run.out.print(
        json.dumps({"secrets": count})
        if run.as_json
        else f"{count} secrets are wrapped by a new master key. Back it up: {settings.secret_path('secret_keys')}"
    )


def backup(directory: Annotated[Path, typer.Argument(help="An empty directory, or one where a backup was interrupted.")]) -> None:
    """Back the running platform up into a directory: database, objects, and the secrets needed to read them."""
    from cluster import backup as backups
    from cluster.settings import get_settings

    run = session()
    with _tell_bytes(run, "backup") as progress:
        manifest = backups.make_backup(get_settings(), directory, progress)
    rows, objects = manifest["database"]["rows"], manifest["objects"]
    if run.as_json:
        typer.echo(json.dumps({"directory": str(directory.absolute()), **manifest}))
        return
    run.out.print(
        f"{sum(rows.values())} rows of {len(rows)} tables and {objects['count']} objects ({objects['size_bytes'] / 2**20:.1f} MiB) "
        f"are in {directory}."
    )
    run.note(f"Keep it private: {directory}/{backups.SECRETS} holds the keys that sign tokens and the pepper of all credentials.")


def restore(
    directory: Annotated[Path, typer.Argument(help="A finished backup.")],
    replace: Annotated[bool, typer.Option("--replace", help="Destroy what the database holds now.")] = False,
) -> None:
    """Restore a backup into an installation whose PostgreSQL and S3 run: `aidos up --only postgres --only s3`."""
    from cluster import restore as backups
    from cluster.settings import get_settings

    run = session()
    with _tell_bytes(run, "restore") as progress:
        done = backups.restore_backup(get_settings(), directory, replace=replace, progress=progress)
    if run.as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    run.out.print(f"{done.rows} rows of {done.tables} tables and {done.objects} objects are back as of {done.made_at}.")
    if done.strangers:
        run.out.print(f"The bucket holds {done.strangers} objects more, which the backup does not have; they were left alone.")
    run.note("`aidos up` starts the platform; keys and passwords are those of the backup.")


@contextmanager
def _tell_bytes(run: Session, title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar of bytes on a terminal; elsewhere a line for each step."""
    lock, told = threading.Lock(), set[str]()
    with run.progress(title, unit_bytes=True) as advance:

        def tell(step: str, amount_bytes: int, total_bytes: int) -> None:
            advance(amount_bytes, total=total_bytes or None, description=f"{title}: {step}")
            with lock:
                if step not in told and not run.err.is_terminal:
                    run.note(f"{title}: {step}")
                told.add(step)

        yield tell


@contextmanager
def _tell_progress(run: Session) -> Iterator[Progress]:
    """A line for each program on a terminal, with a spinner until it is ready; elsewhere a line for each thing that happens."""
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    if not run.err.is_terminal:
        yield lambda title, message: run.note(f"{title}: {message}")
        return
    lock, tasks = threading.Lock(), {}
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<16}"),
        TextColumn("{task.fields[message]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=run.err) as bars:

        def tell(title: str, message: str) -> None:
            with lock:
                if title not in tasks:
                    tasks[title] = bars.add_task(title, total=1, message=message)
                done = message.startswith(("ready", "stopped"))
                bars.update(tasks[title], message=message, completed=1 if done else 0)

        yield tell


def _print_facts(run: Session, facts: dict[str, Any], took_s: float) -> None:
    if not facts["url"]:
        run.out.print(f"\nStarted in {took_s:.1f} s; the platform itself does not run: `aidos up` starts all of it.")
        return
    run.out.print(f"\nAI-DOS is up ({took_s:.1f} s).\n")
    for name, label in (("url", "gateway"), ("console", "console"), ("ray_dashboard", "Ray dashboard")):
        if facts[name]:
            run.out.print(f"  {label:<16}{facts[name]}")
    if facts["admin_key"]:
        run.out.print(f"  {'administrator':<16}{facts['admin_key']}")
        run.out.print("\nThis key is shown once. Keep it: export AIDOS_API_KEY=… or `aidos login`.")


def _status_row(row: Any) -> tuple[str, ...]:
    memory = f"{row.memory_bytes / 2**20:.0f} MiB in {row.processes}" if row.processes else ""
    uptime = f"{row.uptime_s // 3600}:{row.uptime_s // 60 % 60:02}:{row.uptime_s % 60:02}" if row.pid else ""
    ports = str(row.ports[0]) if row.ports else ""
    return (row.title, row.state.lower(), str(row.pid or ""), ports, uptime, memory, "healthy" if row.healthy else row.detail)


def _print_table(run: Session, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    run.out.print(table)
