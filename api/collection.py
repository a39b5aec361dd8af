"""Garbage collection across modules: DataForge deletes what nothing leads to, ModelHub says which commits runs and models came of."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.models import NodeKind
from actors.securityvault.models import Scope
from aidos.schemas.dataforge.storage import CollectionCreate, CollectionRead, CollectionState
from cluster.db import Connection
from cluster.host import Host
from data_pipelines.dataforge.collection import service
from data_pipelines.dataforge.collection.models import Collection, CollectionSpec
from data_pipelines.dataforge.collection.reconciler import CollectionReconciler

_MOST_TOLD = 100


async def held_commits(conn: Connection, project_id: UUID) -> Sequence[UUID]:
    """Commits that are a source in the lineage graph, as the inputs of all jobs are."""
    return [UUID(id) for id in await modelhub.list_sources(conn, project_id, NodeKind.COMMIT)]


async def collect_garbage(host: Host) -> None:
    """Loop of an actor."""
    await CollectionReconciler(host.db, host.objects, held_commits).run(host.holder, host.wakeup)


async def create_collection(conn: Connection, scope: Scope, body: CollectionCreate) -> CollectionRead:
    """Begin one, or say what it would do. Raises: DatasetNotFound, CollectionRunning."""
    spec = CollectionSpec(body.dataset, body.keep_days, body.force)
    if not body.dry_run:
        return read(await service.request_collection(conn, scope, spec))
    found = await service.find_garbage(conn, scope, spec, held_commits)
    counts = {**found.__dict__, "commits": len(found.commits), "unreachable": found.commits[:_MOST_TOLD]}
    asked = {"id": None, "created_by": scope.principal.name, "created_at": None, "finished_at": None}
    return CollectionRead.model_validate({**counts, **asked, "state": CollectionState.DRY_RUN})


def read(collection: Collection) -> CollectionRead:
    """A collection as it is sent."""
    state = CollectionState.FINISHED if collection.finished_at else CollectionState.RUNNING
    return CollectionRead.model_validate({**collection.__dict__, "state": state})
