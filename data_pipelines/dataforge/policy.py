"""Decisions about changes and uploads, from facts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from unicodedata import normalize
from uuid import UUID

from data_pipelines.dataforge.errors import MergeConflict, NotInConflict, PackInvalid, PathRepeated, PathsCollide, PathsDifferInForm
from data_pipelines.dataforge.manifest import Differing
from data_pipelines.dataforge.models import (
    Change,
    ChangeKind,
    Check,
    CheckState,
    Commit,
    DiffStat,
    File,
    Pack,
    PathConflict,
    Protection,
    Resolution,
    Side,
    StoredBlob,
)
from data_pipelines.dataforge.nodes import Entry

SINGLE_PUT_BYTES = 64 * 2**20
"""Largest blob that is uploaded by one PUT; larger ones go in parts."""
_MOST_PARTS = 1000
_MOST_CONFLICTS_TOLD = 100
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

    ``found``: files of the tree, those folders ``above`` that are among them included; ``following``: for ``path/`` the first file not before it.
    Raises: PathsCollide.
    """
    for file in found:
        if file in above:
            raise PathsCollide(file=file, path=above[file])
    for folder, path in following.items():
        if path.startswith(folder):
            raise PathsCollide(file=folder.removesuffix("/"), path=path)


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


def suspects(folded: Mapping[str, str], recorded: Iterable[str]) -> dict[str, str]:
    """Paths that must not be there beside an added one, each with that one.

    ``recorded``: every path with one of the folded forms that was ever added and is not in that form itself; of those that
    are, the form is the path.
    """
    path_of = {form: path for path, form in folded.items()}
    others = {form: path for form, path in path_of.items() if form != path}
    return others | {other: path for other in recorded if (path := path_of[fold(other)]) != other}


def refuse_other_forms(suspected: Mapping[str, str], found: Iterable[str]) -> None:
    """Refuse an added path beside which one is ``found`` that differs by case or Unicode form only. Raises: PathsDifferInForm."""
    for other in found:
        if other in suspected:
            raise PathsDifferInForm(path=suspected[other], other=other)


def obstacle(protection: Protection, checks: Iterable[Check], *, by_pull_request: bool) -> str | None:
    """Why commits with these checks may not land on the branch; None: they may."""
    if protection.require_pull_request and not by_pull_request:
        return "only a pull request changes it"
    states = {check.name: check.state for check in checks}
    missing = [name for name in protection.required_checks if states.get(name) is not CheckState.PASSED]
    if not missing:
        return None
    return "these files have not passed " + ", ".join(f"'{name}' ({states.get(name, 'not run')})" for name in missing)


def merge_base(log: Iterable[Commit], left: UUID, right: UUID) -> Commit | None:
    """The best common ancestor: of those that both come from (or are) the one of the highest generation, so no other comes from it.

    ``log``: the ancestors of both by falling generation, complete down to where it ends.
    """
    reached: dict[UUID, set[UUID]] = {left: {left}, right: {right}}
    for commit in log:
        by = reached.pop(commit.id, set())
        if by >= {left, right}:
            return commit
        for parent in commit.parents:
            reached.setdefault(parent, set()).update(by)
    return None


class ThreeWay(NamedTuple):
    """A merge of two sides on what they have in common: what each changed alone, and what both did in different ways."""

    ours: dict[str, Entry | None]
    theirs: dict[str, Entry | None]
    conflicts: dict[str, Differing]
    """Entries here are ours (``old``) and theirs (``new``)."""
    base: dict[str, Entry | None]
    """The entries of the paths in conflict in what the sides have in common."""


def three_way(ours: Iterable[Differing], theirs: Iterable[Differing]) -> ThreeWay:
    """Bring together what differs from the common base on each side."""
    left, right = {each.path: each for each in ours}, {each.path: each for each in theirs}
    both = left.keys() & right.keys()
    conflicts = {path: Differing(path, left[path].new, right[path].new) for path in sorted(both) if left[path].new != right[path].new}
    return ThreeWay(
        {path: each.new for path, each in left.items() if path not in both},
        {path: each.new for path, each in right.items() if path not in both},
        conflicts,
        {path: left[path].old for path in conflicts},
    )


def settle(merge: ThreeWay, resolution: Resolution) -> dict[str, Entry | None]:
    """What the paths in conflict get, and others that are given. Raises: MergeConflict, NotInConflict, PathRepeated."""
    given = plan_changes(resolution.add, resolution.remove)
    for path in resolution.take:
        if path not in merge.conflicts:
            raise NotInConflict(path=path)
        if path in given:
            raise PathRepeated(path=path)
    settled: dict[str, Entry | None] = {}
    for path, (_, ours, theirs) in merge.conflicts.items():
        side = resolution.take.get(path, resolution.strategy)
        if side is not None:
            settled[path] = {Side.OURS: ours, Side.THEIRS: theirs, Side.BASE: merge.base[path]}[side]
    open_ = [path for path in merge.conflicts if path not in settled and path not in given]
    if open_:
        raise MergeConflict(
            count=len(open_), path=open_[0], conflicts=[_describe(to_conflict(merge, path)) for path in open_[:_MOST_CONFLICTS_TOLD]]
        )
    return settled | given


def to_conflict(merge: ThreeWay, path: str) -> PathConflict:
    """One path in conflict with the three contents."""
    _, ours, theirs = merge.conflicts[path]
    base, ours_file, theirs_file = (
        File(path, entry.digest.hex(), entry.size_bytes) if entry else None for entry in (merge.base[path], ours, theirs)
    )
    return PathConflict(path, base, ours_file, theirs_file)


def _describe(conflict: PathConflict) -> dict[str, str | None]:
    sides = {"base": conflict.base, "ours": conflict.ours, "theirs": conflict.theirs}
    return {"path": conflict.path, **{side: file.sha256 if file else None for side, file in sides.items()}}


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
