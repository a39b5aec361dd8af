"""``aidos run reproduce``: a run again as a job, and whether the same came out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aidos.cli.session import session
from aidos.errors import InvalidRequest

if TYPE_CHECKING:
    from aidos.client import Client
    from aidos.schemas.modelhub import RunRead
    from aidos.schemas.reproductions import ReproductionRead
    from aidos.schemas.trainos import JobRead


def reproduce(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.", show_default=False)],
    tolerance: Annotated[float, typer.Option(min=0, help="A metric may differ by this times max(1, |original|).")] = 1e-6,
    metric: Annotated[list[str] | None, typer.Option(help="Tolerance of one metric, as acc=0.01; inf is any; again for more.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit 1 unless the metrics agree.")] = False,
    repository: Annotated[Path, typer.Option(metavar="DIR", help="Of a run that was no job: a clone that may have its commit.")] = Path(),
) -> None:
    current = session()
    original = current.client.runs.get(run)
    _check_metrics(original, metric or [])
    job = current.client.runs.reproduce(run) if original.job_id else _reproduce_local(current.client, original, repository)
    reproduced = str(job.run_id)
    if not wait:
        current.show(job)
        current.note(f"run {reproduced} reproduces {run}: `aidos run reproduction {reproduced} --wait 60s` says how it came out.")
        return
    current.note(f"run {reproduced} reproduces {run} as job {job.id}, which is {job.state}")
    report = current.client.runs.reproduction(reproduced, tolerance=tolerance, metric=metric or [])
    while report.verdict == "RUNNING":
        report = current.client.runs.reproduction(reproduced, tolerance=tolerance, metric=metric or [], wait="30s")
    _show(report)
    if report.verdict != "AGREES":
        raise typer.Exit(1)


def _check_metrics(original: RunRead, tolerances: Sequence[str]) -> None:
    """Before hours are spent on it."""
    for each in tolerances:
        metric, _, number = each.rpartition("=")
        if metric not in original.metrics or not _is_tolerance(number):
            known = ", ".join(original.metrics) or "it measured none"
            raise InvalidRequest(
                reason=f"--metric is METRIC=NUMBER, the number 0 or more, with a metric of the run ({known}), got '{each}'."
            )


def _is_tolerance(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def _reproduce_local(client: Client, original: RunRead, repository: Path) -> JobRead:
    """Pack the run's commit and changes here, for the platform does not have them."""
    from aidos.cli.job import upload_code
    from aidos.tracking.checkout import check_out, code_tags

    with tempfile.TemporaryDirectory() as folder:
        command = check_out(client, str(original.id), repository, Path(folder))
        job = client.runs.reproduce(str(original.id), command=command, code_sha256=upload_code(client, Path(folder) / "code"))
    client.runs.set_tags(str(job.run_id), tags=dict(code_tags(original.tags)))
    return job


def _show(report: ReproductionRead) -> None:
    from aidos.cli.output import show_table

    current = session()
    if current.as_json:
        current.show(report)
        return
    metrics = [each.model_dump(mode="json") for each in report.metrics]
    differs = [{"what": f"{each.section}.{each.name}", "original": each.original, "reproduced": each.reproduced} for each in report.differs]
    for title, rows in (("Metrics", metrics), ("Not alike", differs)):
        if rows:
            current.out.print(f"\n{title}", style="bold")
            show_table(current, rows)
    current.out.print(f"\n{report.verdict.value}{f': {report.reason}' if report.reason else ''}", style="bold")
