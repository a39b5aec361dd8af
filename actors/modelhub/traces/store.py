"""SQL of traces: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.traces.models import TraceSpec
from cluster.db import Connection, load_queries, new_id

Q = load_queries(__package__ or "actors.modelhub.traces")


async def put_trace(conn: Connection, project_id: UUID, experiment_id: UUID, spec: TraceSpec) -> None:
    jsonb = {"metadata": Jsonb(dict(spec.metadata)), "tags": Jsonb(dict(spec.tags))}
    await conn.execute(Q.put_trace, {**spec.__dict__, **jsonb, "id": new_id(), "project_id": project_id, "experiment_id": experiment_id})


async def change_tags(conn: Connection, project_id: UUID, id: UUID, tags: Mapping[str, str | None]) -> None:
    """None removes one."""
    kept, removed = {key: value for key, value in tags.items() if value is not None}, [key for key, value in tags.items() if value is None]
    await conn.execute(Q.change_tags, {"project_id": project_id, "id": id, "tags": Jsonb(kept), "removed": removed})


async def link_traces(conn: Connection, project_id: UUID, trace_ids: Sequence[str], run_id: str) -> None:
    await conn.execute(Q.link_traces, {"project_id": project_id, "trace_ids": list(trace_ids), "run_id": run_id})


async def delete_traces(
    conn: Connection, project_id: UUID, experiment_id: UUID, trace_ids: Sequence[str] | None, before: datetime | None, limit: int | None
) -> int:
    """How many there were, oldest first."""
    values = {"project_id": project_id, "experiment_id": experiment_id, "before": before, "limit": limit}
    return (await conn.execute(Q.delete_traces, {**values, "trace_ids": None if trace_ids is None else list(trace_ids)})).rowcount


async def insert_assessment(conn: Connection, project_id: UUID, trace: UUID, id: UUID, body: Mapping[str, Any]) -> None:
    await conn.execute(Q.insert_assessment, {"project_id": project_id, "trace": trace, "id": id, "body": Jsonb(dict(body))})


async def change_assessment(conn: Connection, project_id: UUID, trace: UUID, id: UUID, changes: Mapping[str, Any]) -> bool:
    values = {"project_id": project_id, "trace": trace, "id": id, "changes": Jsonb(dict(changes))}
    return await (await conn.execute(Q.change_assessment, values)).fetchone() is not None


async def delete_assessment(conn: Connection, project_id: UUID, trace: UUID, id: UUID) -> bool:
    cursor = await conn.execute(Q.delete_assessment, {"project_id": project_id, "trace": trace, "id": id})
    return await cursor.fetchone() is not None
