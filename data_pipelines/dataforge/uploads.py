"""Bytes on their way in: which blobs are missing, where they go, and the check that they came.

The verbs that ask S3 take a ``transaction`` to open short ones before and after, never around, a call over the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.errors import Unavailable
from cluster.db import Connection
from cluster.objects import Objects, blob_key
from data_pipelines.dataforge import policy, store
from data_pipelines.dataforge.datasets import get_dataset
from data_pipelines.dataforge.errors import BlobSizeDiffers, PackInvalid
from data_pipelines.dataforge.models import Blob, Completed, MissingBlob, MultipartUpload, Pack, Parts, PartUrl, StoredBlob

Transact = Callable[[], AbstractAsyncContextManager[Connection]]


async def request_uploads(
    conn: Connection, scope: Scope, objects: Objects, dataset: str, blobs: Sequence[Blob], *, presign: bool
) -> list[MissingBlob]:
    """Those blobs that are not here yet. A URL takes only the content with that SHA-256.

    Raises: DatasetNotFound, BlobSizeDiffers, Unavailable.
    """
    await get_dataset(conn, scope, dataset)
    await _rely(conn, scope, [blob.sha256 for blob in blobs])
    missing = _unknown(await store.find_blobs(conn, scope.project, [blob.sha256 for blob in blobs]), blobs)
    return [_missing(scope.project, objects, blob, presign and blob.size_bytes <= policy.SINGLE_PUT_BYTES) for blob in missing]


async def _rely(conn: Connection, scope: Scope, objects: Sequence[str], contents: Sequence[str] = ()) -> None:
    """Keep what is stored of these from being collected while the caller is at it. Raises: Unavailable while one is being deleted."""
    await store.touch_blobs(conn, scope.project, [*objects, *contents], objects)
    leaving = await store.find_condemned(conn, scope.project, [*objects, *contents], objects)
    if leaving:
        raise Unavailable(reason=f"Unused content {leaving} is being deleted and can be uploaded anew afterwards.", retry_after_s=2)


def _missing(project_id: UUID, objects: Objects, blob: Blob, presign: bool) -> MissingBlob:
    if not presign:
        return MissingBlob(blob.sha256, blob.size_bytes)
    url, headers = objects.presign_blob(project_id, blob.sha256)
    return MissingBlob(blob.sha256, blob.size_bytes, url, headers)


def _unknown(known: dict[str, StoredBlob], blobs: Iterable[Blob]) -> list[Blob]:
    """Blobs that are neither known nor empty, each once. Raises: BlobSizeDiffers."""
    sizes = {sha256: blob.size_bytes for sha256, blob in known.items()} | {policy.EMPTY_SHA256: 0}
    missing: dict[str, Blob] = {}
    for blob in blobs:
        size_bytes = sizes.setdefault(blob.sha256, blob.size_bytes)
        if size_bytes != blob.size_bytes:
            raise BlobSizeDiffers(sha256=blob.sha256, actual=size_bytes, stated=blob.size_bytes)
        if blob.sha256 not in known and blob.sha256 != policy.EMPTY_SHA256:
            missing[blob.sha256] = blob
    return list(missing.values())


async def request_parts(transaction: Transact, scope: Scope, objects: Objects, dataset: str, blob: Blob) -> Parts:
    """URLs of the parts of a large blob that are still missing; begins the multipart upload or takes up the one there is.

    Raises: DatasetNotFound, BlobSizeDiffers, Unavailable.
    """
    async with transaction() as conn:
        await get_dataset(conn, scope, dataset)
        await _rely(conn, scope, [blob.sha256])
        missing = _unknown(await store.find_blobs(conn, scope.project, [blob.sha256]), [blob])
        upload = await store.find_upload(conn, scope.project, blob.sha256)
    part_bytes = policy.part_size_bytes(blob.size_bytes)
    if not missing:
        return Parts(part_bytes, ())
    if upload and upload.size_bytes != blob.size_bytes:
        raise BlobSizeDiffers(sha256=blob.sha256, actual=upload.size_bytes, stated=blob.size_bytes)
    key = blob_key(scope.project, blob.sha256)
    there = await objects.find_parts(key, upload.upload_id) if upload else None
    if upload is None or there is None:
        upload, there = await _begin(transaction, scope, objects, blob, stale=upload), {}
    wanted = [number for number in policy.part_numbers(blob.size_bytes, upload.part_size_bytes) if number not in there]
    return Parts(upload.part_size_bytes, tuple(PartUrl(n, objects.presign_part(key, upload.upload_id, n)) for n in wanted))


async def _begin(transaction: Transact, scope: Scope, objects: Objects, blob: Blob, stale: MultipartUpload | None) -> MultipartUpload:
    """A new multipart upload, or the one that another client began at the same moment."""
    key = blob_key(scope.project, blob.sha256)
    part_bytes = policy.part_size_bytes(blob.size_bytes)
    begun = MultipartUpload(blob.sha256, blob.size_bytes, await objects.start_multipart(key), part_bytes)
    async with transaction() as conn:
        if stale:
            await store.forget_uploads(conn, scope.project, [stale.upload_id])
        kept = await store.keep_upload(conn, scope.project, begun)
    if kept.upload_id != begun.upload_id:
        await objects.abort_multipart(key, begun.upload_id)
    return kept


async def complete_uploads(
    transaction: Transact, change: Transact, scope: Scope, objects: Objects, dataset: str, blobs: Sequence[Blob], packs: Sequence[Pack]
) -> Completed:
    """Look in S3 for what was uploaded, and remember in ``change`` what is there: a commit may then name it.

    Raises: DatasetNotFound, BlobSizeDiffers, PackInvalid, Unavailable.
    """
    async with transaction() as conn:
        await get_dataset(conn, scope, dataset)
        entries = [entry.sha256 for pack in packs for entry in pack.entries]
        await _rely(conn, scope, [*(blob.sha256 for blob in blobs), *(pack.sha256 for pack in packs)], entries)
        unknown = _unknown(await store.find_blobs(conn, scope.project, [blob.sha256 for blob in blobs]), blobs)
        uploads = await store.list_uploads(conn, scope.project, [blob.sha256 for blob in unknown])
    seen = await asyncio.gather(*(_look(scope.project, objects, blob, uploads.get(blob.sha256)) for blob in unknown))
    packed = [blob for pack in packs for blob in await _open_pack(scope.project, objects, pack)]
    stored = [StoredBlob(blob.sha256, blob.size_bytes) for blob, there in zip(unknown, seen, strict=True) if there]
    stored += [blob for blob in packed if blob.size_bytes]
    done = {blob.sha256 for blob in stored}
    async with change() as conn:
        await store.record_blobs(conn, scope.project, {blob.sha256: blob for blob in stored}.values())
        await store.forget_uploads(conn, scope.project, [upload.upload_id for sha256, upload in uploads.items() if sha256 in done])
    return Completed(len(done), tuple(blob.sha256 for blob in unknown if blob.sha256 not in done))


async def _look(project_id: UUID, objects: Objects, blob: Blob, upload: MultipartUpload | None) -> bool:
    """Whether S3 holds the blob with its size, joining its parts if they are all there."""
    key = blob_key(project_id, blob.sha256)
    if upload:
        parts = await objects.find_parts(key, upload.upload_id)
        if parts is not None:
            if sum(parts.values()) != blob.size_bytes:
                return False
            await objects.finish_multipart(key, upload.upload_id)
    found = await objects.find(key)
    return found is not None and found.size_bytes == blob.size_bytes


async def _open_pack(project_id: UUID, objects: Objects, pack: Pack) -> list[StoredBlob]:
    key = blob_key(project_id, pack.sha256)
    found = await objects.find(key)
    if found is None or found.size_bytes != pack.size_bytes:
        raise PackInvalid(sha256=pack.sha256, reason="it was not uploaded with this size")
    return await asyncio.to_thread(policy.verify_pack, pack, await objects.get(key))
