"""Artifacts by path: written whole through the platform or in parts straight to the object store, listed, read, deleted.

A path is only a name: the key in the object store is made here. Verbs that take ``conn`` are for short transactions; ``receive``,
``begin``, ``join`` and ``drop`` use the network and run between them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.artifacts import store
from actors.modelhub.artifacts.errors import InvalidArtifactPath, NoSuchArtifact, PartsMissing, ReadOnlyArtifacts, UploadNotFound
from actors.modelhub.artifacts.models import Entry, Location, OwnerKind, StoredFile, Upload
from actors.modelhub.logged import service as logged
from actors.modelhub.traces import service as traces
from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from cluster.objects import ObjectInfo, Objects, prefix_key

MOST_ENTRIES = 10_000
MOST_PARTS = 10_000
_PATH = re.compile(r"[^\x00-\x1f\x7f\\]{1,500}")


def parse_location(path: str) -> Location:
    """``runs/<id>/artifacts/a/b.txt`` and the like. Raises: InvalidArtifactPath."""
    kind, id, middle, *rest = [*path.split("/"), "", "", ""][: max(3, path.count("/") + 1)]
    try:
        if middle != "artifacts":
            raise ValueError("not the artifacts of something")
        return Location(OwnerKind(kind), UUID(id.removeprefix("m-")), check_path("/".join(rest)))
    except ValueError:
        raise InvalidArtifactPath(path=path[:600]) from None


def check_path(path: str) -> str:
    """A relative path, or the empty one. Raises: InvalidArtifactPath."""
    if path and (not _PATH.fullmatch(path) or any(part in {"", ".", ".."} for part in path.split("/"))):
        raise InvalidArtifactPath(path=path[:600])
    return path


async def check_writable(conn: Connection, scope: Scope, at: Location) -> None:
    """Raises: RunNotFound, LoggedModelNotFound, TraceNotFound, ReadOnlyArtifacts; InvalidArtifactPath when there is no path."""
    if not at.path:
        raise InvalidArtifactPath(path="")
    await _require_owner(conn, scope, at)


async def _require_owner(conn: Connection, scope: Scope, at: Location) -> None:
    if at.kind is OwnerKind.VERSION:
        raise ReadOnlyArtifacts
    if at.kind is OwnerKind.RUN:
        await service.get_run(conn, scope, at.owner_id)
    elif at.kind is OwnerKind.MODEL:
        await logged.get_model(conn, scope, at.owner_id)
    else:
        await traces.require_trace(conn, scope, at.owner_id)


async def find_file(conn: Connection, scope: Scope, at: Location) -> StoredFile:
    """Raises: NoSuchArtifact."""
    if found := await store.find_file(conn, scope.project, at):
        return found
    raise NoSuchArtifact(path=at.path)


async def list_folder(conn: Connection, scope: Scope, at: Location, limit: int = MOST_ENTRIES, offset: int = 0) -> list[Entry]:
    """What lies directly in a folder, by name; nothing where there is none."""
    return await store.list_folder(conn, scope.project, at, limit, offset)


async def list_tree(conn: Connection, scope: Scope, at: Location, limit: int) -> list[StoredFile]:
    """All files of a folder of a run, a model or a trace."""
    return await store.list_tree(conn, scope.project, at, limit)


async def delete(conn: Connection, scope: Scope, at: Location) -> None:
    """A file, or a folder with all in it. Raises: NoSuchArtifact, ReadOnlyArtifacts, RunNotFound, InvalidArtifactPath without a path."""
    await check_writable(conn, scope, at)
    if not await store.delete_artifacts(conn, scope.project, at):
        raise NoSuchArtifact(path=at.path)


def build_key(scope: Scope, at: Location) -> str:
    """A key of the object store that nothing has yet."""
    return prefix_key(scope.project, "artifacts", at.owner_id, str(new_id()))


async def receive(objects: Objects, key: str, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
    """Store what comes in under ``key``; its SHA-256 and size in bytes."""
    digest, size_bytes = hashlib.sha256(), 0

    async def measured() -> AsyncIterator[bytes]:
        nonlocal size_bytes
        async for chunk in chunks:
            digest.update(chunk)
            size_bytes += len(chunk)
            yield chunk

    await objects.put_stream(key, measured())
    return digest.hexdigest(), size_bytes


async def put(conn: Connection, scope: Scope, at: Location, key: str, sha256: str, size_bytes: int) -> None:
    """The path stands for what lies under ``key`` now. Raises: RunNotFound."""
    await check_writable(conn, scope, at)
    await store.put_artifact(conn, scope.project, at, key, sha256, size_bytes)


async def begin(objects: Objects, key: str, parts: int) -> tuple[Upload, list[str]]:
    """Begin an upload in parts, and the URLs that its parts are PUT to."""
    upload = Upload(await objects.start_multipart(key), key, parts)
    return upload, [objects.presign_part(key, upload.upload_id, number) for number in range(1, parts + 1)]


async def announce(conn: Connection, scope: Scope, at: Location, upload: Upload) -> None:
    """Remember an upload that was begun."""
    await store.insert_upload(conn, scope.project, at, upload)


async def get_upload(conn: Connection, scope: Scope, at: Location, upload_id: str) -> Upload:
    """Raises: UploadNotFound."""
    if found := await store.find_upload(conn, scope.project, at, upload_id):
        return found
    raise UploadNotFound(upload_id=upload_id, path=at.path)


async def join(objects: Objects, at: Location, upload: Upload) -> ObjectInfo:
    """Make one object of the parts. Raises: PartsMissing, UploadNotFound."""
    parts = await objects.find_parts(upload.key, upload.upload_id)
    if parts is None:
        raise UploadNotFound(upload_id=upload.upload_id, path=at.path)
    if len(parts) != upload.parts:
        raise PartsMissing(path=at.path, expected=upload.parts, actual=len(parts))
    return await objects.finish_multipart(upload.key, upload.upload_id)


async def complete(conn: Connection, scope: Scope, at: Location, upload: Upload, stored: ObjectInfo) -> None:
    """The path stands for the joined parts now. Raises: UploadNotFound, RunNotFound."""
    if not await store.delete_upload(conn, scope.project, at, upload.upload_id):
        raise UploadNotFound(upload_id=upload.upload_id, path=at.path)
    await put(conn, scope, at, upload.key, "", stored.size_bytes)


async def abort(conn: Connection, scope: Scope, at: Location, upload: Upload) -> None:
    """Forget an upload; its parts are dropped from the object store afterwards."""
    await store.delete_upload(conn, scope.project, at, upload.upload_id)
