"""A backup of the running platform in one directory: database, objects, and the secrets without which both are unreadable.

The database is dumped first, as of one moment; objects are listed after that moment, so every row's object is there. The manifest
is written last: a directory without it is no backup. An interrupted one is taken up again by the same command.

    manifest.json   versions, row counts, and the SHA-256 of every other file (of objects through objects.jsonl)
    database.dump   pg_dump, custom format
    objects.jsonl   a line an object: key, file, size, SHA-256, content type
    objects/        the bytes, by the SHA-256 of their key: a key never becomes a path
    secrets/        the pepper and the signing keys, mode 0600
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import urllib3
from minio.error import S3Error

from aidos.errors import Conflict, Unavailable
from cluster import dumps, embedded
from cluster.dumps import BackupFailed
from cluster.objects import ObjectInfo, Objects
from cluster.settings import Settings
from cluster.supervision import make_private, write_private

FORMAT = 1
MANIFEST, DUMP, LIST, OBJECTS, SECRETS, UNFINISHED = "manifest.json", "database.dump", "objects.jsonl", "objects", "secrets", "UNFINISHED"
WORKERS = 8
_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 3
_BLOB = re.compile(r"[^/]+/blobs/[0-9a-f]{2}/([0-9a-f]{64})")

Progress = Callable[[str, int, int], None]
"""Told the step, how many bytes more are done, and how many there are in all; from several threads."""


@dataclass(frozen=True)
class StoredObject:
    """One object of a backup; ``file`` is its path in the directory."""

    key: str
    file: str
    size_bytes: int
    sha256: str
    content_type: str


def silent(step: str, amount_bytes: int, total_bytes: int) -> None:
    """A progress that nobody watches."""


def make_backup(settings: Settings, directory: Path, progress: Progress = silent) -> dict[str, Any]:
    """Back the platform up into ``directory``; returns the manifest.

    Raises: Conflict for a directory that is not ours to fill, Unavailable, BackupFailed.
    """
    directory = directory.expanduser().absolute()
    with _claim(directory):
        server = dumps.find_server(settings)
        progress("database", 0, 0)
        database = _dump(server, directory / DUMP)
        stored, vanished = copy_objects(Objects(settings), directory, progress)
        manifest = {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "aidos": importlib.metadata.version("aidos"),
            "database": database,
            "objects": {
                "sha256": hash_file(directory / LIST),
                "count": len(stored),
                "size_bytes": sum(entry.size_bytes for entry in stored),
                "vanished": vanished,
            },
            "secrets": _copy_secrets(settings, directory / SECRETS),
        }
        os.sync()
        write_private(directory / MANIFEST, json.dumps(manifest, indent=1))
    return manifest


@contextlib.contextmanager
def _claim(directory: Path) -> Iterator[None]:
    """Make the directory ours, or take up what an interrupted backup left there."""
    if directory.exists() and not directory.is_dir():
        raise Conflict(reason=f"{directory} is a file: name a directory for the backup.")
    if (directory / MANIFEST).exists():
        raise Conflict(reason=f"{directory} holds a finished backup: name another directory.")
    if directory.exists() and any(directory.iterdir()) and not (directory / UNFINISHED).exists():
        raise Conflict(reason=f"{directory} is not empty and holds no backup of ours: name an empty directory.")
    make_private(directory)
    lock = directory / "backup.lock"
    try:
        with filelock.FileLock(lock, blocking=False):
            write_private(directory / UNFINISHED, "A backup is being made here. The same `aidos backup` goes on with it.\n")
            yield
            (directory / UNFINISHED).unlink()
            lock.unlink(missing_ok=True)
    except filelock.Timeout:
        raise Conflict(reason=f"Another backup into {directory} is at work: wait for it, or name another directory.") from None


def _dump(server: dumps.Server, path: Path) -> dict[str, Any]:
    """Dump as of one moment, and count the rows of that same moment."""
    with server.connect() as connection:
        dumps.refuse_blind(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot(), current_setting('server_version')").fetchone()
        assert row is not None
        rows = dumps.count_rows(connection)
        if not rows:
            raise Conflict(reason="The database is empty: there is nothing to back up.")
        dumps.dump(server, row[0], path)
        migrations = connection.execute("SELECT module || '/' || name FROM cluster.migrations ORDER BY 1").fetchall()
    facts = {"postgres": row[1], "sha256": hash_file(path), "size_bytes": path.stat().st_size}
    return {**facts, "migrations": [name for (name,) in migrations], "rows": rows}


def copy_objects(objects: Objects, directory: Path, progress: Progress) -> tuple[list[StoredObject], list[str]]:
    """Copy every object of the bucket; those that were copied, and the keys of those that were deleted meanwhile."""
    make_private(directory / OBJECTS)
    try:
        found = [
            ObjectInfo(item.object_name or "", item.size or 0, (item.etag or "").strip('"'))
            for item in objects.client.list_objects(objects.bucket, recursive=True)
        ]
        total_bytes = sum(item.size_bytes for item in found)
        progress("objects", 0, total_bytes)

        def copy(item: ObjectInfo) -> StoredObject | None:
            stored = _copy_object(objects, item, directory)
            progress("objects", item.size_bytes, total_bytes)
            return stored

        with ThreadPoolExecutor(WORKERS) as pool:
            copies = list(pool.map(copy, found))
    except (urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Unavailable(reason="The object store does not answer; the same command goes on from here.", retry_after_s=5) from error
    stored = [entry for entry in copies if entry is not None]
    write_private(directory / LIST, "".join(json.dumps(asdict(entry)) + "\n" for entry in stored))
    _drop_strangers(directory, stored)
    return stored, [item.key for item, entry in zip(found, copies, strict=True) if entry is None]


def _copy_object(objects: Objects, item: ObjectInfo, directory: Path) -> StoredObject | None:
    name = hashlib.sha256(item.key.encode()).hexdigest()
    file = f"{OBJECTS}/{name[:2]}/{name}"
    path = directory / file
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if path.exists() and path.stat().st_size == item.size_bytes and item.etag == hash_file(path, "md5"):
            kept = objects.client.stat_object(objects.bucket, item.key)
            if (kept.etag or "").strip('"') == item.etag:
                return StoredObject(item.key, file, item.size_bytes, hash_file(path), kept.content_type or "")
        for _ in range(_ATTEMPTS):
            if stored := _download(objects, item.key, path, file):
                return stored
    except S3Error as error:
        if error.code in {"NoSuchKey", "NoSuchObject", "NotFound"}:
            return None
        raise BackupFailed(reason=f"The object store refused {item.key!r}: {error.code}.") from error
    raise BackupFailed(reason=f"The object {item.key!r} is damaged in the object store: its bytes do not match its checksum.")


def _download(objects: Objects, key: str, path: Path, file: str) -> StoredObject | None:
    """The object as it is now, written beside ``path`` and renamed when its size and checksum are right; else None."""
    sha256, md5, size_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    draft = path.with_suffix(".part")
    response = objects.client.get_object(objects.bucket, key)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            for chunk in response.stream(_CHUNK_BYTES):
                sha256.update(chunk)
                md5.update(chunk)
                size_bytes += len(chunk)
                stream.write(chunk)
    finally:
        response.close()
        response.release_conn()
    etag = response.headers.get("ETag", "").strip('"')
    promised = _BLOB.fullmatch(key)
    # The ETag of an upload in parts is no checksum of the whole.
    intact = "-" in etag or etag == md5.hexdigest()
    if not intact or size_bytes != int(response.headers["Content-Length"]) or (promised and promised[1] != sha256.hexdigest()):
        return None
    draft.replace(path)
    return StoredObject(key, file, size_bytes, sha256.hexdigest(), response.headers.get("Content-Type", ""))


def _drop_strangers(directory: Path, stored: list[StoredObject]) -> None:
    """Remove what an interrupted backup copied of objects that are gone now."""
    known = {directory / entry.file for entry in stored}
    for path in (directory / OBJECTS).glob("*/*"):
        if path not in known:
            path.unlink()


def _copy_secrets(settings: Settings, directory: Path) -> dict[str, str]:
    """The secrets that belong to the data; those of the installation (passwords of its servers, its addresses) stay. SHA-256 by name."""
    make_private(directory)
    copied = {}
    for path in sorted(settings.secret_path("x").parent.glob("aidos_*")):
        if path.name.removeprefix("aidos_") not in embedded.INSTALLATION_SECRETS:
            write_private(directory / path.name, path.read_text())
            copied[path.name] = hash_file(directory / path.name)
    return copied


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
