"""Reports and their jobs: DataForge keeps what is asked and found, TrainOS runs the pipeline, and here they meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.models import Node, NodeKind
from actors.securityvault.models import Scope
from aidos.errors import InvalidPayload
from aidos.schemas.dataforge.reports import PARAMS, ReportCreate, ReportKind, ReportRead
from cluster.db import Connection
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.models import REPORTED_CHECKS, CheckSpec, CheckState
from data_pipelines.dataforge.reports import service as reports
from data_pipelines.dataforge.reports.models import Report, ReportSpec
from tune.trainos import service as trainos
from tune.trainos.models import Job, JobSpec, JobState

COMMAND = ("python", "-m", "data_pipelines.dataforge.reports.run")
DRIVER_CPUS = 0.25
_SUMMARY_CHARS = 1000


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
        if body.kind in REPORTED_CHECKS:
            await _set_check(conn, scope, report, CheckSpec(CheckState.PENDING, "being looked at", report_id=report.id))
    return _read(report, job)


async def finish_report(conn: Connection, scope: Scope, id: UUID, result: Mapping[str, Any]) -> ReportRead:
    """Keep what the caller's job found; a report that is a check says so of its commit in the same transaction.

    Raises: ReportNotFound, ReportOfAnotherJob.
    """
    before = await reports.get_report(conn, scope, id)
    report = await reports.finish_report(conn, scope, id, result)
    if before.result is None and report.result is not None and report.kind in REPORTED_CHECKS:
        state = CheckState.PASSED if report.result.get("passed") is True else CheckState.FAILED
        await _set_check(conn, scope, report, CheckSpec(state, str(report.result.get("summary", ""))[:_SUMMARY_CHARS], report_id=report.id))
    if before.result is None and report.kind == ReportKind.SYNTHESIZE:
        await _link(conn, scope, report)
    return _read(report, None)


async def _link(conn: Connection, scope: Scope, report: Report) -> None:
    """Write into the lineage which commit was made of which, and by which run."""
    made = (report.result or {}).get("commit")
    if not isinstance(made, dict) or not {"dataset", "id"} <= made.keys():
        raise InvalidPayload(reason="The result of 'synthesize' names the commit that was made, as {'dataset': …, 'id': …}.")
    commit = await dataforge.get_commit(conn, scope, str(made["dataset"]), str(made["id"]))
    target = Node(NodeKind.COMMIT, str(commit.id), f"{commit.dataset}@{commit.id}")
    source = Node(NodeKind.COMMIT, str(report.commit_id), f"{report.dataset}@{report.commit_id}")
    await modelhub.add_edge(conn, scope, source, target, "synthesised into")
    job = await trainos.get_job(conn, scope, str(report.job_id))
    if job.run_id is not None:
        await modelhub.add_edge(conn, scope, Node(NodeKind.RUN, str(job.run_id), job.name), target, "produced")


async def _set_check(conn: Connection, scope: Scope, report: Report, spec: CheckSpec) -> None:
    commit = await dataforge.get_commit(conn, scope, report.dataset, str(report.commit_id))
    await dataforge.set_check(conn, scope, commit, report.kind, spec)


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
