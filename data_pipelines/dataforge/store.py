"""DataForge's rows: one function a block of ``queries.sql``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from cluster.db import Connection, load_queries, one, unique
from data_pipelines.dataforge.errors import DatasetExists
from data_pipelines.dataforge.models import (
    Check,
    CheckState,
    Commit,
    Dataset,
    MultipartUpload,
    Place,
    Protection,
    ProtectionSpec,
    Ref,
    RefKind,
    StoredBlob,
)
from data_pipelines.dataforge.nodes import level_of

Q = load_queries(__package__)
FRESH = timedelta(hours=12)
"""What was touched within it is not touched again, and stays for as long once more: far longer than any request takes."""


async def create_dataset(conn: Connection, project_id: UUID, id: UUID, name: str, description: str, created_by: str) -> Dataset:
    """Raises: DatasetExists."""
    row = {"project_id": project_id, "id": id, "name": name, "description": description, "created_by": created_by}
    with unique("datasets_name", DatasetExists(name=name)):
        return Dataset(**await _row(conn, Q.create_dataset, row))


async def find_dataset(conn: Connection, project_id: UUID, name: str) -> Dataset | None:
    return one(Dataset, await (await conn.execute(Q.find_dataset, {"project_id": project_id, "name": name})).fetchone())


async def list_datasets(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[Dataset]:
    """Newest first."""
    rows = await conn.execute(Q.list_datasets, {"project_id": project_id, "before": before, "limit": limit})
    return [Dataset(**row) for row in await rows.fetchall()]


async def delete_dataset(conn: Connection, project_id: UUID, id: UUID) -> None:
    """Its refs and commits go with it; nodes and blobs may be another dataset's too and stay."""
    await conn.execute(Q.delete_dataset, {"project_id": project_id, "id": id})


async def insert_commit(conn: Connection, project_id: UUID, commit: Mapping[str, Any]) -> Commit:
    row = {"project_id": project_id, **commit, "metadata": Jsonb(commit["metadata"])}
    return _commit(await _row(conn, Q.insert_commit, row))


async def find_commit(conn: Connection, project_id: UUID, id: UUID) -> Commit | None:
    row = await (await conn.execute(Q.find_commit, {"project_id": project_id, "id": id})).fetchone()
    return _commit(row) if row else None


async def list_ancestors(
    conn: Connection,
    project_id: UUID,
    heads: Sequence[Commit],
    lowest: int,
    limit: int | None = None,
    before: tuple[int, UUID] | None = None,
) -> list[Commit]:
    """The commits of one dataset and those that they come from, down to the generation ``lowest``, by falling generation and id.

    ``before``: only those after this generation and id in that order.
    """
    generation, id = before or (None, None)
    row = {"project_id": project_id, "dataset": heads[0].dataset, "ids": [head.id for head in heads], "lowest": lowest}
    rows = await conn.execute(Q.list_ancestors, {**row, "limit": limit, "before_generation": generation, "before": id})
    return [_commit(row) for row in await rows.fetchall()]


async def list_commits_of_trees(conn: Connection, project_id: UUID, trees: Iterable[bytes]) -> list[Commit]:
    """Newest first."""
    rows = await conn.execute(Q.list_commits_of_trees, {"project_id": project_id, "trees": list(trees)})
    return [_commit(row) for row in await rows.fetchall()]


async def find_ref(conn: Connection, project_id: UUID, dataset_id: UUID, name: str) -> Ref | None:
    row = await (await conn.execute(Q.find_ref, {"project_id": project_id, "dataset_id": dataset_id, "name": name})).fetchone()
    return _ref(row)


async def list_refs(conn: Connection, project_id: UUID, dataset_id: UUID, after: str | None, limit: int) -> list[Ref]:
    """By name."""
    rows = await conn.execute(Q.list_refs, {"project_id": project_id, "dataset_id": dataset_id, "after": after, "limit": limit})
    return [ref for row in await rows.fetchall() if (ref := _ref(row))]


async def create_ref(conn: Connection, project_id: UUID, dataset_id: UUID, name: str, kind: RefKind, commit_id: UUID) -> Ref | None:
    """None when there is a ref of that name."""
    row = {"project_id": project_id, "dataset_id": dataset_id, "name": name, "kind": kind.value, "commit_id": commit_id}
    return _ref(await (await conn.execute(Q.create_ref, row)).fetchone())


async def move_ref(conn: Connection, project_id: UUID, dataset_id: UUID, name: str, commit_id: UUID, expected: UUID) -> Ref | None:
    """Compare and set; None when the branch is not there or does not point to ``expected``."""
    row = {"project_id": project_id, "dataset_id": dataset_id, "name": name, "commit_id": commit_id, "expected": expected}
    return _ref(await (await conn.execute(Q.move_ref, row)).fetchone())


async def delete_ref(conn: Connection, project_id: UUID, dataset_id: UUID, name: str) -> Ref | None:
    return _ref(await (await conn.execute(Q.delete_ref, {"project_id": project_id, "dataset_id": dataset_id, "name": name})).fetchone())


async def load_nodes(conn: Connection, project_id: UUID, digests: Iterable[bytes]) -> dict[bytes, bytes]:
    rows = await conn.execute(Q.load_nodes, {"project_id": project_id, "digests": list(digests)}, binary=True)
    return {row["sha256"]: row["data"] for row in await rows.fetchall()}


async def store_nodes(conn: Connection, project_id: UUID, nodes: Mapping[bytes, bytes]) -> None:
    """Nodes that are there already stay as they are, for they are equal, and are not collected for a while."""
    digests = sorted(nodes)  # one order for all writers, so that none waits for another in a ring
    levels = [level_of(nodes[digest]) for digest in digests]
    row = {"project_id": project_id, "digests": digests, "levels": levels, "data": [nodes[digest] for digest in digests]}
    await conn.execute(Q.store_nodes, {**row, "fresh": FRESH})


async def find_base(conn: Connection, project_id: UUID, tree: bytes) -> bool:
    """Whether the tree is one to build on: a commit's, or a new one."""
    return bool((await _row(conn, Q.find_base, {"project_id": project_id, "tree": tree, "fresh": FRESH}))["found"])


async def record_content_paths(conn: Connection, project_id: UUID, files: Iterable[tuple[bytes, str]]) -> None:
    """``files``: content and path of each."""
    known = sorted(files)  # one order for all writers, so that none waits for another in a ring
    row = {"project_id": project_id, "contents": [content for content, _ in known], "paths": [path for _, path in known]}
    await conn.execute(Q.record_content_paths, row)


async def list_content_paths(conn: Connection, project_id: UUID, content: bytes) -> set[str]:
    """Paths at which the content stood at any time."""
    rows = await conn.execute(Q.list_content_paths, {"project_id": project_id, "content": content})
    return {row["path"] for row in await rows.fetchall()}


async def list_trees(conn: Connection, project_id: UUID) -> set[bytes]:
    """The trees of all commits."""
    rows = await conn.execute(Q.list_trees, {"project_id": project_id}, binary=True)
    return {row["tree"] for row in await rows.fetchall()}


async def find_blobs(conn: Connection, project_id: UUID, sha256: Iterable[str]) -> dict[str, StoredBlob]:
    rows = await conn.execute(Q.find_blobs, {"project_id": project_id, "digests": [bytes.fromhex(each) for each in sha256]})
    return {row["sha256"]: StoredBlob(**row) for row in await rows.fetchall()}


async def touch_blobs(conn: Connection, project_id: UUID, sha256: Iterable[str], objects: Iterable[str] = ()) -> None:
    """Keep these contents, and the ``objects`` of S3 with all that lies in them, from being collected for a while."""
    await conn.execute(Q.touch_blobs, {**_contents(project_id, sha256, objects), "fresh": FRESH})


async def find_condemned(conn: Connection, project_id: UUID, sha256: Iterable[str], objects: Iterable[str] = ()) -> str | None:
    """One of them that is being deleted, or None."""
    row = await (await conn.execute(Q.find_condemned, _contents(project_id, sha256, objects))).fetchone()
    return row["sha256"] if row else None


def _contents(project_id: UUID, sha256: Iterable[str], objects: Iterable[str]) -> dict[str, Any]:
    return {"project_id": project_id, "digests": [*map(bytes.fromhex, sha256)], "objects": [*map(bytes.fromhex, objects)]}


async def record_blobs(conn: Connection, project_id: UUID, blobs: Iterable[StoredBlob]) -> None:
    """Blobs that are known already keep their place."""
    known = sorted(blobs, key=lambda blob: blob.sha256)  # one order for all writers, so that none waits for another in a ring
    row = {
        "project_id": project_id,
        "digests": [bytes.fromhex(blob.sha256) for blob in known],
        "sizes": [blob.size_bytes for blob in known],
        "packs": [bytes.fromhex(blob.pack_sha256) if blob.pack_sha256 else None for blob in known],
        "offsets": [blob.offset_bytes for blob in known],
    }
    await conn.execute(Q.record_blobs, row)


async def record_places(conn: Connection, project_id: UUID, places: Iterable[Place]) -> None:
    """Places that are known already are not collected for a while."""
    known = sorted(places, key=lambda place: place.id)  # one order for all writers, so that none waits for another in a ring
    row = {
        "project_id": project_id,
        "ids": [bytes.fromhex(place.id) for place in known],
        "buckets": [place.bucket for place in known],
        "keys": [place.key for place in known],
        "etags": [place.etag for place in known],
        "versions": [place.version_id for place in known],
        "sizes": [place.size_bytes for place in known],
    }
    await conn.execute(Q.record_places, row)


async def find_places(conn: Connection, project_id: UUID, ids: Iterable[str]) -> dict[str, Place]:
    rows = await conn.execute(Q.find_places, {"project_id": project_id, "ids": [*map(bytes.fromhex, ids)]})
    return {row["id"]: Place(**row) for row in await rows.fetchall()}


async def touch_places(conn: Connection, project_id: UUID, ids: Iterable[str]) -> None:
    """Keep these from being forgotten for a while."""
    await conn.execute(Q.touch_places, {"project_id": project_id, "ids": [*map(bytes.fromhex, ids)], "fresh": FRESH})


async def verify_places(conn: Connection, project_id: UUID, sha256: Mapping[str, str]) -> None:
    """``sha256``: of the bytes, by the place's id."""
    ids = sorted(sha256)
    row = {"ids": [*map(bytes.fromhex, ids)], "digests": [bytes.fromhex(sha256[id]) for id in ids]}
    await conn.execute(Q.verify_places, {"project_id": project_id, **row})


async def find_upload(conn: Connection, project_id: UUID, sha256: str) -> MultipartUpload | None:
    row = await (await conn.execute(Q.find_upload, {"project_id": project_id, "sha256": bytes.fromhex(sha256)})).fetchone()
    return one(MultipartUpload, row)


async def keep_upload(conn: Connection, project_id: UUID, upload: MultipartUpload) -> MultipartUpload:
    """The upload that counts: another client may have begun one first."""
    row = {
        "project_id": project_id,
        "sha256": bytes.fromhex(upload.sha256),
        "size_bytes": upload.size_bytes,
        "upload_id": upload.upload_id,
        "part_size_bytes": upload.part_size_bytes,
    }
    return MultipartUpload(**await _row(conn, Q.keep_upload, row))


async def list_uploads(conn: Connection, project_id: UUID, sha256: Iterable[str]) -> dict[str, MultipartUpload]:
    rows = await conn.execute(Q.list_uploads, {"project_id": project_id, "digests": [bytes.fromhex(each) for each in sha256]})
    return {row["sha256"]: MultipartUpload(**row) for row in await rows.fetchall()}


async def forget_uploads(conn: Connection, project_id: UUID, upload_ids: Iterable[str]) -> None:
    await conn.execute(Q.forget_uploads, {"project_id": project_id, "upload_ids": list(upload_ids)})


async def find_spellings(conn: Connection, project_id: UUID, folded: Iterable[str]) -> set[str]:
    """Recorded paths that have one of these folded forms."""
    rows = await conn.execute(Q.find_spellings, {"project_id": project_id, "folded": [_digest(form) for form in folded]})
    return {row["path"] for row in await rows.fetchall()}


async def record_spellings(conn: Connection, project_id: UUID, forms: Mapping[str, str]) -> None:
    """``forms``: the folded form by path."""
    folded, paths = [_digest(forms[path]) for path in sorted(forms)], sorted(forms)
    if paths:
        await conn.execute(Q.record_spellings, {"project_id": project_id, "folded": folded, "paths": paths})


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


async def set_check(conn: Connection, project_id: UUID, check: Mapping[str, Any]) -> Check | None:
    """None when a report holds it and this one is from none."""
    return _check(await (await conn.execute(Q.set_check, {"project_id": project_id, **check})).fetchone())


async def list_checks(conn: Connection, project_id: UUID, commit_id: UUID, after: str | None, limit: int) -> list[Check]:
    """By name."""
    rows = await conn.execute(Q.list_checks, {"project_id": project_id, "commit_id": commit_id, "after": after, "limit": limit})
    return [check for row in await rows.fetchall() if (check := _check(row))]


async def list_checks_of_tree(conn: Connection, project_id: UUID, dataset_id: UUID, tree: bytes) -> list[Check]:
    """The latest of each name over the dataset's commits that have these files."""
    rows = await conn.execute(Q.list_checks_of_tree, {"project_id": project_id, "dataset_id": dataset_id, "tree": tree})
    return [check for row in await rows.fetchall() if (check := _check(row))]


async def set_protection(conn: Connection, project_id: UUID, dataset_id: UUID, branch: str, spec: ProtectionSpec) -> Protection:
    row = {"project_id": project_id, "dataset_id": dataset_id, "branch": branch, **asdict(spec)}
    row["required_checks"] = list(spec.required_checks)
    made = _protection(await _row(conn, Q.set_protection, row))
    assert made is not None
    return made


async def find_protection(conn: Connection, project_id: UUID, dataset_id: UUID, branch: str) -> Protection | None:
    row = {"project_id": project_id, "dataset_id": dataset_id, "branch": branch}
    return _protection(await (await conn.execute(Q.find_protection, row)).fetchone())


async def list_protections(conn: Connection, project_id: UUID, dataset_id: UUID, after: str | None, limit: int) -> list[Protection]:
    """By branch."""
    row = {"project_id": project_id, "dataset_id": dataset_id, "after": after, "limit": limit}
    return [found for row in await (await conn.execute(Q.list_protections, row)).fetchall() if (found := _protection(row))]


async def delete_protection(conn: Connection, project_id: UUID, dataset_id: UUID, branch: str) -> Protection | None:
    row = {"project_id": project_id, "dataset_id": dataset_id, "branch": branch}
    return _protection(await (await conn.execute(Q.delete_protection, row)).fetchone())


async def _row(conn: Connection, query: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    row = await (await conn.execute(query, values)).fetchone()
    assert row is not None
    return row


def _commit(row: dict[str, Any]) -> Commit:
    return Commit(**{**row, "tree": bytes(row["tree"])})


def _check(row: dict[str, Any] | None) -> Check | None:
    return Check(**{**row, "state": CheckState(row["state"])}) if row else None


def _protection(row: dict[str, Any] | None) -> Protection | None:
    return Protection(**{**row, "required_checks": tuple(row["required_checks"])}) if row else None


def _ref(row: dict[str, Any] | None) -> Ref | None:
    return Ref(**{**row, "kind": RefKind(row["kind"])}) if row else None
