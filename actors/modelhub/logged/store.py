"""SQL of logged models: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.modelhub.logged.models import LoggedModelState, ModelMetric, Role
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.logged")


async def insert_model(conn: Connection, model: Mapping[str, Any]) -> None:
    await conn.execute(Q.insert_model, model)


async def touch_model(conn: Connection, project_id: UUID, id: UUID, state: LoggedModelState | None = None) -> bool:
    """False where it is gone."""
    return await _touched(conn, Q.touch_model, {"project_id": project_id, "id": id, "state": state})


async def delete_model(conn: Connection, project_id: UUID, id: UUID) -> bool:
    return await _touched(conn, Q.delete_model, {"project_id": project_id, "id": id})


async def set_texts(conn: Connection, project_id: UUID, id: UUID, kind: str, texts: Mapping[str, str]) -> None:
    values = {"project_id": project_id, "id": id, "kind": kind, "keys": list(texts), "values": list(texts.values())}
    await conn.execute(Q.set_texts, values)


async def delete_tag(conn: Connection, project_id: UUID, id: UUID, key: str) -> bool:
    return await _touched(conn, Q.delete_tag, {"project_id": project_id, "id": id, "key": key})


async def insert_metrics(conn: Connection, project_id: UUID, run_id: UUID, metrics: Sequence[tuple[UUID, ModelMetric]]) -> None:
    """The newest of each stays; models that are not there are passed over."""
    await conn.execute(
        Q.insert_metrics,
        {
            "project_id": project_id,
            "run_id": run_id,
            "models": [model_id for model_id, _ in metrics],
            "keys": [metric.point.key for _, metric in metrics],
            "names": [metric.dataset_name for _, metric in metrics],
            "digests": [metric.dataset_digest for _, metric in metrics],
            "steps": [metric.point.step for _, metric in metrics],
            "times": [metric.point.at for _, metric in metrics],
            "values": [metric.point.value for _, metric in metrics],
        },
    )


async def link_models(conn: Connection, project_id: UUID, run_id: UUID, role: Role, models: Mapping[UUID, int]) -> None:
    values = {"project_id": project_id, "run_id": run_id, "role": role, "models": list(models), "steps": list(models.values())}
    await conn.execute(Q.link_models, values)


async def list_links(conn: Connection, project_id: UUID, run_ids: Sequence[UUID]) -> list[tuple[UUID, UUID, Role, int]]:
    """Run, model, role and step."""
    cursor = await conn.execute(Q.list_links, {"project_id": project_id, "run_ids": list(run_ids)})
    return [(row["run_id"], row["model_id"], Role(row["role"]), row["step"]) for row in await cursor.fetchall()]


async def _touched(conn: Connection, query: Any, values: Mapping[str, Any]) -> bool:
    return await (await conn.execute(query, values)).fetchone() is not None
