"""The verbs of garbage collection.

A commit goes when no branch, tag, labelling project, run or model leads to it and it has been so for its dataset's retention; what is
under no commit goes a day after somebody last relied on it. Each step is a transaction of its own that may be cut off at any
point: what it has not done, the next collection finds again. An object leaves S3 between two of them: condemned in
the first, so that pushers see its contents as missing, and forgotten in the second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from cluster.objects import Objects, blob_key, blobs_prefix
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.collection import store
from data_pipelines.dataforge.collection.errors import CollectionNotFound, CollectionRunning
from data_pipelines.dataforge.collection.models import GRACE, KEEP_DAYS, UPLOAD_LIFETIME, Collection, CollectionSpec, DeadObject, Retention
from data_pipelines.dataforge.uploads import Transact

Held = Callable[[Connection, UUID], Awaitable[Sequence[UUID]]]
"""The commits of a project that something outside DataForge came of."""
_BATCH = 500
_MOST_NAMED = 100


async def request_collection(conn: Connection, scope: Scope, spec: CollectionSpec) -> Collection:
    """Have the project's garbage deleted, or counted, in the background. Raises: DatasetNotFound, CollectionRunning."""
    values = {
        "id": new_id(),
        "dataset_id": (await dataforge.get_dataset(conn, scope, spec.dataset)).id if spec.dataset else None,
        "keep_days": spec.keep_days,
        "force": spec.force,
        "dry_run": spec.dry_run,
        "created_by": scope.principal.name,
    }
    made = await store.create_collection(conn, scope.project, values)
    if made is None:
        running = await store.find_collection(conn, scope.project, None, dry_run=spec.dry_run)
        raise CollectionRunning(id=running.id if running else None)
    asked = {"dataset": spec.dataset, "dry_run": spec.dry_run}
    await dataforge.publish_change(conn, scope, "collection.requested", made.id, asked)
    return made


async def get_collection(conn: Connection, scope: Scope, id: UUID) -> Collection:
    """Raises: CollectionNotFound."""
    found = await store.find_collection(conn, scope.project, id)
    if found is None:
        raise CollectionNotFound(id=id)
    return found


async def list_collections(conn: Connection, scope: Scope, before: UUID | None = None, limit: int = 50) -> list[Collection]:
    """Newest first."""
    return await store.list_collections(conn, scope.project, before, limit)


async def set_retention(conn: Connection, scope: Scope, dataset: str, keep_days: int) -> Retention:
    """Say how many days unreachable commits of a dataset stay. Raises: DatasetNotFound."""
    found = await dataforge.get_dataset(conn, scope, dataset)
    return await store.set_retention(conn, scope.project, found.id, keep_days)


async def get_retention(conn: Connection, scope: Scope, dataset: str) -> Retention:
    """What was said, or else the default. Raises: DatasetNotFound."""
    found = await dataforge.get_dataset(conn, scope, dataset)
    return await store.find_retention(conn, scope.project, found.id) or Retention(KEEP_DAYS)


async def collect(transaction: Transact, objects: Objects, asked: Collection, held: Held) -> None:
    """Do what a collection is asked to; done again, it goes on where it was. Raises: Unavailable."""
    if asked.dry_run:
        async with transaction() as conn:
            await _count_garbage(conn, asked, held)
        return
    async with transaction() as conn:
        datasets = await store.list_dataset_ids(conn, asked.project_id, asked.dataset_id)
    for dataset in datasets:
        async with transaction() as conn:
            await _delete_commits(conn, asked, dataset, held)
    async with transaction() as conn:
        await store.count_collected(conn, asked.id, nodes=await store.delete_nodes(conn, asked.project_id))
    async with transaction() as conn:
        young = await store.now_less(conn, GRACE)
        dead = await store.list_dead_objects(conn, asked.project_id, [], young)
    for start in range(0, len(dead), _BATCH):
        async with transaction() as conn:
            await _condemn(conn, asked.project_id, dead[start : start + _BATCH], young)
    await _delete_objects(transaction, objects, asked)
    async with transaction() as conn:
        places = await store.list_dead_places(conn, asked.project_id, [], young)
        await store.count_collected(conn, asked.id, places=await store.delete_places(conn, asked.project_id, places, young))
    await _drop_uploads(transaction, objects, asked)
    await _adopt_objects(transaction, objects, asked)


async def _count_garbage(conn: Connection, asked: Collection, held: Held) -> None:
    """Write down what a collection would delete; nothing else is changed."""
    project = asked.project_id
    keeping = [] if asked.force else await held(conn, project)
    expired: list[UUID] = []
    for dataset in await store.list_dataset_ids(conn, project, asked.dataset_id):
        expired += await store.list_expired(conn, project, dataset, keeping, await _keep_days(conn, project, dataset, asked.keep_days))
    dead = await store.list_dead_objects(conn, project, expired, None)
    counts = {
        "commits": len(expired),
        "nodes": await store.count_dead_nodes(conn, project, expired),
        "contents": sum(each.contents for each in dead),
        "size_bytes": sum(each.size_bytes for each in dead),
        "uploads": len(await store.list_stale_uploads(conn, project)),
        "places": len(await store.list_dead_places(conn, project, expired, None)),
    }
    await store.record_dry_run(conn, asked.id, expired[:_MOST_NAMED], **counts)


async def _delete_commits(conn: Connection, asked: Collection, dataset: UUID, held: Held) -> None:
    project = asked.project_id
    await store.lock_dataset(conn, project, dataset)
    keeping = [] if asked.force else await held(conn, project)
    await store.note_unreachable(conn, project, dataset, keeping)
    expired = await store.list_expired(conn, project, dataset, keeping, await _keep_days(conn, project, dataset, asked.keep_days))
    await store.delete_commits(conn, project, expired)
    await store.count_collected(conn, asked.id, commits=len(expired))


async def _keep_days(conn: Connection, project: UUID, dataset: UUID, asked: int | None) -> int:
    if asked is not None:
        return asked
    retention = await store.find_retention(conn, project, dataset)
    return retention.keep_days if retention else KEEP_DAYS


async def _condemn(conn: Connection, project: UUID, dead: Sequence[DeadObject], young: datetime) -> None:
    names = [each.sha256 for each in dead]
    await store.lock_objects(conn, project, names)
    await store.condemn_objects(conn, project, names, young)


async def _delete_objects(transaction: Transact, objects: Objects, asked: Collection) -> None:
    """Delete what is condemned, by this collection or by one that was cut off."""
    while True:
        async with transaction() as conn:
            names = await store.list_condemned(conn, asked.project_id, _BATCH)
        if not names:
            return
        await objects.remove([blob_key(asked.project_id, sha256) for sha256 in names])
        async with transaction() as conn:
            await store.count_collected(conn, asked.id, **await store.delete_condemned(conn, asked.project_id, names))


async def _drop_uploads(transaction: Transact, objects: Objects, asked: Collection) -> None:
    """Abort uploads that nobody completed."""
    async with transaction() as conn:
        stale = await store.list_stale_uploads(conn, asked.project_id)
    for upload in stale:
        key = blob_key(asked.project_id, upload.sha256)
        if await objects.find_parts(key, upload.upload_id) is not None:
            await objects.abort_multipart(key, upload.upload_id)
        async with transaction() as conn:
            await store.count_collected(conn, asked.id, uploads=await store.forget_upload(conn, asked.project_id, upload.upload_id))


async def _adopt_objects(transaction: Transact, objects: Objects, asked: Collection) -> None:
    """Take on record what was uploaded and never reported as complete.

    It is not deleted here, for its uploader may be reporting it now: on record it is a content like any other, which a later
    collection deletes when nobody relied on it for a day.
    """
    async with transaction() as conn:
        old = await store.now_less(conn, UPLOAD_LIFETIME)
    after, prefix = "", blobs_prefix(asked.project_id)
    while page := await objects.list_page(prefix, after):
        after = page[-1].key
        sizes = {info.key.rsplit("/", 1)[-1]: info.size_bytes for info in page if info.modified_at and info.modified_at < old}
        if sizes:
            async with transaction() as conn:
                await store.adopt_objects(conn, asked.project_id, sizes)
