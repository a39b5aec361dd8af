"""The only SQL of schedules: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from cluster.db import Connection, load_queries
from tune.trainos.models import JobSpec, Submitter
from tune.trainos.schedules.models import Schedule

Q = load_queries(__package__)


def _schedule(row: Mapping[str, Any] | None) -> Schedule | None:
    if row is None:
        return None
    return Schedule(**{**row, "spec": JobSpec.from_json(row["spec"]), "submitter": Submitter.from_json(row["submitter"])})


async def insert_schedule(conn: Connection, values: Mapping[str, Any]) -> Schedule | None:
    """None where the project has one of that name."""
    row = {**values, "spec": Jsonb(values["spec"].to_json()), "submitter": Jsonb(values["submitter"].to_json())}
    return _schedule(await (await conn.execute(Q.insert_schedule, row)).fetchone())


async def find_schedule(conn: Connection, project_id: UUID, name: str) -> Schedule | None:
    """By id or name."""
    return _schedule(await (await conn.execute(Q.find_schedule, {"project_id": project_id, "name": name})).fetchone())


async def list_schedules(conn: Connection, project_id: UUID, after: str | None, limit: int) -> list[Schedule]:
    """By name."""
    rows = await (await conn.execute(Q.list_schedules, {"project_id": project_id, "after": after, "limit": limit})).fetchall()
    return [found for row in rows if (found := _schedule(row)) is not None]


async def pause_schedule(conn: Connection, schedule: Schedule, paused_by: str | None, next_at: datetime) -> Schedule | None:
    """With None it goes on; None where it is gone."""
    values = {"project_id": schedule.project_id, "id": schedule.id, "paused_by": paused_by, "next_at": next_at}
    return _schedule(await (await conn.execute(Q.pause_schedule, values)).fetchone())


async def delete_schedule(conn: Connection, schedule: Schedule) -> None:
    """Its jobs stay."""
    await conn.execute(Q.delete_schedule, {"project_id": schedule.project_id, "id": schedule.id})


async def find_due(conn: Connection) -> UUID | None:
    """One that is due, of all projects; the longest first."""
    row = await (await conn.execute(Q.find_due)).fetchone()
    return row["id"] if row else None


async def claim_schedule(conn: Connection, id: UUID) -> Schedule | None:
    """Lock it until the transaction ends; None where it is not due any more."""
    return _schedule(await (await conn.execute(Q.claim_schedule, {"id": id})).fetchone())


async def apply_schedule(conn: Connection, id: UUID, next_at: datetime, job_id: UUID | None, reason: str) -> None:
    """What its time came to, and when it is due next."""
    await conn.execute(Q.apply_schedule, {"id": id, "next_at": next_at, "job_id": job_id, "reason": reason})
