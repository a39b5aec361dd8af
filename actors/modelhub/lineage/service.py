"""The verbs of lineage. Other modules write edges; ``api/lineage.py`` joins what only they know: files, reads, what is served now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.modelhub.lineage import store
from actors.modelhub.lineage.models import Affected, Evidence, TracedRun
from actors.modelhub.models import Direction, Edge, Graph, Node, NodeKind
from actors.securityvault.models import Scope
from cluster.db import Connection

IMPORTED = "imported as"
MAX_EDGES = 5000
MAX_AFFECTED = 10_000
MAX_STEPS = 20_000
"""How many nodes a walk enters; one that it comes to over again, around a cycle, counts each time."""
MAX_REACHED = 50_000
"""How many nodes are entered to say what came of a thing."""


async def add_edge(conn: Connection, scope: Scope, source: Node, target: Node, relation: str) -> None:
    """``source`` went into ``target``. The same edge twice is one."""
    await add_edges(conn, scope, [Edge(source, target, relation)])


async def add_edges(conn: Connection, scope: Scope, edges: Sequence[Edge]) -> None:
    """Each once, however often it is among them or was written before."""
    await store.insert_edges(conn, scope.project, edges)


async def list_runs(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[TracedRun]:
    """Those of these runs that are there."""
    return await store.list_runs(conn, scope.project, ids)


async def list_edges(conn: Connection, scope: Scope, kind: NodeKind, ids: Sequence[str]) -> list[Edge]:
    """Into and out of things of one kind, at most ``MAX_EDGES`` of each thing each way."""
    return await store.list_edges(conn, scope.project, kind, ids, MAX_EDGES)


async def list_signatures(conn: Connection, scope: Scope, version_ids: Collection[UUID]) -> dict[UUID, Mapping[str, Any]]:
    """Of those of these versions that have one, by version."""
    return await store.list_signatures(conn, scope.project, version_ids)


async def list_sources(conn: Connection, project_id: UUID, kind: NodeKind) -> list[str]:
    """Ids of all things of a kind in the project that something came of."""
    return await store.list_sources(conn, project_id, kind)


async def find_node(conn: Connection, scope: Scope, kind: str, name: str) -> Node | None:
    """A node that has an edge, by id or label."""
    return await store.find_node(conn, scope.project, kind, name)


async def trace(conn: Connection, scope: Scope, start: Node, direction: Direction, depth: int, *, via: Sequence[Node] = ()) -> Graph:
    """All edges within ``depth`` of ``start`` (or of the nodes that stand for it), in one query; ``cut_by`` says what there is more of."""
    limit = MAX_EDGES + 1
    found, stopped = await store.walk_edges(conn, scope.project, via or (start,), direction, depth, limit=limit, steps=MAX_STEPS)
    near = [edge for edge, distance in found if distance < depth]
    cut = (*(["edges"] if stopped or len(found) == limit else []), *(["depth"] if len(near) < len(found) else []))
    return Graph(start, tuple(near[:MAX_EDGES]), cut)


async def list_affected(
    conn: Connection, scope: Scope, starts: Sequence[Node], kinds: Sequence[NodeKind], evidence: Evidence
) -> tuple[list[Affected], bool]:
    """Things of these kinds that came of the starts, the sure ones first; and whether there are more.

    At most ``MAX_AFFECTED``, of the ``MAX_REACHED`` that are nearest to the starts.
    """
    limit = MAX_AFFECTED + 1
    found, stopped = await store.list_affected(conn, scope.project, starts, evidence, kinds, limit=limit, steps=MAX_REACHED)
    return found[:MAX_AFFECTED], stopped or len(found) == limit


async def list_descended(
    conn: Connection, scope: Scope, starts: Sequence[Node], kind: NodeKind, ids: Collection[str], evidence: Evidence
) -> tuple[dict[str, bool], bool]:
    """Those of these things of a kind that came of the starts, and whether surely; and whether they came of too much to see it all."""
    return await store.list_descended(conn, scope.project, starts, evidence, kind, ids, steps=MAX_REACHED)


async def list_imported(conn: Connection, scope: Scope, place: str) -> list[Node]:
    """Of ``list_overlapping`` those that an edge ``IMPORTED`` leads on from."""
    return await store.list_imported(conn, scope.project, place)


async def list_overlapping(conn: Connection, scope: Scope, place: str) -> list[Node]:
    """Datasets elsewhere that lie at ``place`` (``s3://bucket/folder``), around or below it."""
    return await store.list_overlapping(conn, scope.project, place)
