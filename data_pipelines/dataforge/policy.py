"""Decisions about changes and uploads, from facts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from unicodedata import normalize

from data_pipelines.dataforge.errors import PackInvalid, PathRepeated, PathsCollide, PathsDifferInForm
from data_pipelines.dataforge.manifest import Differing
from data_pipelines.dataforge.models import (
    Change,
    ChangeKind,
    Check,
    CheckState,
    DiffStat,
    File,
    Pack,
    Protection,
    StoredBlob,
)
from data_pipelines.dataforge.nodes import Entry

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


def refuse_collisions(added: Iterable[str], above: Mapping[str, str], found: Iterable[str], under: Mapping[str, str]) -> None:
    """Refuse a path that is a file and a folder at once: no file system could hold both.

    ``above``: the folders of the added paths, each with one of these; ``found``: those of them, and others, that are files of the tree;
    ``under``: folders of the tree, each with a file in it. Raises: PathsCollide.
    """
    for file in found:
        if file in above:
            raise PathsCollide(file=file, path=above[file])
    for path in added:
        if path in under:
            raise PathsCollide(file=path, path=under[path])


def fold(path: str) -> str:
    """What a path has in common with those that differ by case or Unicode form only: canonical caseless matching (Unicode 17, D145)."""
    if path.isascii():
        return path.lower()
    return normalize("NFC", normalize("NFD", path).casefold())


def spellings(added: Iterable[str]) -> dict[str, str]:
    """The folded form of each path. Raises: PathsDifferInForm when two have the same."""
    folded = {path: fold(path) for path in added}
    first: dict[str, str] = {}
    for path, form in folded.items():
        if first.setdefault(form, path) != path:
            raise PathsDifferInForm(path=path, other=first[form])
    return folded


def suspects(folded: Mapping[str, str], spelt: Iterable[str]) -> dict[str, str]:
    """Other spellings of the paths (or folders), each with the path.

    ``spelt``: every path or folder with one of the folded forms that was ever added and is not in that form itself; of those
    that are, the form is the path.
    """
    path_of = {form: path for path, form in folded.items()}
    others = {form: path for form, path in path_of.items() if form != path}
    return others | {other: path for other in spelt if (path := path_of.get(fold(other), other)) != other}


def refuse_other_forms(
    like_files: Mapping[str, str], like_folders: Mapping[str, str], found: Iterable[str], under: Mapping[str, str]
) -> None:
    """Refuse a path beside which there is one that differs by case or Unicode form only, or whose folder does.

    ``like_files``: other spellings of the added paths, each with its path; ``like_folders``: of the folders above them, each with a
    path; ``found`` and ``under`` as above. Raises: PathsDifferInForm.
    """
    suspected = {**like_folders, **like_files}
    for other in found:
        if other in suspected:
            raise PathsDifferInForm(path=suspected[other], other=other)
    for other, path in like_files.items():
        if other in under:
            raise PathsDifferInForm(path=path, other=under[other])


def obstacle(protection: Protection, checks: Iterable[Check], *, by_pull_request: bool) -> str | None:
    """Why commits with these checks may not land on the branch; None: they may."""
    if protection.require_pull_request and not by_pull_request:
        return "only a pull request changes it"
    states = {check.name: check.state for check in checks}
    missing = [name for name in protection.required_checks if states.get(name) is not CheckState.PASSED]
    if not missing:
        return None
    return "these files have not passed " + ", ".join(f"'{name}' ({states.get(name, 'not run')})" for name in missing)


def to_stat(differing: Iterable[Differing]) -> DiffStat:
    """Counts and bytes of a diff."""
    added = changed = removed = added_bytes = removed_bytes = 0
    for _, old, new in differing:
        added += old is None
        removed += new is None
        changed += old is not None and new is not None
        added_bytes += new.size_bytes if new else 0
        removed_bytes += old.size_bytes if old else 0
    return DiffStat(added, changed, removed, added_bytes, removed_bytes)


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
