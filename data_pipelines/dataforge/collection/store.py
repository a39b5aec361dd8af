"""The rows of garbage collection: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cluster.db import Connection, load_queries, one
from data_pipelines.dataforge.collection.models import GRACE, UPLOAD_LIFETIME, Collection, DeadObject, Retention
from data_pipelines.dataforge.models import MultipartUpload

Q = load_queries(__package__)


async def create_collection(conn: Connection, project_id: UUID, values: Mapping[str, Any]) -> Collection | None:
    """None while another is under way."""
    return one(Collection, await _find(conn, Q.create_collection, {"project_id": project_id, **values}))


async def find_collection(conn: Connection, project_id: UUID, id: UUID | None, *, dry_run: bool = False) -> Collection | None:
    """Without ``id`` the one, or the dry run, that is under way."""
    return one(Collection, await _find(conn, Q.find_collection, {"project_id": project_id, "id": id, "dry_run": dry_run}))


async def list_collections(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[Collection]:
    """Newest first."""
    return [Collection(**row) for row in await _all(conn, Q.list_collections, {"project_id": project_id, "before": before, "limit": limit})]


async def plan_collections(conn: Connection, every: timedelta) -> int:
    """Begin a collection of every project that had none for so long; how many."""
    return (await conn.execute(Q.plan_collections, {"every": every})).rowcount


async def claim_collection(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Collection]:
    return [Collection(**row) for row in await _all(conn, Q.claim_collection, {"token": token, "lock_s": lock_s, "limit": limit})]


async def finish_collection(conn: Connection, id: UUID, token: UUID) -> bool:
    """False where the claim was lost."""
    return (await conn.execute(Q.finish_collection, {"id": id, "token": token})).rowcount == 1


async def count_collected(conn: Connection, id: UUID, **counts: int) -> None:
    """Add to what the collection deleted: commits, nodes, contents, size_bytes, uploads, places."""
    none = dict.fromkeys(("commits", "nodes", "contents", "size_bytes", "uploads", "places"), 0)
    await conn.execute(Q.count_collected, {"id": id, **none, **counts})


async def record_dry_run(conn: Connection, id: UUID, unreachable: Sequence[UUID], **counts: int) -> None:
    """What a collection would delete."""
    await conn.execute(Q.record_dry_run, {"id": id, "unreachable": list(unreachable), **counts})


async def adopt_objects(conn: Connection, project_id: UUID, sizes: Mapping[str, int]) -> int:
    """Take on record the objects that no row knows, by SHA-256 with their sizes; how many."""
    values = {"digests": [*map(bytes.fromhex, sizes)], "sizes": list(sizes.values())}
    return (await conn.execute(Q.adopt_objects, {"project_id": project_id, **values})).rowcount


async def set_retention(conn: Connection, project_id: UUID, dataset_id: UUID, keep_days: int) -> Retention:
    row = await _find(conn, Q.set_retention, {"project_id": project_id, "dataset_id": dataset_id, "keep_days": keep_days})
    assert row is not None
    return Retention(**row)


async def find_retention(conn: Connection, project_id: UUID, dataset_id: UUID) -> Retention | None:
    return one(Retention, await _find(conn, Q.find_retention, {"project_id": project_id, "dataset_id": dataset_id}))


async def list_dataset_ids(conn: Connection, project_id: UUID, only: UUID | None) -> list[UUID]:
    return [row["id"] for row in await _all(conn, Q.list_dataset_ids, {"project_id": project_id, "only": only})]


async def lock_dataset(conn: Connection, project_id: UUID, dataset_id: UUID) -> None:
    """Until the end of the transaction nobody else adds a commit or a ref."""
    await conn.execute(Q.lock_dataset, {"project_id": project_id, "dataset_id": dataset_id})


async def note_unreachable(conn: Connection, project_id: UUID, dataset_id: UUID, held: Several[UUID]) -> None:
    """Write down of each commit since when nothing leads to it; ``held`` stay like those behind a ref."""
    await conn.execute(Q.note_unreachable, {"project_id": project_id, "dataset_id": dataset_id, "held": list(held)})


async def list_expired(conn: Connection, project_id: UUID, dataset_id: UUID, held: Several[UUID], keep_days: int) -> list[UUID]:
    values = {"project_id": project_id, "dataset_id": dataset_id, "held": list(held), "keep_days": keep_days}
    return [row["id"] for row in await _all(conn, Q.list_expired, values)]


async def delete_commits(conn: Connection, project_id: UUID, ids: Sequence[UUID]) -> None:
    await conn.execute(Q.delete_commits, {"project_id": project_id, "ids": list(ids)})


async def delete_nodes(conn: Connection, project_id: UUID) -> int:
    """Delete the nodes that no commit leads to and nobody relied on for the grace; how many."""
    return (await conn.execute(Q.delete_nodes, {"project_id": project_id, "grace": GRACE})).rowcount


async def count_dead_nodes(conn: Connection, project_id: UUID, without: Sequence[UUID]) -> int:
    """Nodes under no commit but ``without``, new ones as well."""
    row = await _find(conn, Q.count_dead_nodes, {"project_id": project_id, "without": list(without)})
    assert row is not None
    return int(row["nodes"])


async def list_dead_objects(conn: Connection, project_id: UUID, without: Sequence[UUID], young: datetime | None) -> list[DeadObject]:
    """Objects with no content in a commit but ``without``; those with one that was touched since ``young`` are left out."""
    values = {"project_id": project_id, "without": list(without), "young": young or "infinity"}
    return [DeadObject(**row) for row in await _all(conn, Q.list_dead_objects, values)]


async def list_dead_places(conn: Connection, project_id: UUID, without: Sequence[UUID], young: datetime | None) -> list[str]:
    """Contents in place in no commit but ``without``; those that were touched since ``young`` are left out."""
    values = {"project_id": project_id, "without": list(without), "young": young or "infinity"}
    return [row["id"] for row in await _all(conn, Q.list_dead_places, values)]


async def delete_places(conn: Connection, project_id: UUID, ids: Sequence[str], young: datetime) -> int:
    """Forget contents in place, but those that were touched since ``young``; how many."""
    values = {"project_id": project_id, "ids": [*map(bytes.fromhex, ids)], "young": young}
    return (await conn.execute(Q.delete_places, values)).rowcount


async def now_less(conn: Connection, age: timedelta) -> datetime:
    """The time so long ago, by the database's clock."""
    row = await _find(conn, Q.now_less, {"age": age})
    assert row is not None
    at: datetime = row["at"]
    return at


async def lock_objects(conn: Connection, project_id: UUID, objects: Sequence[str]) -> None:
    """Wait for whoever relies on a content in them now."""
    await conn.execute(Q.lock_objects, {"project_id": project_id, "objects": [*map(bytes.fromhex, objects)]})


async def condemn_objects(conn: Connection, project_id: UUID, objects: Sequence[str], young: datetime) -> None:
    """Mark locked objects as being deleted, but those of which a content was touched since ``young``."""
    await conn.execute(Q.condemn_objects, {"project_id": project_id, "objects": [*map(bytes.fromhex, objects)], "young": young})


async def list_condemned(conn: Connection, project_id: UUID, limit: int) -> list[str]:
    """Objects that are being deleted."""
    return [row["sha256"] for row in await _all(conn, Q.list_condemned, {"project_id": project_id, "limit": limit})]


async def delete_condemned(conn: Connection, project_id: UUID, objects: Sequence[str]) -> dict[str, int]:
    """Forget what was in objects that are deleted: ``contents`` and their ``size_bytes``."""
    row = await _find(conn, Q.delete_condemned, {"project_id": project_id, "objects": [*map(bytes.fromhex, objects)]})
    assert row is not None
    return row


async def list_stale_uploads(conn: Connection, project_id: UUID) -> list[MultipartUpload]:
    """Uploads that were begun a lifetime ago and not completed."""
    return [
        MultipartUpload(**row) for row in await _all(conn, Q.list_stale_uploads, {"project_id": project_id, "lifetime": UPLOAD_LIFETIME})
    ]


async def forget_upload(conn: Connection, project_id: UUID, upload_id: str) -> int:
    return (await conn.execute(Q.forget_upload, {"project_id": project_id, "upload_id": upload_id})).rowcount


async def _find(conn: Connection, query: Any, values: Mapping[str, Any]) -> dict[str, Any] | None:
    return await (await conn.execute(query, values)).fetchone()


async def _all(conn: Connection, query: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return await (await conn.execute(query, values)).fetchall()
