"""Merges of trees by path: the ancestors that two histories have in common, what each side changed since, and what is in conflict.

Two histories may have several best common ancestors, where each was merged into the other. Then these are merged in their turn, and the
result is the base, as git's recursive strategy has it: https://git-scm.com/docs/merge-strategies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from data_pipelines.dataforge.errors import MergeConflict, NotInConflict, PathRepeated
from data_pipelines.dataforge.manifest import Differing
from data_pipelines.dataforge.models import Commit, File, PathConflict, Resolution, Side
from data_pipelines.dataforge.nodes import Entry
from data_pipelines.dataforge.policy import plan_changes

_MOST_CONFLICTS_TOLD = 100
_LEFT, _RIGHT, _STALE = 1, 2, 4


def merge_bases(log: Iterable[Commit], left: Iterable[UUID], right: Iterable[UUID]) -> tuple[list[Commit], bool]:
    """The best common ancestors of two sides, those that no other of them comes from, by falling generation; and whether these are all.

    ``log``: the ancestors of both by falling generation, complete down to where it ends. As git paints them: commit-reach.c.
    """
    marks = dict.fromkeys(left, _LEFT)
    marks |= {id: marks.get(id, 0) | _RIGHT for id in right}
    found = []
    for commit in log:
        if not _may_meet(marks.values()):
            break
        mark = marks.pop(commit.id, 0)
        if mark == _LEFT | _RIGHT:
            found.append(commit)
            mark |= _STALE
        for parent in commit.parents:
            marks[parent] = marks.get(parent, 0) | mark
    return found, not _may_meet(marks.values())


def _may_meet(marks: Collection[int]) -> bool:
    """Whether both sides still have commits that are not ancestors of a base."""
    return all(any(side & mark and mark < _STALE for mark in marks) for side in (_LEFT, _RIGHT))


class Ancestor(NamedTuple):
    """What two sides have in common: a tree, and where it is several commits' the paths at which these, merged, differ from it."""

    tree: bytes
    merged: Mapping[str, Differing] = MappingProxyType({})


UNCLEAR = Entry(b"", 0, 0)
"""What an ancestor has at a path where the commits that it is made of are in conflict: it equals no side."""


def differing(trees: Iterable[Differing], old: Ancestor, new: Ancestor) -> dict[str, Differing]:
    """What differs between two ancestors by path; ``trees``: what differs between their trees."""
    found = {each.path: each for each in trees}
    for path in old.merged.keys() | new.merged.keys():
        alike = (old.merged.get(path) or new.merged[path]).old
        before, after = found.pop(path)[1:] if path in found else (alike, alike)
        before = old.merged[path].new if path in old.merged else before
        after = new.merged[path].new if path in new.merged else after
        if before != after:
            found[path] = Differing(path, before, after)
    return found


class ThreeWay(NamedTuple):
    """A merge of two sides on what they have in common: what each changed alone, and what both did in different ways."""

    ours: dict[str, Differing]
    theirs: dict[str, Differing]
    conflicts: dict[str, Differing]
    """Entries here are ours (``old``) and theirs (``new``)."""
    base: dict[str, Entry | None]
    """The entries of the paths in conflict in what the sides have in common."""


def three_way(ours: Mapping[str, Differing], theirs: Mapping[str, Differing]) -> ThreeWay:
    """Bring together what differs from the common base on each side."""
    both = ours.keys() & theirs.keys()
    conflicts = {path: Differing(path, ours[path].new, theirs[path].new) for path in sorted(both) if ours[path].new != theirs[path].new}
    return ThreeWay(
        {path: each for path, each in ours.items() if path not in both},
        {path: each for path, each in theirs.items() if path not in both},
        conflicts,
        {path: ours[path].old for path in conflicts},
    )


def to_ancestor(ours: Ancestor, sides: ThreeWay) -> Ancestor:
    """What a merge into ``ours`` comes to, unclear where it is in conflict."""
    brought = sides.theirs | {path: Differing(path, each.old, UNCLEAR) for path, each in sides.conflicts.items()}
    merged = dict(ours.merged)
    for path, each in brought.items():
        in_tree = merged[path].old if path in merged else each.old
        merged[path] = Differing(path, in_tree, each.new)
    return Ancestor(ours.tree, merged)


def contents(side: Mapping[str, Differing]) -> dict[str, Entry | None]:
    """What one side gives its paths."""
    return {path: each.new for path, each in side.items()}


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
        chosen = {Side.OURS: ours, Side.THEIRS: theirs, Side.BASE: merge.base[path]}[side] if side else UNCLEAR
        if chosen != UNCLEAR:
            settled[path] = chosen
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
        File(path, entry.digest.hex(), entry.size_bytes) if entry and entry != UNCLEAR else None
        for entry in (merge.base[path], ours, theirs)
    )
    return PathConflict(path, base, ours_file, theirs_file)


def _describe(conflict: PathConflict) -> dict[str, str | None]:
    sides = {"base": conflict.base, "ours": conflict.ours, "theirs": conflict.theirs}
    return {"path": conflict.path, **{side: file.sha256 if file else None for side, file in sides.items()}}
