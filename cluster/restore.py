"""The way back from a backup: everything in it is verified before anything here is touched.

Objects come first, then secrets, then the database, so an interrupted restore leaves no row without its object and is begun
again by the same command.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from minio.error import S3Error

from aidos.errors import Conflict, Unavailable
from cluster import backup, dumps
from cluster.backup import Progress, StoredObject, hash_file, silent
from cluster.dumps import BackupFailed
from cluster.objects import Objects
from cluster.settings import Settings
from cluster.supervision import write_private

_PART_BYTES = 64 << 20


@dataclass(frozen=True)
class Restored:
    """What came back; ``strangers`` counts objects in the bucket that the backup does not have (they are left alone)."""

    made_at: str
    tables: int
    rows: int
    objects: int
    size_bytes: int
    strangers: int


def restore_backup(settings: Settings, directory: Path, *, replace: bool = False, progress: Progress = silent) -> Restored:
    """Restore into an installation whose database and object store run and whose platform does not.

    Raises: Conflict when there is something to lose and not ``replace``, BackupFailed for a damaged backup, Unavailable.
    """
    directory = directory.expanduser().absolute()
    manifest = read_manifest(directory)
    stored = read_objects(directory, manifest)
    total_bytes = 2 * manifest["objects"]["size_bytes"] + manifest["database"]["size_bytes"]
    verify(directory, manifest, stored, lambda amount: progress("verify", amount, total_bytes))
    server = dumps.find_server(settings)
    _refuse_loss(settings, server, directory, manifest, replace)
    strangers = _put_objects(Objects(settings), directory, stored, lambda amount: progress("objects", amount, total_bytes))
    for name in manifest["secrets"]:
        write_private(settings.home / backup.SECRETS / name, (directory / backup.SECRETS / name).read_text())
    progress("database", 0, total_bytes)
    dumps.load(server, directory / backup.DUMP)
    with server.connect() as connection:
        rows = dumps.count_rows(connection)
    if rows != manifest["database"]["rows"]:
        wrong = sorted(
            name for name in rows.keys() | manifest["database"]["rows"] if rows.get(name) != manifest["database"]["rows"].get(name)
        )
        raise BackupFailed(reason=f"After the restore these tables have other row counts than the backup: {', '.join(wrong)}.")
    return Restored(manifest["made_at"], len(rows), sum(rows.values()), len(stored), manifest["objects"]["size_bytes"], strangers)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Raises: Conflict unless the directory holds a finished backup of a format that this version reads."""
    try:
        manifest = dict(json.loads((directory / backup.MANIFEST).read_text()))
    except OSError:
        raise Conflict(reason=f"{directory} holds no finished backup: its {backup.MANIFEST}, written last, is missing.") from None
    except ValueError:
        raise BackupFailed(reason=f"{directory / backup.MANIFEST} is damaged.") from None
    if manifest.get("format") != backup.FORMAT:
        raise Conflict(reason=f"{directory} holds a backup of format {manifest.get('format')}; this version reads format {backup.FORMAT}.")
    return manifest


def read_objects(directory: Path, manifest: dict[str, Any]) -> list[StoredObject]:
    """The list of objects. Raises: BackupFailed when it is not the one that the manifest was written for."""
    path = directory / backup.LIST
    _check(path, manifest["objects"]["sha256"])
    return [StoredObject(**json.loads(line)) for line in path.read_text().splitlines()]


def verify(directory: Path, manifest: dict[str, Any], stored: list[StoredObject], tell: Callable[[int], None]) -> None:
    """Compare every file with its SHA-256. Raises: BackupFailed naming the first that differs."""
    _check(directory / backup.DUMP, manifest["database"]["sha256"])
    tell(manifest["database"]["size_bytes"])
    for name, sha256 in manifest["secrets"].items():
        _check(directory / backup.SECRETS / name, sha256)

    def check(entry: StoredObject) -> None:
        _check(directory / entry.file, entry.sha256)
        tell(entry.size_bytes)

    with ThreadPoolExecutor(backup.WORKERS) as pool:
        for _ in pool.map(check, stored):
            pass


def _check(path: Path, sha256: str) -> None:
    try:
        intact = hash_file(path) == sha256
    except OSError as error:
        raise BackupFailed(reason=f"{path} cannot be read ({error.strerror}): the backup is not whole.") from None
    if not intact:
        raise BackupFailed(reason=f"{path} is not what was backed up: its SHA-256 differs.")


def _refuse_loss(settings: Settings, server: dumps.Server, directory: Path, manifest: dict[str, Any], replace: bool) -> None:
    with server.connect() as connection:
        tables = len(dumps.count_rows(connection))
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'aidos'"
        ).fetchone()
    if row and row[0]:
        raise Conflict(reason="The platform runs on this database: `aidos down`, then `aidos up --only postgres --only s3`, then restore.")
    if tables and not replace:
        raise Conflict(reason=f"The database is not empty ({tables} tables): --replace destroys what is in it and restores the backup.")
    for name in manifest["secrets"]:
        here = settings.home / backup.SECRETS / name
        if not replace and here.exists() and here.read_text() != (directory / backup.SECRETS / name).read_text():
            raise Conflict(reason=f"{here} differs from the backup's: --replace destroys it and restores the backup.")


def _put_objects(objects: Objects, directory: Path, stored: Iterable[StoredObject], tell: Callable[[int], None]) -> int:
    """Upload what is not there yet; how many objects are there that the backup does not have."""
    client, bucket, lock = objects.client, objects.bucket, threading.Lock()
    try:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
        there = {item.object_name: (item.etag or "").strip('"') for item in client.list_objects(bucket, recursive=True)}

        def put(entry: StoredObject) -> None:
            path = directory / entry.file
            with lock:
                etag = there.pop(entry.key, None)
            if etag is None or etag != hash_file(path, "md5"):
                client.fput_object(bucket, entry.key, str(path), content_type=entry.content_type, part_size=_PART_BYTES)
            tell(entry.size_bytes)

        with ThreadPoolExecutor(backup.WORKERS) as pool:
            for _ in pool.map(put, stored):
                pass
    except S3Error as error:
        raise BackupFailed(reason=f"The object store refused an object: {error.code}.") from error
    except (urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Unavailable(reason="The object store does not answer; the same command begins again.", retry_after_s=5) from error
    return len(there)
