"""The verbs of DataForge: what other modules and the routers call."""

from __future__ import annotations

from actors.securityvault.models import Scope
from cluster.db import Connection
from data_pipelines.dataforge import policy, store, trees
from data_pipelines.dataforge.datasets import create_dataset, delete_dataset, get_dataset, list_datasets, publish_change
from data_pipelines.dataforge.downloads import create_downloads
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
from data_pipelines.dataforge.models import Change, Commit
from data_pipelines.dataforge.places import find_places, record_objects, record_verified
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
    "delete_dataset", "delete_protection", "delete_ref", "find_commits_with_blob", "find_merge_base", "find_obstacle",
    "find_places", "find_protection", "get_commit", "get_dataset", "get_diff_stat", "get_head", "list_checks",
    "list_checks_of_files", "list_commits", "list_conflicts", "list_datasets", "list_files", "list_protections", "list_refs",
    "merge", "publish_change", "record_objects", "record_verified", "request_parts", "request_uploads", "require_override",
    "reset_branch", "revert", "set_check", "set_protection", "set_ref",
]  # fmt: skip


async def compare_commits(conn: Connection, scope: Scope, dataset: str, base: str, head: str) -> list[Change]:
    """What differs from ``base`` to ``head`` (refs), by path. Raises: DatasetNotFound, RefNotFound."""
    old, new = await get_commit(conn, scope, dataset, base), await get_commit(conn, scope, dataset, head)
    return [policy.to_change(*each) for each in await trees.compare(conn, scope, old.tree, new.tree)]


async def find_commits_with_blob(conn: Connection, scope: Scope, sha256: str) -> list[Commit]:
    """Every commit of the project that has a file with this content, newest first: file → commit of the lineage graph."""
    holding = await trees.find_holding(conn, scope, bytes.fromhex(sha256))
    return await store.list_commits_of_trees(conn, scope.project, holding) if holding else []
