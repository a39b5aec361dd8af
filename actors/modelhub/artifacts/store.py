"""SQL of artifacts: a function a named query."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actors.modelhub.artifacts.models import Entry, Location, StoredFile, Upload
from cluster.db import Connection, load_queries, new_id, one

Q = load_queries(__package__ or "actors.modelhub.artifacts")


async def put_artifact(conn: Connection, project_id: UUID, at: Location, key: str, sha256: str, size_bytes: int) -> None:
    await conn.execute(Q.put_artifact, {**_at(project_id, at), "id": new_id(), "key": key, "sha256": sha256, "size_bytes": size_bytes})


async def find_file(conn: Connection, project_id: UUID, at: Location) -> StoredFile | None:
    return one(StoredFile, await (await conn.execute(Q.find_file, _at(project_id, at))).fetchone())


async def list_folder(conn: Connection, project_id: UUID, at: Location, limit: int, offset: int) -> list[Entry]:
    """By name."""
    cursor = await conn.execute(Q.list_folder, {**_below(project_id, at), "limit": limit, "offset": offset})
    return [Entry(**row) for row in await cursor.fetchall()]


async def list_tree(conn: Connection, project_id: UUID, at: Location, limit: int) -> list[StoredFile]:
    """All files below, by path."""
    cursor = await conn.execute(Q.list_tree, {**_below(project_id, at), "limit": limit})
    return [StoredFile(**row) for row in await cursor.fetchall()]


async def delete_artifacts(conn: Connection, project_id: UUID, at: Location) -> int:
    """How many there were at the path and below."""
    return (await conn.execute(Q.delete_artifacts, _at(project_id, at))).rowcount


async def insert_upload(conn: Connection, project_id: UUID, at: Location, upload: Upload) -> None:
    await conn.execute(Q.insert_upload, {**_at(project_id, at), **upload.__dict__})


async def find_upload(conn: Connection, project_id: UUID, at: Location, upload_id: str) -> Upload | None:
    return one(Upload, await (await conn.execute(Q.find_upload, {**_at(project_id, at), "upload_id": upload_id})).fetchone())


async def delete_upload(conn: Connection, project_id: UUID, at: Location, upload_id: str) -> bool:
    return await (await conn.execute(Q.delete_upload, {**_at(project_id, at), "upload_id": upload_id})).fetchone() is not None


def _at(project_id: UUID, at: Location) -> dict[str, Any]:
    return {"project_id": project_id, "owner_id": at.owner_id, "path": at.path}


def _below(project_id: UUID, at: Location) -> dict[str, Any]:
    return {"project_id": project_id, "owner_id": at.owner_id, "prefix": f"{at.path}/" if at.path else ""}
