"""``aidos schedule create``: a directory packed, and a command of it queued again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aidos.cli.job import read_secrets, upload_code
from aidos.cli.session import session


def register(group: typer.Typer) -> None:
    """Add the verb to ``aidos schedule``."""
    group.command("create", help="Pack a directory and run a command of it at the times of a cron expression: … -- python train.py")(create)


def create(
    name: Annotated[str, typer.Argument(help="What the schedule, its jobs and their experiment are called.", show_default=False)],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, behind --.", show_default=False)],
    cron: Annotated[str, typer.Option(help="Minute, hour, day of the month, month, day of the week: '0 3 * * *'.", show_default=False)],
    timezone: Annotated[str, typer.Option(help="Whose clocks, such as Europe/Berlin.")] = "UTC",
    dataset: Annotated[list[str] | None, typer.Option(help="A dataset as NAME@REF, fixed to a commit each time; again for more.")] = None,
    workers: Annotated[int, typer.Option(help="Workers, started all or none.")] = 1,
    cpus_per_worker: Annotated[float, typer.Option(help="CPUs of each worker.")] = 1.0,
    gpus_per_worker: Annotated[float, typer.Option(help="GPUs of each worker.")] = 0.0,
    memory_gib_per_worker: Annotated[float, typer.Option(help="Memory of each worker in GiB.")] = 0.0,
    driver_cpus: Annotated[float, typer.Option(help="CPUs of the command's own process.")] = 1.0,
    timeout_s: Annotated[int | None, typer.Option(help="Longest that an attempt may run, in seconds.")] = None,
    priority: Annotated[int, typer.Option(help="Among the jobs of the project the higher goes first.")] = 0,
    directory: Annotated[Path, typer.Option(help="What is packed, once and now.")] = Path(),
    secret: Annotated[list[str] | None, typer.Option(help="A secret of the project as NAME or VARIABLE=NAME; again for more.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="The code is untrusted: no network, no other's files, CPUs alone.")] = False,
) -> None:
    current = session()
    job = {
        "name": name,
        "command": command,
        "code_sha256": upload_code(current.client, directory),
        "datasets": dataset or [],
        "workers": workers,
        "cpus_per_worker": cpus_per_worker,
        "gpus_per_worker": gpus_per_worker,
        "memory_gib_per_worker": memory_gib_per_worker,
        "driver_cpus": driver_cpus,
        "timeout_s": timeout_s,
        "priority": priority,
        "trust": "untrusted" if sandbox else "trusted",
        "secrets": read_secrets(secret),
    }
    current.show(current.client.schedules.create(name, cron=cron, timezone=timezone, job=job))
