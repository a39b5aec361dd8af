"""The lineage graph across modules: DataForge knows which commits hold a file, ModelHub what came of a commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from actors.modelhub import service as modelhub
from actors.modelhub.errors import NodeNotFound
from actors.modelhub.models import Direction, Edge, Graph, Node, NodeKind
from actors.securityvault.models import Scope
from aidos.errors import InvalidPayload, NotFound
from cluster.db import Connection
from data_pipelines.dataforge import service as dataforge

_SHA256 = re.compile(r"[0-9a-f]{64}")


async def commit_nodes(conn: Connection, scope: Scope, references: Sequence[str]) -> tuple[Node, ...]:
    """The commits that ``dataset@ref`` name now. Raises: InvalidPayload, DatasetNotFound, RefNotFound."""
    nodes = []
    for reference in dict.fromkeys(references):
        dataset, at, ref = reference.rpartition("@")
        if not at:
            raise InvalidPayload(reason=f"An input is named as DATASET@REF, got '{reference}'.")
        commit = await dataforge.get_commit(conn, scope, dataset, ref)
        nodes.append(Node(NodeKind.COMMIT, str(commit.id), reference))
    return tuple(nodes)


async def trace(conn: Connection, scope: Scope, kind: NodeKind, name: str, direction: Direction, depth: int, files: int) -> Graph:
    """The graph around a thing; on the way up, at most ``files`` files of each commit. Raises: NotFound."""
    if kind is NodeKind.FILE:
        return await _trace_file(conn, scope, name, direction, depth)
    if kind is NodeKind.COMMIT and "@" in name:
        (start,) = await commit_nodes(conn, scope, [name])
    else:
        start = await modelhub.get_node(conn, scope, kind, name)
    graph = await modelhub.trace(conn, scope, start, direction, depth)
    commits = {edge.source.id: edge.source for edge in graph.edges if edge.source.kind == NodeKind.COMMIT}
    if kind is NodeKind.COMMIT:
        commits = {start.id: start}
    if direction is Direction.DOWN or not files:
        return graph
    parts = [edge for commit in commits.values() for edge in await _files_of(conn, scope, commit, files)]
    return replace(graph, edges=(*parts, *graph.edges))


async def _trace_file(conn: Connection, scope: Scope, sha256: str, direction: Direction, depth: int) -> Graph:
    commits = await dataforge.find_commits_with_blob(conn, scope, sha256) if _SHA256.fullmatch(sha256) else []
    if not commits:
        raise NodeNotFound(kind=NodeKind.FILE, name=sha256)
    start = Node(NodeKind.FILE, sha256, sha256[:12])
    if direction is Direction.UP:
        return Graph(start, ())
    nodes = [Node(NodeKind.COMMIT, str(commit.id), f"{commit.dataset}@{commit.id}") for commit in commits]
    graph = await modelhub.trace(conn, scope, start, Direction.DOWN, depth, via=nodes)
    return replace(graph, edges=(*(Edge(start, node, "part of") for node in nodes), *graph.edges))


async def _files_of(conn: Connection, scope: Scope, commit: Node, limit: int) -> list[Edge]:
    try:
        files = await dataforge.list_files(conn, scope, modelhub.to_id(commit), limit=limit)
    except NotFound:  # the dataset was deleted since
        return []
    return [Edge(Node(NodeKind.FILE, file.sha256, file.path), commit, "part of") for file in files]
