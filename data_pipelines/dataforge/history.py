"""The history of a dataset: its log, and the verbs that make new commits of those that are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection, new_id, savepoint
from data_pipelines.dataforge import merging, policy, refs, store, trees
from data_pipelines.dataforge.datasets import get_dataset, publish_change
from data_pipelines.dataforge.errors import HistoriesUnrelated, MainlineNeeded, NotFastForward, NothingToCommit, RefMoved
from data_pipelines.dataforge.manifest import EMPTY, Differing
from data_pipelines.dataforge.merging import Ancestor, ThreeWay
from data_pipelines.dataforge.models import (
    Commit,
    CommitSpec,
    Dataset,
    DiffStat,
    FastForward,
    Merged,
    MergeOutcome,
    MergeSpec,
    PathConflict,
    PickSpec,
    Resolution,
)
from data_pipelines.dataforge.nodes import Entry

T = TypeVar("T")
_ATTEMPTS = 5
_GENERATIONS = 64
_DEEPEST = 32


@dataclass(frozen=True)
class _Pick:
    """What a cherry-pick or revert brings: the step from ``old`` to ``new``, both trees."""

    commit: Commit
    old: bytes
    new: bytes
    message: str
    said: str


async def list_commits(
    conn: Connection, scope: Scope, dataset: str, ref: str, limit: int = 50, before: tuple[int, UUID] | None = None
) -> list[Commit]:
    """The log: the commit of ``ref`` and those that it comes from, children before parents; ``before``: generation and id of the last seen.

    Raises: DatasetNotFound, RefNotFound.
    """
    head = await refs.get_commit(conn, scope, dataset, ref)
    # Every generation of a history has a commit, so ``limit`` of them hold enough.
    lowest = (before[0] if before else head.generation) - limit
    return await store.list_ancestors(conn, scope.project, [head], lowest, limit, before)


async def find_merge_base(conn: Connection, scope: Scope, left: Commit, right: Commit) -> Commit | None:
    """The best common ancestor of two commits of a dataset, of several the latest; None where their histories have nothing in common."""
    return next(iter(await _find_merge_bases(conn, scope, [left], [right])), None)


async def _find_merge_bases(conn: Connection, scope: Scope, left: Sequence[Commit], right: Sequence[Commit]) -> list[Commit]:
    """All best common ancestors, by falling generation. Costs what lies between: the walk goes down from the tips in growing steps."""
    tips, generations = [*left, *right], _GENERATIONS
    while True:
        lowest = max(commit.generation for commit in tips) - generations
        log = await store.list_ancestors(conn, scope.project, tips, lowest)
        log = [commit for commit in log if commit.generation >= lowest]  # a tip that lies lower has nothing above it here
        found, complete = merging.merge_bases(log, (commit.id for commit in left), (commit.id for commit in right))
        if complete:
            return found
        generations *= 4


async def _merge_ancestors(conn: Connection, scope: Scope, bases: Sequence[Commit], depth: int = 0) -> Ancestor:
    """The common ancestors as one: the latest, with the others merged in, each on what it has in common with those before.

    Histories that were merged crosswise time and again are followed ``_DEEPEST`` times; whatever differs still further down is unclear.
    """
    merged = Ancestor(bases[0].tree)
    for at, other in enumerate(bases[1:], 1):
        if depth < _DEEPEST:
            base = await _merge_ancestors(conn, scope, await _find_merge_bases(conn, scope, bases[:at], [other]), depth + 1)
            sides = await _compare_sides(conn, scope, base, merged, Ancestor(other.tree))
        else:
            differing = merging.differing(await trees.compare(conn, scope, other.tree, merged.tree), Ancestor(other.tree), merged)
            sides = ThreeWay({}, {}, {path: Differing(path, each.new, each.old) for path, each in differing.items()}, {})
        merged = merging.to_ancestor(merged, sides)
    return merged


async def create_commit(conn: Connection, scope: Scope, dataset: str, spec: CommitSpec) -> Commit:
    """Commit changes and move the branch, if its head is still ``spec.parent``.

    Raises: DatasetNotFound, RefMoved, RefNameTaken, RefNameInvalid, TreeNotFound, BlobsMissing, PathsCollide, PathsDifferInForm,
        PathRepeated, NothingToCommit, BranchProtected.
    """
    found = await get_dataset(conn, scope, dataset)
    parent = await refs.expect_head(conn, scope, found, spec.branch, spec.parent)
    base = await trees.open_base(conn, scope, spec.tree) if spec.tree else parent.tree if parent else EMPTY
    tree = await trees.edit(conn, scope, base, spec.add, spec.remove)
    if parent is not None and parent.tree == tree.digest:
        raise NothingToCommit(parent=parent.id)
    commit = await _insert(conn, scope, found, spec, tree, parent)
    await refs.advance(conn, scope, found, spec.branch, commit, spec.parent, override=spec.override)
    await _publish(conn, scope, commit, spec.branch)
    return commit


async def merge(conn: Connection, scope: Scope, dataset: str, branch: str, spec: MergeSpec, *, by_pull_request: bool = False) -> Merged:
    """Bring what ``spec.source`` has and the branch lacks into the branch: three-way on the files, from the best common ancestor.

    Raises: DatasetNotFound, RefNotFound, BranchNeeded, HistoriesUnrelated, NotFastForward, MergeConflict, NotInConflict, PathRepeated,
        BlobsMissing, PathsCollide, PathsDifferInForm, BranchProtected, RefMoved.
    """
    found = await get_dataset(conn, scope, dataset)

    async def attempt() -> Merged:
        head = await _head(conn, scope, found, branch, spec.expected)
        source = await refs.resolve(conn, scope, found, spec.source)
        bases = await _find_merge_bases(conn, scope, [head], [source])
        if not bases:
            raise HistoriesUnrelated(dataset=dataset, branch=branch, source=spec.source)
        if bases[0].id == source.id:
            return Merged(MergeOutcome.UP_TO_DATE, head)
        forward = bases[0].id == head.id
        if not forward and spec.fast_forward is FastForward.ONLY:
            raise NotFastForward(branch=branch, source=spec.source)
        resolved = spec.resolution != Resolution()
        commit = source
        if not forward or resolved or spec.fast_forward is FastForward.NEVER:
            base = await _merge_ancestors(conn, scope, bases)
            tree = await _three_way(conn, scope, base, head.tree, source.tree, spec.resolution)
            message = spec.message or f"Merge {spec.source} into {branch}"
            asked = CommitSpec(branch, message, head.id, metadata=spec.metadata)
            commit = await _insert(conn, scope, found, asked, tree, head, source)
        ref = await refs.advance(conn, scope, found, branch, commit, head.id, override=spec.override, by_pull_request=by_pull_request)
        if commit is source:
            await refs.publish_move(conn, scope, found, ref)
            return Merged(MergeOutcome.FAST_FORWARDED, commit)
        await _publish(conn, scope, commit, branch)
        return Merged(MergeOutcome.MERGED, commit)

    return await _repeat(conn, spec.expected, attempt)


async def list_conflicts(conn: Connection, scope: Scope, dataset: str, branch: str, source: str) -> list[PathConflict]:
    """Paths that a merge of ``source`` into ``branch`` (refs) would stop at. Raises: DatasetNotFound, RefNotFound, HistoriesUnrelated."""
    found = await get_dataset(conn, scope, dataset)
    head, other = await refs.resolve(conn, scope, found, branch), await refs.resolve(conn, scope, found, source)
    bases = await _find_merge_bases(conn, scope, [head], [other])
    if not bases:
        raise HistoriesUnrelated(dataset=dataset, branch=branch, source=source)
    base = await _merge_ancestors(conn, scope, bases)
    sides = await _compare_sides(conn, scope, base, Ancestor(head.tree), Ancestor(other.tree))
    return [merging.to_conflict(sides, path) for path in sides.conflicts]


async def revert(conn: Connection, scope: Scope, dataset: str, branch: str, spec: PickSpec) -> Commit:
    """Undo what a commit changed, by a new one; of a merge, what it changed against parent ``spec.mainline``.

    Raises: DatasetNotFound, RefNotFound, BranchNeeded, MainlineNeeded, NothingToCommit, and as ``merge``.
    """
    found = await get_dataset(conn, scope, dataset)
    undone = await refs.resolve(conn, scope, found, spec.commit)
    old = await _mainline(conn, scope, undone, spec.mainline)
    message = f'Revert "{undone.message}"\n\nThis reverts commit {undone.id}.'
    return await _pick(conn, scope, found, branch, spec, _Pick(undone, undone.tree, old, message, "reverts"))


async def cherry_pick(conn: Connection, scope: Scope, dataset: str, branch: str, spec: PickSpec) -> Commit:
    """Change on the branch what a commit of the dataset changed; of a merge, against parent ``spec.mainline``.

    Raises: DatasetNotFound, RefNotFound, BranchNeeded, MainlineNeeded, NothingToCommit, and as ``merge``.
    """
    found = await get_dataset(conn, scope, dataset)
    picked = await refs.resolve(conn, scope, found, spec.commit)
    old = await _mainline(conn, scope, picked, spec.mainline)
    message = f"{picked.message}\n\n(cherry picked from commit {picked.id})".strip()
    return await _pick(conn, scope, found, branch, spec, _Pick(picked, old, picked.tree, message, "cherry_picked_from"))


async def get_diff_stat(conn: Connection, scope: Scope, dataset: str, base: str, head: str) -> DiffStat:
    """How much differs from ``base`` to ``head`` (refs). Raises: DatasetNotFound, RefNotFound."""
    old, new = await refs.get_commit(conn, scope, dataset, base), await refs.get_commit(conn, scope, dataset, head)
    return policy.to_stat(await trees.compare(conn, scope, old.tree, new.tree))


async def _pick(conn: Connection, scope: Scope, dataset: Dataset, branch: str, spec: PickSpec, pick: _Pick) -> Commit:
    """Make the step on top of the branch."""

    async def attempt() -> Commit:
        head = await _head(conn, scope, dataset, branch, spec.expected)
        tree = await _three_way(conn, scope, Ancestor(pick.old), head.tree, pick.new, spec.resolution)
        if tree.digest == head.tree:
            raise NothingToCommit(parent=head.id)
        message = pick.message if spec.message is None else spec.message
        asked = CommitSpec(branch, message, head.id, metadata={**pick.commit.metadata, pick.said: str(pick.commit.id)})
        commit = await _insert(conn, scope, dataset, asked, tree, head)
        await refs.advance(conn, scope, dataset, branch, commit, head.id, override=spec.override)
        await _publish(conn, scope, commit, branch)
        return commit

    return await _repeat(conn, spec.expected, attempt)


async def _repeat(conn: Connection, expected: UUID | None, attempt: Callable[[], Awaitable[T]]) -> T:
    """Begin again on the new head where another writer was first, unless the caller named the head."""
    for _ in range(_ATTEMPTS if expected is None else 0):
        try:
            async with savepoint(conn):
                return await attempt()
        except RefMoved:
            continue
    return await attempt()


async def _head(conn: Connection, scope: Scope, dataset: Dataset, branch: str, expected: UUID | None) -> Commit:
    head = await refs.get_head(conn, scope, dataset, branch)
    if expected is not None and head.id != expected:
        raise RefMoved(dataset=dataset.name, ref=branch, expected=str(expected), actual=str(head.id))
    return head


async def _mainline(conn: Connection, scope: Scope, commit: Commit, mainline: int | None) -> bytes:
    """The tree that the commit is compared with: its parent's, the chosen one's of a merge, the empty one before a first commit."""
    parents = commit.parents
    if (len(parents) > 1) != (mainline is not None) or (mainline or 1) > max(1, len(parents)):
        raise MainlineNeeded(commit=commit.id, parents=len(parents), mainline=mainline)
    if not parents:
        return EMPTY
    parent = await store.find_commit(conn, scope.project, parents[(mainline or 1) - 1])
    assert parent is not None  # a foreign key
    return parent.tree


async def _compare_sides(conn: Connection, scope: Scope, base: Ancestor, ours: Ancestor, theirs: Ancestor) -> ThreeWay:
    left, right = [await trees.compare(conn, scope, base.tree, side.tree) for side in (ours, theirs)]
    return merging.three_way(merging.differing(left, base, ours), merging.differing(right, base, theirs))


async def _three_way(conn: Connection, scope: Scope, base: Ancestor, ours: bytes, theirs: bytes, resolution: Resolution) -> Entry:
    """The stored tree with the changes of both sides; the smaller side's are made on top of the other's tree."""
    sides = await _compare_sides(conn, scope, base, Ancestor(ours), Ancestor(theirs))
    settled = merging.settle(sides, resolution)
    await trees.refuse_missing_blobs(conn, scope, resolution.add)
    if len(sides.theirs) <= len(sides.ours):
        return await trees.apply(conn, scope, ours, merging.contents(sides.theirs) | settled)
    return await trees.apply(conn, scope, theirs, merging.contents(sides.ours) | settled)


async def _insert(
    conn: Connection, scope: Scope, dataset: Dataset, spec: CommitSpec, tree: Entry, parent: Commit | None, merged: Commit | None = None
) -> Commit:
    parents = [commit for commit in (parent, merged) if commit]
    row = {
        "id": new_id(),
        "dataset_id": dataset.id,
        "dataset": dataset.name,
        "parent_id": parent.id if parent else None,
        "merge_parent_id": merged.id if merged else None,
        "generation": 1 + max((commit.generation for commit in parents), default=-1),
        "tree": tree.digest,
        "message": spec.message,
        "author": scope.principal.name,
        "files": tree.files,
        "size_bytes": tree.size_bytes,
        "metadata": spec.metadata,
    }
    return await store.insert_commit(conn, scope.project, row)


async def _publish(conn: Connection, scope: Scope, commit: Commit, branch: str) -> None:
    parents = {"parent_id": commit.parent_id, "merge_parent_id": commit.merge_parent_id}
    data = {"dataset": commit.dataset, "branch": branch, **{name: str(id) if id else None for name, id in parents.items()}}
    await publish_change(conn, scope, "commit.created", commit.id, {**data, "files": commit.files, "size_bytes": commit.size_bytes})
