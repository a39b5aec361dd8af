"""The verbs of DataForge: what other modules and the routers call."""

from __future__ import annotations

from collections.abc import Sequence

from actors.securityvault.models import Scope
from cluster.db import Connection
from cluster.objects import Objects, blob_key
from data_pipelines.dataforge import policy, store, trees
from data_pipelines.dataforge.datasets import create_dataset, delete_dataset, get_dataset, list_datasets, publish_change
from data_pipelines.dataforge.errors import FileNotFound
from data_pipelines.dataforge.history import (
    cherry_pick,
    create_commit,
    find_merge_base,
    get_diff_stat,
    list_commits,
    list_conflicts,
    merge,
    revert,
)
from data_pipelines.dataforge.manifest import Manifests
from data_pipelines.dataforge.models import Change, Commit, Download, Downloads, StoredBlob
from data_pipelines.dataforge.nodes import Entry
from data_pipelines.dataforge.protection import (
    delete_protection,
    find_obstacle,
    find_protection,
    list_checks,
    list_checks_of_files,
    list_protections,
    require_override,
    set_check,
    set_protection,
)
from data_pipelines.dataforge.refs import delete_ref, get_commit, get_head, list_refs, reset_branch, set_ref
from data_pipelines.dataforge.trees import create_tree, list_files
from data_pipelines.dataforge.uploads import complete_uploads, request_parts, request_uploads

__all__ = [
    "cherry_pick", "compare_commits", "complete_uploads", "create_commit", "create_dataset", "create_downloads", "create_tree",
    "delete_dataset", "delete_protection", "delete_ref", "find_commits_with_blob", "find_merge_base", "find_obstacle", "find_protection",
    "get_commit", "get_dataset", "get_diff_stat", "get_head", "list_checks", "list_checks_of_files", "list_commits", "list_conflicts",
    "list_datasets", "list_files", "list_protections", "list_refs", "merge", "publish_change", "request_parts", "request_uploads",
    "require_override", "reset_branch", "revert", "set_check", "set_protection", "set_ref",
]  # fmt: skip


async def compare_commits(conn: Connection, scope: Scope, dataset: str, base: str, head: str) -> list[Change]:
    """What differs from ``base`` to ``head`` (refs), by path. Raises: DatasetNotFound, RefNotFound."""
    old, new = await get_commit(conn, scope, dataset, base), await get_commit(conn, scope, dataset, head)
    return [policy.to_change(*each) for each in await trees.compare(conn, scope, old.tree, new.tree)]


async def create_downloads(conn: Connection, scope: Scope, objects: Objects, dataset: str, ref: str, paths: Sequence[str]) -> Downloads:
    """Presigned URLs for files of a commit. Raises: DatasetNotFound, RefNotFound, FileNotFound."""
    commit = await get_commit(conn, scope, dataset, ref)
    manifests = Manifests()
    found = await trees.drive(conn, scope, manifests, manifests.find(commit.tree, paths))
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
