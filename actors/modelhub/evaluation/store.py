"""SQL of evaluation datasets and scorers: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.evaluation.models import Body, EvaluationRecord, Scorer
from cluster.db import Connection, load_queries, new_id

Q = load_queries(__package__ or "actors.modelhub.evaluation")


async def insert_dataset(
    conn: Connection, project_id: UUID, name: str, tags: Mapping[str, str], experiment_ids: Sequence[UUID], created_by: str | None
) -> UUID:
    id = new_id()
    row = {"id": id, "project_id": project_id, "name": name, "tags": Jsonb(dict(tags)), "created_by": created_by}
    await conn.execute(Q.insert_dataset, {**row, "experiment_ids": list(experiment_ids)})
    return id


async def lock_dataset(conn: Connection, project_id: UUID, id: UUID) -> Mapping[str, Any] | None:
    """Its schema, None before the first record."""
    row = await (await conn.execute(Q.lock_dataset, {"project_id": project_id, "id": id})).fetchone()
    return row["schema"] if row else None


async def touch_dataset(conn: Connection, project_id: UUID, id: UUID, schema: Mapping[str, Any] | None, updated_by: str | None) -> None:
    """None leaves what there is."""
    values = {"schema": None if schema is None else Jsonb(dict(schema)), "updated_by": updated_by}
    await conn.execute(Q.touch_dataset, {"project_id": project_id, "id": id, **values})


async def change_tags(conn: Connection, project_id: UUID, id: UUID, tags: Mapping[str, str], removed: Sequence[str]) -> None:
    await conn.execute(Q.change_tags, {"project_id": project_id, "id": id, "tags": Jsonb(dict(tags)), "removed": list(removed)})


async def set_experiments(conn: Connection, project_id: UUID, id: UUID, experiment_ids: Sequence[UUID]) -> None:
    await conn.execute(Q.set_experiments, {"project_id": project_id, "id": id, "experiment_ids": list(experiment_ids)})


async def delete_dataset(conn: Connection, project_id: UUID, id: UUID) -> None:
    await conn.execute(Q.delete_dataset, {"project_id": project_id, "id": id})


async def find_records(conn: Connection, project_id: UUID, dataset_id: UUID, digests: Sequence[str]) -> dict[str, EvaluationRecord]:
    """By digest."""
    values = {"project_id": project_id, "dataset_id": dataset_id, "digests": list(digests)}
    rows = await (await conn.execute(Q.find_records, values)).fetchall()
    return {row["digest"]: EvaluationRecord(**row) for row in rows}


async def list_records(conn: Connection, project_id: UUID, dataset_id: UUID, after: UUID | None, limit: int) -> list[EvaluationRecord]:
    """In the order in which they came."""
    values = {"project_id": project_id, "dataset_id": dataset_id, "after": after, "limit": limit}
    return [EvaluationRecord(**row) for row in await (await conn.execute(Q.list_records, values)).fetchall()]


async def put_records(conn: Connection, project_id: UUID, dataset_id: UUID, bodies: Mapping[str, Body]) -> None:
    """By digest."""
    columns = {"ids": [new_id() for _ in bodies], "digests": list(bodies), "bodies": [Jsonb(dict(body)) for body in bodies.values()]}
    await conn.execute(Q.put_records, {"project_id": project_id, "dataset_id": dataset_id, **columns})


async def delete_records(conn: Connection, project_id: UUID, dataset_id: UUID, ids: Sequence[UUID]) -> int:
    """How many there were."""
    values = {"project_id": project_id, "dataset_id": dataset_id, "ids": list(ids)}
    return (await conn.execute(Q.delete_records, values)).rowcount


async def lock_experiment(conn: Connection, project_id: UUID, id: UUID) -> None:
    await conn.execute(Q.lock_experiment, {"project_id": project_id, "id": id})


async def insert_scorer(conn: Connection, project_id: UUID, experiment_id: UUID, name: str, serialized: str) -> Scorer:
    values = {"project_id": project_id, "experiment_id": experiment_id, "name": name, "serialized": serialized, "scorer_id": new_id()}
    row = await (await conn.execute(Q.insert_scorer, values)).fetchone()
    return Scorer(**row or {})


async def list_scorers(conn: Connection, project_id: UUID, experiment_ids: Sequence[UUID], name: str | None) -> list[Scorer]:
    """All versions of a name, or without one the newest of each."""
    values = {"project_id": project_id, "experiment_ids": list(experiment_ids), "name": name}
    return [Scorer(**row) for row in await (await conn.execute(Q.list_scorers, values)).fetchall()]


async def delete_scorers(conn: Connection, project_id: UUID, experiment_id: UUID, name: str, version: int | None) -> bool:
    """One version, or all. False where there is none."""
    values = {"project_id": project_id, "experiment_id": experiment_id, "name": name, "version": version}
    return (await conn.execute(Q.delete_scorers, values)).rowcount > 0
