"""Reports and their jobs: DataForge keeps what is asked and found, TrainOS runs the pipeline, and here they meet."""

from __future__ import annotations

from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.reports import PARAMS, ReportCreate, ReportRead
from cluster.db import Connection
from data_pipelines.dataforge.reports import service as reports
from data_pipelines.dataforge.reports.models import Report, ReportSpec
from tune.trainos import service as trainos
from tune.trainos.models import Job, JobSpec, JobState

COMMAND = ("python", "-m", "data_pipelines.dataforge.reports.run")
DRIVER_CPUS = 0.25


async def create_report(conn: Connection, scope: Scope, dataset: str, body: ReportCreate) -> ReportRead:
    """The report that answers the question, begun where nobody is at it: the first time, and after its job failed.

    Raises: DatasetNotFound, RefNotFound.
    """
    spec = ReportSpec(body.kind.value, body.ref, body.params, PARAMS[body.kind].REFS)
    report = await reports.request_report(conn, scope, dataset, spec)
    job = await _find_job(conn, scope, report)
    if report.result is None and (job is None or job.state.final):
        job = await trainos.submit_job(conn, scope, _build_job(report, body))
        report = await reports.begin_report(conn, scope, report, job.id)
    return _read(report, job)


def _build_job(report: Report, body: ReportCreate) -> JobSpec:
    """A recipe: platform code with parameters, under a token of its own. Its workers are what Ray Data may use."""
    return JobSpec(
        name=f"{report.kind.replace('_', '-')}-{report.dataset}"[:100],
        command=(*COMMAND, str(report.id)),
        datasets=(f"{report.dataset}@{report.commit_id}",),
        workers=body.workers,
        cpus_per_worker=body.cpus_per_worker,
        memory_gib_per_worker=body.memory_gib_per_worker,
        driver_cpus=DRIVER_CPUS,
        experiment="reports",
    )


async def get_report(conn: Connection, scope: Scope, id: UUID) -> ReportRead:
    """With the state of its job. Raises: ReportNotFound."""
    report = await reports.get_report(conn, scope, id)
    return _read(report, await _find_job(conn, scope, report))


async def list_reports(
    conn: Connection, scope: Scope, dataset: str, ref: str | None, kind: str | None, before: UUID | None, limit: int
) -> list[ReportRead]:
    """Newest first, without their results. Raises: DatasetNotFound, RefNotFound."""
    found = await reports.list_reports(conn, scope, dataset, ref, kind, before, limit)
    return [_read(report, await _find_job(conn, scope, report)) for report in found]


async def _find_job(conn: Connection, scope: Scope, report: Report) -> Job | None:
    return await trainos.get_job(conn, scope, str(report.job_id)) if report.job_id and report.finished_at is None else None


def _read(report: Report, job: Job | None) -> ReportRead:
    state, reason = _state(report, job)
    return ReportRead.model_validate({**report.__dict__, "progress": report.progress, "state": state, "reason": reason})


def _state(report: Report, job: Job | None) -> tuple[str, str]:
    if report.finished_at is not None:
        return JobState.SUCCEEDED, ""
    if job is None:
        return JobState.QUEUED, ""
    if job.state.final:
        return JobState.FAILED, job.reason or f"its job ended as {job.state} without a result"
    return job.state, job.reason
