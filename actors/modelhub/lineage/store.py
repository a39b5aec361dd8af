"""The rows of lineage: a function a named query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.modelhub.lineage.models import Affected, Evidence, TracedRun
from actors.modelhub.models import Direction, Edge, Node, NodeKind
from cluster.db import Connection, load_queries, one

Q = load_queries(__package__ or "actors.modelhub.lineage")


async def insert_edges(conn: Connection, project_id: UUID, edges: Sequence[Edge]) -> None:
    values = {
        "project_id": project_id,
        "source_kinds": [str(edge.source.kind) for edge in edges],
        "source_ids": [edge.source.id for edge in edges],
        "source_labels": [edge.source.label for edge in edges],
        "target_kinds": [str(edge.target.kind) for edge in edges],
        "target_ids": [edge.target.id for edge in edges],
        "target_labels": [edge.target.label for edge in edges],
        "relations": [edge.relation for edge in edges],
    }
    await conn.execute(Q.insert_edges, values)


async def list_runs(conn: Connection, project_id: UUID, ids: Sequence[UUID]) -> list[TracedRun]:
    return [TracedRun(**row) for row in await (await conn.execute(Q.list_runs, {"project_id": project_id, "ids": list(ids)})).fetchall()]


async def list_signatures(conn: Connection, project_id: UUID, version_ids: Collection[UUID]) -> dict[UUID, Mapping[str, Any]]:
    rows = await conn.execute(Q.list_signatures, {"project_id": project_id, "ids": list(version_ids)})
    return {row["id"]: row["signature"] for row in await rows.fetchall()}


async def list_edges(conn: Connection, project_id: UUID, kind: NodeKind, ids: Sequence[str], limit: int) -> list[Edge]:
    """At most ``limit`` of each thing each way."""
    values = {"project_id": project_id, "kind": kind, "ids": list(ids), "limit": limit}
    return [_edge(row) for row in await (await conn.execute(Q.list_edges, values)).fetchall()]


async def list_sources(conn: Connection, project_id: UUID, kind: NodeKind) -> list[str]:
    """Ids of the things of a kind that something came of."""
    rows = await conn.execute(Q.list_sources, {"project_id": project_id, "kind": kind})
    return [row["source_id"] for row in await rows.fetchall()]


async def find_node(conn: Connection, project_id: UUID, kind: str, name: str) -> Node | None:
    """By id or label."""
    return one(Node, await (await conn.execute(Q.find_node, {"project_id": project_id, "kind": kind, "name": name})).fetchone())


async def walk_edges(
    conn: Connection, project_id: UUID, starts: Sequence[Node], direction: Direction, depth: int, *, limit: int, steps: int
) -> tuple[list[tuple[Edge, int]], bool]:
    """Edges with how far from the starts they begin, the nearest first; and whether the walk was stopped after ``steps`` nodes."""
    values = {
        "project_id": project_id,
        "kinds": [str(node.kind) for node in starts],
        "ids": [node.id for node in starts],
        "direction": direction,
        "depth": depth,
        "limit": limit,
        "steps": steps,
    }
    rows = await (await conn.execute(Q.walk_edges, values)).fetchall()
    found = [(_edge(row), row["depth"]) for row in rows]
    return found, bool(rows and rows[0]["stopped"])


async def list_affected(
    conn: Connection, project_id: UUID, starts: Sequence[Node], evidence: Evidence, wanted: Sequence[str], *, limit: int, steps: int
) -> tuple[list[Affected], bool]:
    """What was surely reached first; and whether the walk was stopped after ``steps`` nodes."""
    values = {**_asked(project_id, starts, evidence), "wanted": list(wanted), "limit": limit, "steps": steps}
    rows = await (await conn.execute(Q.list_affected, values)).fetchall()
    return [Affected(Node(row["kind"], row["id"], row["label"]), row["sure"]) for row in rows if row["kind"]], rows[0]["stopped"]


async def list_descended(
    conn: Connection, project_id: UUID, starts: Sequence[Node], evidence: Evidence, kind: NodeKind, ids: Collection[str], *, steps: int
) -> tuple[dict[str, bool], bool]:
    """Those of the things that came of the starts, and whether surely; and whether the walk was stopped after ``steps`` nodes."""
    values = {**_asked(project_id, starts, evidence), "kind": kind, "things": list(ids), "steps": steps}
    rows = await (await conn.execute(Q.list_descended, values)).fetchall()
    return {row["id"]: row["sure"] for row in rows if row["id"]}, any(row["stopped"] for row in rows)


def _asked(project_id: UUID, starts: Sequence[Node], evidence: Evidence) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "kinds": [str(node.kind) for node in starts],
        "ids": [node.id for node in starts],
        "sure": evidence.sure,
        "seen_runs": list(evidence.seen),
        "cleared_runs": [run_id for run_id, _ in evidence.cleared],
        "cleared_ids": [source_id for _, source_id in evidence.cleared],
    }


async def list_imported(conn: Connection, project_id: UUID, place: str) -> list[Node]:
    rows = await (await conn.execute(Q.list_imported, {"project_id": project_id, "place": place})).fetchall()
    return [Node(NodeKind.DATASET, row["id"], row["label"]) for row in rows]


async def list_overlapping(conn: Connection, project_id: UUID, place: str) -> list[Node]:
    rows = await (await conn.execute(Q.list_overlapping, {"project_id": project_id, "place": place})).fetchall()
    return [Node(NodeKind.DATASET, row["id"], row["label"]) for row in rows]


def _edge(row: Mapping[str, Any]) -> Edge:
    source = Node(row["source_kind"], row["source_id"], row["source_label"])
    return Edge(source, Node(row["target_kind"], row["target_id"], row["target_label"]), row["relation"])
