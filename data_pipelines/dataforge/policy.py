"""Decisions about changes and uploads, from facts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from data_pipelines.dataforge.errors import PackInvalid, PathRepeated, PathsCollide
from data_pipelines.dataforge.manifest import Entry
from data_pipelines.dataforge.models import Change, ChangeKind, File, Pack, StoredBlob

SINGLE_PUT_BYTES = 64 * 2**20
"""Largest blob that is uploaded by one PUT; larger ones go in parts."""
_MOST_PARTS = 1000
_MEBIBYTE = 2**20
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""The content of empty files: it is known without being stored."""


def plan_changes(add: Iterable[File], remove: Iterable[str]) -> dict[str, Entry | None]:
    """The edit of a tree. Raises: PathRepeated."""
    changes: dict[str, Entry | None] = {}
    for path in remove:
        if path in changes:
            raise PathRepeated(path=path)
        changes[path] = None
    for file in add:
        if file.path in changes:
            raise PathRepeated(path=file.path)
        changes[file.path] = Entry(bytes.fromhex(file.sha256), 1, file.size_bytes)
    return changes


def folders(paths: Iterable[str]) -> dict[str, str]:
    """Every folder above the paths, each with one path under it."""
    above: dict[str, str] = {}
    for path in paths:
        folder = path
        while "/" in folder:
            folder = folder.rsplit("/", 1)[0]
            if folder in above:
                break
            above[folder] = path
    return above


def refuse_collisions(above: Mapping[str, str], found: Iterable[str], following: Mapping[str, str]) -> None:
    """Refuse a path that is a file and a folder at once: no file system could hold both.

    ``found``: those folders ``above`` that are files of the tree; ``following``: for ``path/`` the first file not before it.
    Raises: PathsCollide.
    """
    for file in found:
        raise PathsCollide(file=file, path=above[file])
    for folder, path in following.items():
        if path.startswith(folder):
            raise PathsCollide(file=folder.removesuffix("/"), path=path)


def part_size_bytes(size_bytes: int) -> int:
    """Size of the parts of a multipart upload: 64 MiB, more where that would make over 1,000 parts."""
    least = -(-size_bytes // _MOST_PARTS)
    return max(SINGLE_PUT_BYTES, -(-least // _MEBIBYTE) * _MEBIBYTE)


def part_numbers(size_bytes: int, part_bytes: int) -> range:
    """Numbers of all parts, from 1."""
    return range(1, -(-size_bytes // part_bytes) + 1)


def verify_pack(pack: Pack, data: bytes) -> list[StoredBlob]:
    """The blobs in a pack, each hashed. Raises: PackInvalid."""
    if len(data) != pack.size_bytes or hashlib.sha256(data).hexdigest() != pack.sha256:
        raise PackInvalid(sha256=pack.sha256, reason=f"its {len(data)} bytes have another SHA-256 or length")
    view = memoryview(data)
    for entry in pack.entries:
        part = view[entry.offset_bytes : entry.offset_bytes + entry.size_bytes]
        if len(part) != entry.size_bytes or hashlib.sha256(part).hexdigest() != entry.sha256:
            raise PackInvalid(sha256=pack.sha256, reason=f"the {entry.size_bytes} bytes at {entry.offset_bytes} are not {entry.sha256}")
    return [StoredBlob(entry.sha256, entry.size_bytes, pack.sha256, entry.offset_bytes) for entry in pack.entries]


def to_change(path: str, old: Entry | None, new: Entry | None) -> Change:
    """One line of a diff."""
    kind = ChangeKind.ADDED if old is None else ChangeKind.REMOVED if new is None else ChangeKind.CHANGED
    return Change(
        path,
        kind,
        old_sha256=old.digest.hex() if old else None,
        new_sha256=new.digest.hex() if new else None,
        old_size_bytes=old.size_bytes if old else None,
        new_size_bytes=new.size_bytes if new else None,
    )
