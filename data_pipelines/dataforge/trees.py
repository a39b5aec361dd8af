"""Trees of files as PostgreSQL keeps them: what verbs read from manifests and the edits that they store."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.versions import is_in_place
from cluster.db import Connection
from data_pipelines.dataforge import policy, store
from data_pipelines.dataforge.datasets import get_dataset
from data_pipelines.dataforge.errors import BlobsMissing, RefNotFound, TreeNotFound
from data_pipelines.dataforge.manifest import EMPTY, Differing, Edited, Manifests, Steps, T
from data_pipelines.dataforge.models import File, Tree, TreeSpec
from data_pipelines.dataforge.node_cache import NodeCache
from data_pipelines.dataforge.nodes import Entry
from data_pipelines.dataforge.places import find_places

_CACHE = NodeCache()
_TREES_AT_ONCE = 500


async def create_tree(conn: Connection, scope: Scope, dataset: str, spec: TreeSpec) -> Tree:
    """Store the manifest of changes that a later commit will name: so a commit of any size comes in pieces.

    Raises: DatasetNotFound, TreeNotFound, BlobsMissing, PathsCollide, PathRepeated.
    """
    await get_dataset(conn, scope, dataset)
    base = await open_base(conn, scope, spec.base) if spec.base else EMPTY
    tree = await edit(conn, scope, base, spec.add, spec.remove)
    return Tree(tree.digest.hex(), tree.files, tree.size_bytes)


async def open_base(conn: Connection, scope: Scope, tree: str) -> bytes:
    """The tree (hex) that a client builds on: a commit's, or one stored lately. An older one may be collected. Raises: TreeNotFound."""
    base = bytes.fromhex(tree)
    if base != EMPTY and not await store.find_base(conn, scope.project, base):
        raise TreeNotFound(tree=tree)
    return base


async def list_files(
    conn: Connection, scope: Scope, commit_id: UUID, after: str = "", limit: int | None = 500, prefix: str = ""
) -> list[File]:
    """Files of a commit by path, those later than ``after`` whose paths begin with ``prefix``. Raises: RefNotFound."""
    commit = await store.find_commit(conn, scope.project, commit_id)
    if commit is None:
        raise RefNotFound(dataset="", ref=str(commit_id))
    manifests = open_manifests(scope)
    items = await drive(conn, scope, manifests, manifests.scan(commit.tree, after=after, prefix=prefix, limit=limit))
    return [File(path, entry.digest.hex(), entry.size_bytes) for path, entry in items]


async def find(conn: Connection, scope: Scope, root: bytes, paths: Iterable[str]) -> dict[str, Entry]:
    """The entries of those paths that are files of the tree."""
    manifests = open_manifests(scope)
    return await drive(conn, scope, manifests, manifests.find(root, paths))


async def find_holding(conn: Connection, scope: Scope, content: bytes) -> set[bytes]:
    """The trees of the project's commits in which a file has this content."""
    paths = await store.list_content_paths(conn, scope.project, content)
    roots = sorted(await store.list_trees(conn, scope.project)) if paths else []
    found: set[bytes] = set()
    for start in range(0, len(roots), _TREES_AT_ONCE):
        manifests = open_manifests(scope)
        found |= await drive(conn, scope, manifests, manifests.holding(set(roots[start : start + _TREES_AT_ONCE]), paths, content))
    return found


async def compare(conn: Connection, scope: Scope, old: bytes, new: bytes) -> list[Differing]:
    """What differs between two trees, by path."""
    manifests = open_manifests(scope)
    return await drive(conn, scope, manifests, manifests.compare(old, new))


async def edit(conn: Connection, scope: Scope, base: bytes, add: Iterable[File], remove: Iterable[str]) -> Entry:
    """The stored tree after changes that a client asks for.

    Raises: TreeNotFound, BlobsMissing, PathsCollide, PathsDifferInForm, PathRepeated.
    """
    add = tuple(add)
    changes = policy.plan_changes(add, remove)
    await refuse_missing_blobs(conn, scope, add)
    return await apply(conn, scope, base, changes)


async def apply(conn: Connection, scope: Scope, base: bytes, changes: Mapping[str, Entry | None]) -> Entry:
    """The stored tree after changes whose contents are known. Raises: TreeNotFound, PathsCollide, PathsDifferInForm."""
    manifests = open_manifests(scope)
    edited = await drive(conn, scope, manifests, manifests.edit(base, changes))
    await _refuse_collisions(conn, scope, manifests, edited)
    if manifests.made:
        await store.store_nodes(conn, scope.project, manifests.made)
        await store.record_content_paths(conn, scope.project, ((entry.digest, path) for path, entry in changes.items() if entry))
        _CACHE.keep(scope.project, ((digest, manifests.nodes[digest]) for digest in manifests.made))
    return edited.root


async def _refuse_collisions(conn: Connection, scope: Scope, manifests: Manifests, edited: Edited) -> None:
    """Refuse new paths that not every file system could hold beside the others. Raises: PathsCollide, PathsDifferInForm."""
    root, added = edited.root.digest, edited.added
    if not added:
        return
    above = policy.folders(added)
    files, folders = policy.spellings(added), {folder: policy.fold(folder) for folder in above}
    odd = {name: form for name, form in (files | folders).items() if form != name}
    recorded = await store.find_spellings(conn, scope.project, {*files.values(), *folders.values()})
    like_files = policy.suspects(files, recorded | odd.keys())
    like_folders = {other: above[folder] for other, folder in policy.suspects(folders, recorded | odd.keys()).items()}
    found = await drive(conn, scope, manifests, manifests.find(root, [*above, *like_files, *like_folders]))
    following = await drive(conn, scope, manifests, manifests.following(root, [f"{path}/" for path in (*added, *like_files)]))
    under = {folder.removesuffix("/"): path for folder, path in following.items() if path.startswith(folder)}
    policy.refuse_collisions(added, above, found, under)
    policy.refuse_other_forms(like_files, like_folders, found, under)
    await store.record_spellings(conn, scope.project, {name: form for name, form in odd.items() if name not in recorded})


async def refuse_missing_blobs(conn: Connection, scope: Scope, add: Sequence[File]) -> None:
    """Raises: BlobsMissing."""
    if not add:
        return
    contents = {file.sha256 for file in add}
    await store.touch_blobs(conn, scope.project, contents)
    blobs = await store.find_blobs(conn, scope.project, contents)
    places = await find_places(conn, scope, filter(is_in_place, contents), touch=True)
    sizes = {sha256: blob.size_bytes for sha256, blob in blobs.items()} | {policy.EMPTY_SHA256: 0}
    sizes |= {id: place.size_bytes for id, place in places.items()}
    missing = [file for file in add if sizes.get(file.sha256) != file.size_bytes]
    if missing:
        raise BlobsMissing(count=len(missing), path=missing[0].path, sha256=[file.sha256 for file in missing[:100]])


def open_manifests(scope: Scope) -> Manifests:
    """The project's trees, with what this process has of them."""
    return Manifests(functools.partial(_CACHE.find, scope.project))


async def drive(conn: Connection, scope: Scope, manifests: Manifests, steps: Steps[T]) -> T:
    """Run the steps in a thread (a large edit takes a while), loading the nodes that they ask for. Raises: TreeNotFound."""
    stored: dict[bytes, bytes] = {}
    while True:
        needed, result = await asyncio.to_thread(_step, manifests, stored, steps)
        _CACHE.keep(scope.project, ((digest, manifests.nodes[digest]) for digest in stored))
        if needed is None:
            return result[0]
        stored = await store.load_nodes(conn, scope.project, needed)
        for digest in needed - stored.keys():
            raise TreeNotFound(tree=digest.hex())


def _step(manifests: Manifests, stored: dict[bytes, bytes], steps: Steps[T]) -> tuple[set[bytes] | None, list[T]]:
    manifests.add(stored)
    try:
        return next(steps), []
    except StopIteration as done:
        return None, [done.value]
