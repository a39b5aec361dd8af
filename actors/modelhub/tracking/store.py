"""SQL of what clients log beside runs, params and metrics: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.models import DatasetInput, Point
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.tracking")


async def rename_experiment(conn: Connection, project_id: UUID, id: UUID, name: str) -> bool:
    return await _touched(conn, Q.rename_experiment, {"project_id": project_id, "id": id, "name": name})


async def restore_experiment(conn: Connection, project_id: UUID, id: UUID) -> bool:
    return await _touched(conn, Q.restore_experiment, {"project_id": project_id, "id": id})


async def set_experiment_tags(conn: Connection, project_id: UUID, id: UUID, tags: Mapping[str, str]) -> None:
    await conn.execute(Q.set_experiment_tags, {"project_id": project_id, "id": id, "keys": list(tags), "values": list(tags.values())})


async def delete_experiment_tag(conn: Connection, project_id: UUID, id: UUID, key: str) -> bool:
    return await _touched(conn, Q.delete_experiment_tag, {"project_id": project_id, "id": id, "key": key})


async def restore_run(conn: Connection, project_id: UUID, id: UUID) -> bool:
    return await _touched(conn, Q.restore_run, {"project_id": project_id, "id": id})


async def insert_datasets(conn: Connection, project_id: UUID, run_id: UUID, datasets: Sequence[DatasetInput]) -> None:
    rows = [{**dataset.__dict__, "tags": dict(dataset.tags)} for dataset in datasets]
    await conn.execute(Q.insert_datasets, {"project_id": project_id, "run_id": run_id, "datasets": Jsonb(rows)})


async def list_datasets(conn: Connection, project_id: UUID, run_ids: Sequence[UUID]) -> dict[UUID, list[DatasetInput]]:
    """By run."""
    cursor = await conn.execute(Q.list_datasets, {"project_id": project_id, "run_ids": list(run_ids)})
    found: dict[UUID, list[DatasetInput]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row.pop("run_id"), []).append(DatasetInput(**row))
    return found


async def list_dataset_names(conn: Connection, project_id: UUID, experiment_ids: Sequence[UUID], limit: int) -> list[dict[str, Any]]:
    """``experiment_id, name, digest, context``, each once."""
    cursor = await conn.execute(Q.list_dataset_names, {"project_id": project_id, "experiment_ids": list(experiment_ids), "limit": limit})
    return await cursor.fetchall()


async def list_history(conn: Connection, project_id: UUID, run_id: UUID, key: str, limit: int | None, offset: int) -> list[Point]:
    """In the order of time."""
    cursor = await conn.execute(Q.list_history, {"project_id": project_id, "run_id": run_id, "key": key, "limit": limit, "offset": offset})
    return [Point(**row) for row in await cursor.fetchall()]


async def sample_histories(
    conn: Connection, project_id: UUID, run_ids: Sequence[UUID], key: str, steps: tuple[int | None, int | None], points: int
) -> list[tuple[UUID, Point]]:
    """At most about ``points`` of each run, by step."""
    values = {"project_id": project_id, "run_ids": list(run_ids), "key": key, "first": steps[0], "last": steps[1], "points": points}
    cursor = await conn.execute(Q.sample_histories, values)
    return [(row.pop("run_id"), Point(**row)) for row in await cursor.fetchall()]


async def _touched(conn: Connection, query: Any, values: Mapping[str, Any]) -> bool:
    return await (await conn.execute(query, values)).fetchone() is not None
