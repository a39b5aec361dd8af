"""The rows of reports: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from cluster.db import Connection, load_queries
from data_pipelines.dataforge.reports.models import Progress, Report

Q = load_queries(__package__)


async def insert_report(conn: Connection, project_id: UUID, report: Mapping[str, Any]) -> Report:
    """The report that answers the question, locked: a new one, or the one that is there."""
    row = {"project_id": project_id, **report, "params": Jsonb(report["params"])}
    found = _report(await (await conn.execute(Q.insert_report, row)).fetchone())
    assert found is not None
    return found


async def find_report(conn: Connection, project_id: UUID, id: UUID) -> Report | None:
    return _report(await (await conn.execute(Q.find_report, {"project_id": project_id, "id": id})).fetchone())


async def list_reports(
    conn: Connection, project_id: UUID, dataset_id: UUID, commit_id: UUID | None, kind: str | None, before: UUID | None, limit: int
) -> list[Report]:
    """Newest first, without their results."""
    values = {"project_id": project_id, "dataset_id": dataset_id, "commit_id": commit_id, "kind": kind, "before": before, "limit": limit}
    rows = await (await conn.execute(Q.list_reports, values)).fetchall()
    return [found for row in rows if (found := _report(row))]


async def list_columns(conn: Connection, project_id: UUID, commit_ids: Collection[UUID]) -> dict[UUID, Mapping[str, Any]]:
    """What the newest profile of each commit says of its columns, by name."""
    values = {"project_id": project_id, "commit_ids": list(commit_ids)}
    return {row["commit_id"]: row["columns"] or {} for row in await (await conn.execute(Q.list_columns, values)).fetchall()}


async def set_job(conn: Connection, project_id: UUID, id: UUID, job_id: UUID) -> None:
    await conn.execute(Q.set_job, {"project_id": project_id, "id": id, "job_id": job_id})


async def set_progress(conn: Connection, project_id: UUID, id: UUID, progress: Progress) -> None:
    await conn.execute(Q.set_progress, {"project_id": project_id, "id": id, "progress": Jsonb(progress.__dict__)})


async def set_result(conn: Connection, project_id: UUID, id: UUID, result: Mapping[str, Any]) -> bool:
    """False where there is one already: the first stays."""
    done = await conn.execute(Q.set_result, {"project_id": project_id, "id": id, "result": Jsonb(dict(result))})
    return done.rowcount == 1


def _report(row: Mapping[str, Any] | None) -> Report | None:
    if row is None:
        return None
    return Report(**{**row, "progress": Progress(**row["progress"]) if row["progress"] else None})
