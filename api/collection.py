"""Garbage collection across modules: DataForge deletes what nothing leads to, ModelHub says which commits runs and models came of."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.models import NodeKind
from aidos.schemas.dataforge.storage import CollectionRead, CollectionState
from cluster.db import Connection
from cluster.host import Host
from data_pipelines.dataforge.collection.models import Collection
from data_pipelines.dataforge.collection.reconciler import CollectionReconciler


async def held_commits(conn: Connection, project_id: UUID) -> Sequence[UUID]:
    """Commits that are a source in the lineage graph, as the inputs of all jobs are."""
    return [UUID(id) for id in await modelhub.list_sources(conn, project_id, NodeKind.COMMIT)]


async def collect_garbage(host: Host) -> None:
    """Loop of an actor."""
    await CollectionReconciler(host.db, host.objects, held_commits).run(host.holder, host.wakeup)


def read(collection: Collection) -> CollectionRead:
    """A collection as it is sent."""
    state = CollectionState.FINISHED if collection.finished_at else CollectionState.RUNNING
    return CollectionRead.model_validate({**collection.__dict__, "state": state})
