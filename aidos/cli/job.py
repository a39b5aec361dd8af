"""``aidos job submit``, ``aidos job logs`` and ``aidos job wait``: packing, following and exit codes by hand."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli import job_tunnel
from aidos.cli.job_end import wait_for_end
from aidos.cli.session import session
from aidos.cli.training import submission
from aidos.errors import InvalidRequest
from aidos.transfers.git_remote import resolve_commit
from aidos.transfers.job_log import read_log

if TYPE_CHECKING:
    from aidos.client import Client
    from aidos.schemas.trainos import JobRead

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos job``."""
    group.command("submit", help="Pack a directory and run a command of it on the cluster: … -- python train.py")(submit)
    group.command("logs", help="Print what a job printed.")(logs)
    job_tunnel.add_verbs(group)
    group.command("wait", help="Wait until a job has ended; exit 1 unless it succeeded.")(wait)


def submit(
    command: Annotated[list[str] | None, typer.Argument(help="The command and its arguments, behind --.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="What the job is called; also its experiment, unless --experiment.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A training that this YAML file configures, in place of a command.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="A dataset that it reads, as NAME@REF; again for more.")] = None,
    workers: Annotated[int, typer.Option(help="Workers, started all or none.")] = 1,
    cpus_per_worker: Annotated[float, typer.Option(help="CPUs of each worker.")] = 1.0,
    gpus_per_worker: Annotated[float, typer.Option(help="GPUs of each worker.")] = 0.0,
    memory_gib_per_worker: Annotated[float, typer.Option(help="Memory of each worker in GiB.")] = 0.0,
    driver_cpus: Annotated[float, typer.Option(help="CPUs of the command's own process.")] = 1.0,
    experiment: Annotated[str | None, typer.Option(help="Experiment of its run.")] = None,
    timeout_s: Annotated[int | None, typer.Option(help="Longest that an attempt may run, in seconds.")] = None,
    max_retries: Annotated[int, typer.Option(help="How often it is begun again after the platform lost it.")] = 3,
    max_restarts_on_errors: Annotated[int, typer.Option(help="How often it is begun again after it failed by itself.")] = 0,
    priority: Annotated[int, typer.Option(help="Among the jobs of the project the higher goes first.")] = 0,
    preemptible: Annotated[bool, typer.Option(help="Whether it may be asked to save a checkpoint and give way.")] = True,
    after: Annotated[list[str] | None, typer.Option(help="A job or array that must succeed before; again for more.")] = None,
    array: Annotated[str | None, typer.Option(help="A job for each index, as 0-99, 1,3,7-9 or 0-15:4; with %8: 8 of them at once.")] = None,
    directory: Annotated[Path | None, typer.Option(help="What is packed (.); .gitignore and .aidosignore leave files out.")] = None,
    git: Annotated[
        str | None, typer.Option(help="URL of a public repository that the code is fetched from, in place of a directory.")
    ] = None,
    commit: Annotated[str, typer.Option(help="Of --git: a commit, branch or tag; fixed to a commit now.")] = "HEAD",
    requirements: Annotated[str | None, typer.Option(help="A requirements file in it: packages that the job finds.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="The code is untrusted: no network, no other's files, CPUs alone.")] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option(help="A secret of the project as NAME, or VARIABLE=NAME where it is to be found in another; again for more."),
    ] = None,
    follow: Follow = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say when it would start and end, and its cost; queue nothing.")] = False,
) -> None:
    current = session()
    if git and (directory or recipe):
        raise InvalidRequest(reason="The code is either --git or a directory; a recipe lies in a directory.")
    if sandbox and recipe:
        raise InvalidRequest(reason="A recipe is the platform's own code, on Ray: it needs no --sandbox and runs in none.")
    with submission(name, command, dataset, directory, recipe) as asked:
        code = None if dry_run or git else upload_code(current.client, asked.directory)
    wanted: dict[str, Any] = {
        "name": asked.name,
        "command": asked.command,
        "code_sha256": code,
        "code": {"git": git, "commit": resolve_commit(git, commit)} if git else None,
        "requirements": requirements,
        "datasets": asked.datasets,
        "workers": workers,
        "cpus_per_worker": cpus_per_worker,
        "gpus_per_worker": gpus_per_worker,
        "memory_gib_per_worker": memory_gib_per_worker,
        "driver_cpus": driver_cpus,
        "experiment": experiment,
        "timeout_s": timeout_s,
        "max_retries": max_retries,
        "max_restarts_on_errors": max_restarts_on_errors,
        "priority": priority,
        "preemptible": preemptible,
        "after": after or [],
        "array": array,
        "trust": "untrusted" if sandbox else "trusted",
        "secrets": read_secrets(secret),
    }
    if dry_run:
        current.show(foretell(current.client, wanted))
        return
    job = current.client.jobs.create(**wanted)
    if not follow:
        current.show(job)
        return
    current.note(f"job {job.id} is {job.state}")
    if job.array is None:
        _print_log(current, str(job.id), follow=True)
    _leave(current, wait_for_end(current.client, str(job.id)))


def read_secrets(given: list[str] | None) -> dict[str, str]:
    """``["HF_TOKEN", "DB=prod-database-url"]`` as names of secrets by variable."""
    pairs = [text.partition("=") for text in given or []]
    return {variable: name if sign else variable for variable, sign, name in pairs}


def logs(
    job: Annotated[str, typer.Argument(help="Id of the job, or its name.")],
    follow: Follow = False,
    search: Annotated[str, typer.Option(help="Only lines with this in them, numbered.")] = "",
    rank: Annotated[int | None, typer.Option(min=0, help="Only what the training's worker of this rank printed, numbered.")] = None,
) -> None:
    current = session()
    if not search and rank is None:
        _print_log(current, job, follow)
        return
    for line in current.client.jobs.search(job, word=search, rank=rank, follow=follow):
        if current.as_json:
            current.show_each([line])
        else:
            sys.stdout.write(f"{line.number}: {line.text}\n")
            sys.stdout.flush()


def wait(job: Annotated[str, typer.Argument(help="Id of the job, or its name.")]) -> None:
    current = session()
    found = wait_for_end(current.client, job)
    current.show(found)
    if found.state != "SUCCEEDED":
        raise typer.Exit(1)


def upload_code(client: Client, directory: Path) -> str:
    """Pack the directory and store it where it is not yet; its SHA-256."""
    from aidos.transfers.packing import pack

    package = pack(directory)
    url = client.jobs.upload(sha256=package.sha256, size_bytes=len(package.content)).upload_url
    if url is not None:
        client.put_presigned(url, package.content)
    return package.sha256


def foretell(client: Client, wanted: dict[str, Any]) -> dict[str, Any]:
    """When such a job would start and end, and what it would cost: as such jobs run mostly, and as the longest of them."""
    outlook = client.jobs.outlook(**wanted)
    asked = {name: amount * outlook.jobs for name, amount in outlook.resources.model_dump().items()}
    likely, most = (client.costs.estimate(**asked, seconds=seconds) for seconds in (outlook.run_s, outlook.run_at_most_s))
    costs = {"micro_usd": likely.micro_usd, "at_most_micro_usd": most.micro_usd, "an_hour_micro_usd": likely.micro_usd_an_hour}
    return outlook.model_dump() | {"cost": costs}


def _print_log(current: Any, job: str, follow: bool) -> None:
    if current.as_json:
        # A letter of several bytes may begin in one piece and end in the next.
        texts = codecs.iterdecode(read_log(current.client, job, follow=follow), "utf-8", errors="replace")
        current.show_each({"text": text} for text in texts)
        return
    for piece in read_log(current.client, job, follow=follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _leave(current: Any, job: JobRead) -> None:
    if current.as_json:
        current.show(job)
    current.note(f"job {job.id} {job.state}{f': {job.reason}' if job.reason else ''}")
    if job.state != "SUCCEEDED":
        raise typer.Exit(job.exit_code if job.exit_code and 0 < job.exit_code < 256 else 1)
