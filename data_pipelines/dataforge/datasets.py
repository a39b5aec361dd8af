"""Datasets themselves: the names under which histories of files are kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from cluster.events import Event, publish
from data_pipelines.dataforge import store
from data_pipelines.dataforge.errors import DatasetNotFound
from data_pipelines.dataforge.models import Dataset


async def create_dataset(conn: Connection, scope: Scope, name: str, description: str = "") -> Dataset:
    """Raises: DatasetExists."""
    dataset = await store.create_dataset(conn, scope.project, new_id(), name, description, scope.principal.name)
    await publish_change(conn, scope, "dataset.created", dataset.id, {"name": name})
    return dataset


async def get_dataset(conn: Connection, scope: Scope, name: str) -> Dataset:
    """Raises: DatasetNotFound."""
    dataset = await store.find_dataset(conn, scope.project, name)
    if dataset is None:
        raise DatasetNotFound(name=name)
    return dataset


async def list_datasets(conn: Connection, scope: Scope, before: UUID | None = None, limit: int = 50) -> list[Dataset]:
    """Newest first."""
    return await store.list_datasets(conn, scope.project, before, limit)


async def delete_dataset(conn: Connection, scope: Scope, name: str) -> None:
    """Delete a dataset with its commits and refs. Raises: DatasetNotFound."""
    dataset = await get_dataset(conn, scope, name)
    await store.delete_dataset(conn, scope.project, dataset.id)
    await publish_change(conn, scope, "dataset.deleted", dataset.id, {"name": name})


async def publish_change(conn: Connection, scope: Scope, what: str, subject: UUID, data: dict[str, Any]) -> None:
    """Write the event ``dataforge.<what>`` in the transaction of the change."""
    await publish(
        conn,
        Event(type=f"dataforge.{what}", subject=str(subject), org_id=scope.org_id, project_id=scope.project, actor=scope.actor, data=data),
    )
