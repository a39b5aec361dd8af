"""The verbs of DataForge: what other modules and the routers call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NoReturn
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from cluster.objects import Objects, blob_key
from data_pipelines.dataforge import policy, store
from data_pipelines.dataforge.datasets import create_dataset, delete_dataset, get_dataset, list_datasets, publish_change
from data_pipelines.dataforge.errors import (
    BlobsMissing,
    FileNotFound,
    NothingToCommit,
    RefMoved,
    RefNameInvalid,
    RefNameTaken,
    RefNotFound,
    TagFixed,
    TreeNotFound,
)
from data_pipelines.dataforge.manifest import EMPTY, Entry, Manifests, Steps, T
from data_pipelines.dataforge.models import (
    Change,
    Commit,
    CommitSpec,
    Dataset,
    Download,
    Downloads,
    File,
    Ref,
    RefKind,
    RefSpec,
    StoredBlob,
    Tree,
    TreeSpec,
)
from data_pipelines.dataforge.uploads import complete_uploads, request_parts, request_uploads

__all__ = [
    "compare_commits", "complete_uploads", "create_commit", "create_dataset", "create_downloads", "create_tree", "delete_dataset",
    "delete_ref", "find_commits_with_blob", "get_commit", "get_dataset", "list_commits", "list_datasets", "list_files", "list_refs",
    "request_parts", "request_uploads", "set_ref",
]  # fmt: skip


async def get_commit(conn: Connection, scope: Scope, dataset: str, ref: str) -> Commit:
    """The commit behind a branch, a tag or a commit id. Raises: DatasetNotFound, RefNotFound."""
    return await _resolve(conn, scope, await get_dataset(conn, scope, dataset), ref)


async def _resolve(conn: Connection, scope: Scope, dataset: Dataset, ref: str) -> Commit:
    known = await store.find_ref(conn, scope.project, dataset.id, ref)
    commit_id = known.commit_id if known else _to_uuid(ref)
    commit = await store.find_commit(conn, scope.project, commit_id) if commit_id else None
    if commit is None or commit.dataset_id != dataset.id:
        raise RefNotFound(dataset=dataset.name, ref=ref)
    return commit


def _to_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def list_commits(
    conn: Connection, scope: Scope, dataset: str, ref: str, limit: int = 50, before: tuple[int, UUID] | None = None
) -> list[Commit]:
    """The log: the commit of ``ref`` and those that it comes from, children before parents; ``before``: generation and id of the last seen.

    Raises: DatasetNotFound, RefNotFound.
    """
    head = await get_commit(conn, scope, dataset, ref)
    # Every generation of a history has a commit, so ``limit`` of them hold enough.
    lowest = (before[0] if before else head.generation) - limit
    return await store.list_ancestors(conn, scope.project, [head], lowest, limit, before)


async def create_tree(conn: Connection, scope: Scope, dataset: str, spec: TreeSpec) -> Tree:
    """Store the manifest of changes that a later commit will name: so a commit of any size comes in pieces.

    Raises: DatasetNotFound, TreeNotFound, BlobsMissing, PathsCollide, PathRepeated.
    """
    await get_dataset(conn, scope, dataset)
    tree = await _edit(conn, scope, bytes.fromhex(spec.base) if spec.base else EMPTY, spec.add, spec.remove)
    return Tree(tree.digest.hex(), tree.files, tree.size_bytes)


async def create_commit(conn: Connection, scope: Scope, dataset: str, spec: CommitSpec) -> Commit:
    """Commit changes and move the branch, if its head is still ``spec.parent``.

    Raises: DatasetNotFound, RefMoved, RefNameTaken, TreeNotFound, BlobsMissing, PathsCollide, PathRepeated, NothingToCommit.
    """
    found = await get_dataset(conn, scope, dataset)
    parent = await _expected_head(conn, scope, found, spec)
    base = bytes.fromhex(spec.tree) if spec.tree else parent.tree if parent else EMPTY
    tree = await _edit(conn, scope, base, spec.add, spec.remove)
    if parent is not None and parent.tree == tree.digest:
        raise NothingToCommit(parent=parent.id)
    commit = await store.insert_commit(
        conn,
        scope.project,
        {
            "id": new_id(),
            "dataset_id": found.id,
            "dataset": dataset,
            "parent_id": spec.parent,
            "merge_parent_id": None,
            "generation": parent.generation + 1 if parent else 0,
            "metadata": spec.metadata,
            "tree": tree.digest,
            "message": spec.message,
            "author": scope.principal.name,
            "files": tree.files,
            "size_bytes": tree.size_bytes,
        },
    )
    await _advance(conn, scope, found, spec, commit)
    data = {"dataset": dataset, "branch": spec.branch, "parent_id": str(spec.parent) if spec.parent else None}
    await publish_change(conn, scope, "commit.created", commit.id, {**data, "files": commit.files, "size_bytes": commit.size_bytes})
    return commit


async def _expected_head(conn: Connection, scope: Scope, dataset: Dataset, spec: CommitSpec) -> Commit | None:
    """The commit that the branch must point to, checked before the work and once more when the branch moves."""
    ref = await store.find_ref(conn, scope.project, dataset.id, spec.branch)
    if ref and ref.kind is not RefKind.BRANCH:
        raise RefNameTaken(dataset=dataset.name, ref=ref.name, kind=ref.kind.value)
    if _to_uuid(spec.branch):
        raise RefNameInvalid(ref=spec.branch)
    actual = ref.commit_id if ref else None
    if actual != spec.parent:
        raise RefMoved(dataset=dataset.name, ref=spec.branch, expected=_name(spec.parent), actual=_name(actual))
    return await store.find_commit(conn, scope.project, actual) if actual else None


async def _advance(conn: Connection, scope: Scope, dataset: Dataset, spec: CommitSpec, commit: Commit) -> None:
    if spec.parent is None:
        moved = await store.create_ref(conn, scope.project, dataset.id, spec.branch, RefKind.BRANCH, commit.id)
    else:
        moved = await store.move_ref(conn, scope.project, dataset.id, spec.branch, commit.id, spec.parent)
    if moved is None:
        await _refuse_moved(conn, scope, dataset, spec.branch, spec.parent)


async def _refuse_moved(conn: Connection, scope: Scope, dataset: Dataset, name: str, expected: UUID | None) -> NoReturn:
    actual = await store.find_ref(conn, scope.project, dataset.id, name)
    raise RefMoved(dataset=dataset.name, ref=name, expected=_name(expected), actual=_name(actual.commit_id if actual else None))


def _name(commit_id: UUID | None) -> str | None:
    return str(commit_id) if commit_id else None


async def list_refs(conn: Connection, scope: Scope, dataset: str, after: str | None = None, limit: int = 50) -> list[Ref]:
    """Branches and tags by name. Raises: DatasetNotFound."""
    found = await get_dataset(conn, scope, dataset)
    return await store.list_refs(conn, scope.project, found.id, after, limit)


async def set_ref(conn: Connection, scope: Scope, dataset: str, name: str, spec: RefSpec) -> Ref:
    """Make a ref, or move a branch from ``spec.expected``; repeating it changes nothing.

    Raises: DatasetNotFound, RefNotFound, RefNameInvalid, RefNameTaken, TagFixed, RefMoved.
    """
    found = await get_dataset(conn, scope, dataset)
    target = await _resolve(conn, scope, found, spec.commit)
    if _to_uuid(name):
        raise RefNameInvalid(ref=name)
    known = await store.find_ref(conn, scope.project, found.id, name)
    if known and known.kind is not spec.kind:
        raise RefNameTaken(dataset=dataset, ref=name, kind=known.kind.value)
    if known and known.commit_id == target.id:
        return known
    if known and known.kind is RefKind.TAG:
        raise TagFixed(dataset=dataset, ref=name, actual=str(known.commit_id))
    if spec.expected is None:
        ref = await store.create_ref(conn, scope.project, found.id, name, spec.kind, target.id)
    else:
        ref = await store.move_ref(conn, scope.project, found.id, name, target.id, spec.expected)
    if ref is None:
        await _refuse_moved(conn, scope, found, name, spec.expected)
    await publish_change(
        conn, scope, "ref.moved", found.id, {"dataset": dataset, "ref": name, "kind": spec.kind.value, "commit_id": str(target.id)}
    )
    return ref


async def delete_ref(conn: Connection, scope: Scope, dataset: str, name: str) -> None:
    """Forget a branch or tag; its commits stay. Raises: DatasetNotFound, RefNotFound."""
    found = await get_dataset(conn, scope, dataset)
    ref = await store.delete_ref(conn, scope.project, found.id, name)
    if ref is None:
        raise RefNotFound(dataset=dataset, ref=name)
    await publish_change(conn, scope, "ref.deleted", found.id, {"dataset": dataset, "ref": name, "commit_id": str(ref.commit_id)})


async def list_files(
    conn: Connection, scope: Scope, commit_id: UUID, after: str = "", limit: int | None = 500, prefix: str = ""
) -> list[File]:
    """Files of a commit by path, those later than ``after`` whose paths begin with ``prefix``. Raises: RefNotFound."""
    commit = await store.find_commit(conn, scope.project, commit_id)
    if commit is None:
        raise RefNotFound(dataset="", ref=str(commit_id))
    manifests = Manifests()
    items = await _drive(conn, scope, manifests, manifests.scan(commit.tree, after=after, prefix=prefix, limit=limit))
    return [File(path, entry.digest.hex(), entry.size_bytes) for path, entry in items]


async def compare_commits(conn: Connection, scope: Scope, dataset: str, base: str, head: str) -> list[Change]:
    """What differs from ``base`` to ``head`` (refs), by path. Raises: DatasetNotFound, RefNotFound."""
    old, new = await get_commit(conn, scope, dataset, base), await get_commit(conn, scope, dataset, head)
    manifests = Manifests()
    differing = await _drive(conn, scope, manifests, manifests.compare(old.tree, new.tree))
    return [policy.to_change(*each) for each in differing]


async def create_downloads(conn: Connection, scope: Scope, objects: Objects, dataset: str, ref: str, paths: Sequence[str]) -> Downloads:
    """Presigned URLs for files of a commit. Raises: DatasetNotFound, RefNotFound, FileNotFound."""
    commit = await get_commit(conn, scope, dataset, ref)
    manifests = Manifests()
    found = await _drive(conn, scope, manifests, manifests.find(commit.tree, paths))
    for path in paths:
        if path not in found:
            raise FileNotFound(dataset=dataset, commit=commit.id, path=path)
    blobs = await store.find_blobs(conn, scope.project, {entry.digest.hex() for entry in found.values()})
    sources: dict[str, int] = {}
    files = tuple(_download(path, found[path], blobs, sources) for path in dict.fromkeys(paths))
    return Downloads(commit.id, files, tuple(objects.presign_get(blob_key(scope.project, sha256)) for sha256 in sources))


def _download(path: str, entry: Entry, blobs: dict[str, StoredBlob], sources: dict[str, int]) -> Download:
    sha256 = entry.digest.hex()
    blob = blobs.get(sha256, StoredBlob(sha256, entry.size_bytes))
    source = sources.setdefault(blob.pack_sha256 or sha256, len(sources)) if entry.size_bytes else None
    return Download(path, sha256, entry.size_bytes, source, blob.offset_bytes)


async def find_commits_with_blob(conn: Connection, scope: Scope, sha256: str) -> list[Commit]:
    """Every commit of the project that has a file with this content, newest first: file → commit of the lineage graph."""
    holding = await store.find_nodes_holding(conn, scope.project, {bytes.fromhex(sha256)}, inner=False)
    trees = set(holding)
    while holding:
        holding = await store.find_nodes_holding(conn, scope.project, holding, inner=True) - trees
        trees |= holding
    return await store.list_commits_of_trees(conn, scope.project, trees) if trees else []


async def _edit(conn: Connection, scope: Scope, base: bytes, add: Iterable[File], remove: Iterable[str]) -> Entry:
    """The stored tree after the changes. Raises: TreeNotFound, BlobsMissing, PathsCollide, PathRepeated."""
    add = tuple(add)
    changes = policy.plan_changes(add, remove)
    await _refuse_missing_blobs(conn, scope, add)
    manifests = Manifests()
    root = await _drive(conn, scope, manifests, manifests.edit(base, changes))
    added = [file.path for file in add]
    above = policy.folders(added)
    found = await _drive(conn, scope, manifests, manifests.find(root, above))
    following = await _drive(conn, scope, manifests, manifests.following(root, [f"{path}/" for path in added]))
    policy.refuse_collisions(above, found, following)
    made = manifests.made
    if made:
        await store.store_nodes(conn, scope.project, made, [manifests.nodes[digest].level for digest in made])
    return await _drive(conn, scope, manifests, manifests.summary(root))


async def _refuse_missing_blobs(conn: Connection, scope: Scope, add: Sequence[File]) -> None:
    known = await store.find_blobs(conn, scope.project, {file.sha256 for file in add}) if add else {}
    sizes = {blob.sha256: blob.size_bytes for blob in known.values()} | {policy.EMPTY_SHA256: 0}
    missing = [file for file in add if sizes.get(file.sha256) != file.size_bytes]
    if missing:
        raise BlobsMissing(count=len(missing), path=missing[0].path, sha256=[file.sha256 for file in missing[:100]])


async def _drive(conn: Connection, scope: Scope, manifests: Manifests, steps: Steps[T]) -> T:
    """Run the steps in a thread (a large edit takes a while), loading the nodes that they ask for. Raises: TreeNotFound."""
    while True:
        needed, result = await asyncio.to_thread(_step, steps)
        if needed is None:
            return result[0]
        stored = await store.load_nodes(conn, scope.project, needed)
        for digest in needed - stored.keys():
            raise TreeNotFound(tree=digest.hex())
        await asyncio.to_thread(manifests.add, stored)


def _step(steps: Steps[T]) -> tuple[set[bytes] | None, list[T]]:
    try:
        return next(steps), []
    except StopIteration as done:
        return None, [done.value]
