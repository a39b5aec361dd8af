"""The only SQL of the queue: a function a named query."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aidos.schemas.queue import TraceRow
from cluster.db import Connection, load_queries
from tune.trainos.models import JobSpec, Resources
from tune.trainos.queue.models import UNLIMITED, Coverage, Dependent, Forecast, Gang, Node, Quota, Running, Workload
from tune.trainos.queue.prediction import RunTime

Q = load_queries(__package__)


def _workload(row: Mapping[str, Any]) -> Workload:
    worker = Resources(row["worker_cpu"], row["worker_gpu"], row["worker_memory_gib"])
    return Workload(
        row["id"],
        row["name"],
        row["project_id"],
        row["user"],
        Gang(Resources(row["driver_cpu"]), worker, row["workers"]),
        row["queued_at"],
        row["priority"],
        row["limit_s"],
        row["begun"],
    )


async def has_waiting(conn: Connection) -> bool:
    """Whether anything waits that nobody holds, or runs where nothing should."""
    row = await (await conn.execute(Q.has_waiting)).fetchone()
    return row is not None and bool(row["waiting"])


async def count_queues(conn: Connection) -> tuple[int, datetime]:
    """How many pairs of project and user have something that waits, and the database's time."""
    row = await (await conn.execute(Q.count_queues)).fetchone()
    assert row is not None
    return row["queues"], row["at"]


async def list_waiting(conn: Connection, now: datetime, depth: int, oldest: int) -> list[Workload]:
    """The first ``depth`` of each user in each project, and the ``oldest``; not those held, waiting for others, or not yet due."""
    rows = await (await conn.execute(Q.list_waiting, {"now": now, "depth": depth, "oldest": oldest})).fetchall()
    return [_workload(row) for row in rows]


async def list_running(conn: Connection, now: datetime, settle_s: float, shown_s: float) -> list[Running]:
    """All that was admitted and has not ended; settled what has run longer than ``settle_s``, without workers than ``shown_s``."""
    rows = await (await conn.execute(Q.list_running, {"now": now, "settle_s": settle_s, "shown_s": shown_s})).fetchall()
    return [
        Running(
            _workload(row),
            tuple((node, bundles) for node, bundles in row["placement"]),
            row["started_at"],
            row["saved_at"],
            row["settled"],
            row["leaving"],
            preemptible=row["preemptible"],
        )
        for row in rows
    ]


async def list_history(conn: Connection, project_id: UUID, since: datetime, limit: int) -> list[TraceRow]:
    """The project's jobs that were submitted after ``since`` and have run to their end, the oldest first. Of several attempts the last counts."""
    rows = await (await conn.execute(Q.list_history, {"project_id": project_id, "since": since, "limit": limit})).fetchall()
    return [_traced(row, JobSpec.from_json(row["spec"])) for row in rows]


def _traced(row: Mapping[str, Any], spec: JobSpec) -> TraceRow:
    return TraceRow(
        **{name: row[name] for name in ("submit_s", "run_s", "project", "user", "priority", "checkpoint_s")},
        id=f"{row['name']} {row['id']}",
        limit_s=spec.timeout_s or 0,
        workers=spec.workers,
        driver_cpu=spec.driver_cpus,
        worker_cpu=spec.cpus_per_worker,
        worker_gpu=spec.gpus_per_worker,
        worker_memory_gib=spec.memory_gib_per_worker,
    )


async def list_usage(conn: Connection, now: datetime, project_ids: Collection[UUID]) -> dict[UUID, Resources]:
    """Resource-seconds of leases that have ended, decayed to ``now``."""
    rows = await (await conn.execute(Q.list_usage, {"now": now, "project_ids": list(project_ids)})).fetchall()
    return {row["project_id"]: Resources(row["cpu"], row["gpu"], row["memory_gib"]) for row in rows}


async def set_capacity(conn: Connection, nodes: Sequence[Node]) -> None:
    """The cluster's nodes, as of now."""
    amounts = [(node.id, list(vars(node.total).values()), list(vars(node.available).values())) for node in nodes]
    await conn.execute(Q.set_capacity, {"nodes": Jsonb(amounts)})


async def find_capacity(conn: Connection, fresh_s: float) -> list[Node]:
    """The cluster's nodes; none where nobody has looked for so long."""
    row = await (await conn.execute(Q.find_capacity, {"fresh_s": fresh_s})).fetchone()
    return [Node(id, Resources(*total), Resources(*free)) for id, total, free in row["nodes"]] if row else []


async def list_run_times(
    conn: Connection, project_ids: Collection[UUID], days: int
) -> tuple[dict[tuple[UUID, str], RunTime], dict[tuple[UUID, float, float, float], RunTime]]:
    """How long jobs of so many days ran, where at least three have: by project and name, and by project and what they asked for."""
    rows = await (await conn.execute(Q.list_run_times, {"project_ids": list(project_ids), "days": days})).fetchall()
    by_name = {(row["project_id"], row["name"]): RunTime(*row["run_s"]) for row in rows if row["name"] is not None}
    by_shape = {
        (row["project_id"], row["cpu"], row["gpu"], row["memory_gib"]): RunTime(*row["run_s"]) for row in rows if row["name"] is None
    }
    return by_name, by_shape


async def set_forecasts(conn: Connection, forecasts: Mapping[UUID, Forecast]) -> None:
    """The first of a job stays beside the latest as its promise; of jobs that wait no more none is written."""
    columns = {field.name: [getattr(each, field.name) for each in forecasts.values()] for field in fields(Forecast)}
    await conn.execute(Q.set_forecasts, {"ids": list(forecasts), **columns})


async def list_forecasts(conn: Connection, project_id: UUID, ids: Collection[UUID], fresh_s: float) -> dict[UUID, Forecast]:
    """The latest of each, where it is not older than that."""
    values = {"project_id": project_id, "ids": list(ids), "fresh_s": fresh_s}
    rows = await (await conn.execute(Q.list_forecasts, values)).fetchall()
    return {row.pop("job_id"): Forecast(**row) for row in rows}


async def measure_coverage(conn: Connection, project_id: UUID, days: int) -> Coverage:
    """Promises of so many days, of jobs that have started or ended since."""
    row = await (await conn.execute(Q.measure_coverage, {"project_id": project_id, "days": days})).fetchone()
    assert row is not None
    return Coverage(**row)


async def list_settled_dependents(conn: Connection) -> list[Dependent]:
    """Jobs that wait for others and whose wait is over, well or badly; of all projects."""
    rows = await (await conn.execute(Q.list_settled_dependents)).fetchall()
    return [Dependent(**row) for row in rows]


async def set_quota(conn: Connection, org_id: UUID, project_id: UUID, quota: Quota, updated_by: str) -> None:
    values = {
        "org_id": org_id,
        "project_id": project_id,
        "nominal": Jsonb(quota.nominal.__dict__),
        "limits": _bounds(quota.limit),
        "user_limits": _bounds(quota.user_limit),
        "weight": quota.weight,
        "updated_by": updated_by,
    }
    await conn.execute(Q.set_quota, values)


async def close_project(conn: Connection, org_id: UUID, project_id: UUID, reason: str) -> bool:
    """Whether it was open, or closed for another reason."""
    values = {"org_id": org_id, "project_id": project_id, "reason": reason}
    return await (await conn.execute(Q.close_project, values)).fetchone() is not None


async def open_project(conn: Connection, project_id: UUID) -> bool:
    """Whether it was closed."""
    return await (await conn.execute(Q.open_project, {"project_id": project_id})).fetchone() is not None


async def list_closures(conn: Connection, project_ids: Collection[UUID]) -> dict[UUID, str]:
    """Why, of the projects that are closed."""
    rows = await (await conn.execute(Q.list_closures, {"project_ids": list(project_ids)})).fetchall()
    return {row["project_id"]: row["reason"] for row in rows}


async def list_quotas(conn: Connection, project_ids: Collection[UUID]) -> dict[UUID, Quota]:
    """Of the projects that have one."""
    rows = await (await conn.execute(Q.list_quotas, {"project_ids": list(project_ids)})).fetchall()
    return {
        row["project_id"]: Quota(Resources(**row["nominal"]), _bound(row["limits"]), _bound(row["user_limits"]), row["weight"])
        for row in rows
    }


def _bounds(limit: Resources) -> Jsonb:
    """JSON has no infinity: what is unlimited is left out."""
    return Jsonb({name: amount for name, amount in limit.__dict__.items() if amount != math.inf})


def _bound(limits: Mapping[str, float]) -> Resources:
    return Resources(**{**UNLIMITED.__dict__, **limits})
