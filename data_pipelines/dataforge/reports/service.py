"""The verbs of reports. Beginning a report's job is composed above, in ``api/reports.py``: TrainOS is a tier higher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.datasets import publish_change
from data_pipelines.dataforge.reports import store
from data_pipelines.dataforge.reports.errors import ReportNotFound, ReportOfAnotherJob
from data_pipelines.dataforge.reports.models import Progress, Report, ReportSpec


async def request_report(conn: Connection, scope: Scope, dataset: str, spec: ReportSpec) -> Report:
    """The report that answers the question; the same question gets the same report. The row stays locked to the transaction's end.

    Raises: DatasetNotFound, RefNotFound.
    """
    commit = await dataforge.get_commit(conn, scope, dataset, spec.ref)
    params = dict(spec.params)
    for name in spec.refs:
        params[name] = str((await dataforge.get_commit(conn, scope, dataset, params[name])).id)
    return await store.insert_report(
        conn,
        scope.project,
        {
            "id": new_id(),
            "dataset_id": commit.dataset_id,
            "commit_id": commit.id,
            "kind": spec.kind,
            "params": params,
            "params_sha256": hash_params(params),
            "created_by": scope.principal.name,
        },
    )


def hash_params(params: Mapping[str, Any]) -> bytes:
    """SHA-256 of the parameters as JSON with sorted names."""
    return hashlib.sha256(json.dumps(params, sort_keys=True, separators=(",", ":")).encode()).digest()


async def begin_report(conn: Connection, scope: Scope, report: Report, job_id: UUID) -> Report:
    """From now on the job answers."""
    await store.set_job(conn, scope.project, report.id, job_id)
    await _publish(conn, scope, report, "report.requested")
    return await get_report(conn, scope, report.id)


async def get_report(conn: Connection, scope: Scope, id: UUID) -> Report:
    """Raises: ReportNotFound."""
    report = await store.find_report(conn, scope.project, id)
    if report is None:
        raise ReportNotFound(report=id)
    return report


async def list_reports(
    conn: Connection, scope: Scope, dataset: str, ref: str | None, kind: str | None, before: UUID | None, limit: int
) -> list[Report]:
    """Newest first, without their results; of one commit where ``ref`` is given. Raises: DatasetNotFound, RefNotFound."""
    found = await dataforge.get_dataset(conn, scope, dataset)
    commit_id = (await dataforge.get_commit(conn, scope, dataset, ref)).id if ref else None
    return await store.list_reports(conn, scope.project, found.id, commit_id, kind, before, limit)


async def list_columns(conn: Connection, scope: Scope, commit_ids: Collection[UUID]) -> dict[UUID, dict[str, str]]:
    """Names and types of the columns of those of these commits whose tables somebody had profiled."""
    found = await store.list_columns(conn, scope.project, commit_ids)
    return {
        commit_id: {name: next(iter(column.get("types") or {"unknown": 0})) for name, column in columns.items()}
        for commit_id, columns in found.items()
    }


async def note_progress(conn: Connection, scope: Scope, id: UUID, progress: Progress) -> None:
    """How far the caller's job is. Raises: ReportNotFound, ReportOfAnotherJob."""
    await _get_own(conn, scope, id)
    await store.set_progress(conn, scope.project, id, progress)


async def finish_report(conn: Connection, scope: Scope, id: UUID, result: Mapping[str, Any]) -> Report:
    """Keep what the caller's job found; a second result changes nothing. Raises: ReportNotFound, ReportOfAnotherJob."""
    report = await _get_own(conn, scope, id)
    if await store.set_result(conn, scope.project, id, result):
        await _publish(conn, scope, report, "report.finished")
    return await get_report(conn, scope, id)


async def _get_own(conn: Connection, scope: Scope, id: UUID) -> Report:
    report = await get_report(conn, scope, id)
    if report.job_id is None or scope.principal.job_id != report.job_id:
        raise ReportOfAnotherJob(report=id)
    return report


async def _publish(conn: Connection, scope: Scope, report: Report, what: str) -> None:
    data = {"dataset": report.dataset, "commit_id": str(report.commit_id), "kind": report.kind}
    await publish_change(conn, scope, what, report.id, data)
