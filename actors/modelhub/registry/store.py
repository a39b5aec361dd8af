"""SQL of what MLflow's registry keeps beside the native one: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.models import Finding
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.registry")


async def rename_model(conn: Connection, project_id: UUID, name: str, new_name: str) -> bool:
    cursor = await conn.execute(Q.rename_model, {"project_id": project_id, "name": name, "new_name": new_name})
    return await cursor.fetchone() is not None


async def describe_model(conn: Connection, project_id: UUID, name: str, description: str) -> bool:
    cursor = await conn.execute(Q.describe_model, {"project_id": project_id, "name": name, "description": description})
    return await cursor.fetchone() is not None


async def set_model_tags(conn: Connection, project_id: UUID, id: UUID, tags: Mapping[str, str]) -> None:
    await conn.execute(Q.set_model_tags, {"project_id": project_id, "id": id, "keys": list(tags), "values": list(tags.values())})


async def delete_model_tag(conn: Connection, project_id: UUID, id: UUID, key: str) -> None:
    await conn.execute(Q.delete_model_tag, {"project_id": project_id, "id": id, "key": key})


async def keep_apart(conn: Connection, project_id: UUID, id: UUID, finding: Finding) -> None:
    """As inspected, with the finding."""
    values = {"reason": finding.detail, "findings": Jsonb([finding.__dict__])}
    await conn.execute(Q.keep_apart, {"project_id": project_id, "id": id, **values})


async def update_version(
    conn: Connection, project_id: UUID, id: UUID, *, description: str | None = None, card: str | None = None, stage: str | None = None
) -> None:
    await conn.execute(Q.update_version, {"project_id": project_id, "id": id, "description": description, "card": card, "stage": stage})


async def archive_versions(conn: Connection, project_id: UUID, model_id: UUID, id: UUID, stage: str) -> None:
    """All others of the model in the stage."""
    await conn.execute(Q.archive_versions, {"project_id": project_id, "model_id": model_id, "id": id, "stage": stage})


async def set_version_tags(conn: Connection, project_id: UUID, id: UUID, tags: Mapping[str, str]) -> None:
    await conn.execute(Q.set_version_tags, {"project_id": project_id, "id": id, "keys": list(tags), "values": list(tags.values())})


async def delete_version_tag(conn: Connection, project_id: UUID, id: UUID, key: str) -> None:
    await conn.execute(Q.delete_version_tag, {"project_id": project_id, "id": id, "key": key})
