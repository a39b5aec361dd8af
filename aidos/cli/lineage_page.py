"""The lineage graph as one HTML page: no script, nothing from anywhere; columns from the raw file on the left to the prediction."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aidos.schemas.modelhub import GraphRead, NodeRead

WIDTH, HEIGHT, GAP_X, GAP_Y, LETTERS = 190, 40, 90, 16, 26
_STYLE = """
.node rect{fill:var(--back);stroke:currentColor;opacity:.9;rx:6px}.node .kind{opacity:.6}.start rect{fill:var(--mark)}
.edge{fill:none;stroke:currentColor;opacity:.35}.wide svg{max-width:none}
"""
Place = tuple[int, int]


def to_html(graph: GraphRead) -> str:
    """The picture, and the edges as a table for those who read it otherwise."""
    nodes = {node.id: node for edge in graph.edges for node in (edge.source, edge.target)} | {graph.start.id: graph.start}
    edges = list(dict.fromkeys((edge.source.id, edge.target.id, edge.relation) for edge in graph.edges))
    title = f"Lineage of {graph.start.kind.value} {graph.start.label or graph.start.id}"
    style = importlib.resources.files("aidos.cli").joinpath("comparison.css").read_text("utf-8") + _STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    more = f" There is more than was walked ({', '.join(graph.cut_by)})." if graph.cut_by else ""
    rows = "".join(f"<tr>{_cell(nodes[source])}<td>{html.escape(relation)}{_cell(nodes[target])}" for source, target, relation in edges)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f'style-src \'sha256-{digest}\'"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{style}</style>'
        f"<h1>{html.escape(title)}</h1><p>{len(nodes)} things, {len(edges)} edges.{more}</p>"
        f'<div class="wide">{_draw(nodes, edges, graph.start.id)}</div>'
        f'<h2>Edges</h2><div class="wide"><table><tr><th>from<th>relation<th>to{rows}</table></div></html>\n'
    )


def choose_columns(nodes: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    """The column of each node: behind all that went into it. An edge that closes a circle counts for nothing."""
    into: dict[str, list[str]] = {}
    for source, target, _ in edges:
        into.setdefault(target, []).append(source)
    columns: dict[str, int] = {}
    for root in nodes:
        stack, open_nodes = [root], set[str]()
        while stack:
            node = stack[-1]
            waiting = [source for source in into.get(node, ()) if source not in columns and source not in open_nodes and source != node]
            open_nodes.add(node)
            if node in columns or not waiting:
                columns.setdefault(node, 1 + max((columns[source] for source in into.get(node, ()) if source in columns), default=-1))
                stack.pop()
            else:
                stack.extend(waiting)
    return columns


def _draw(nodes: Mapping[str, NodeRead], edges: Sequence[tuple[str, str, str]], start: str) -> str:
    columns = choose_columns(list(nodes), edges)
    filled = [0] * (1 + max(columns.values()))
    places: dict[str, Place] = {}
    for id in nodes:
        column = columns[id]
        places[id] = (column * (WIDTH + GAP_X) + 1, filled[column] * (HEIGHT + GAP_Y) + 1)
        filled[column] += 1
    width, height = len(filled) * (WIDTH + GAP_X), max(filled) * (HEIGHT + GAP_Y)
    lines = "".join(_line(places[source], places[target], relation) for source, target, relation in edges)
    boxes = "".join(_box(node, places[id], "node start" if id == start else "node") for id, node in nodes.items())
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="The graph; its edges are in the table below.">{lines}{boxes}</svg>'
    )


def _line(source: Place, target: Place, relation: str) -> str:
    (x, y), (to_x, to_y) = (source[0] + WIDTH, source[1] + HEIGHT // 2), (target[0], target[1] + HEIGHT // 2)
    bend = GAP_X // 2
    path = f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
    return f'<path class="edge" d="{path}"><title>{html.escape(relation)}</title></path>'


def _box(node: NodeRead, place: Place, kind: str) -> str:
    x, y = place
    name = node.label or node.id
    short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    return (
        f'<g class="{kind}"><title>{html.escape(f"{node.kind.value} {name} {node.id}")}</title>'
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"/><text class="kind" x="{x + 8}" y="{y + 15}">{node.kind.value}</text>'
        f'<text x="{x + 8}" y="{y + 31}">{html.escape(short)}</text></g>'
    )


def _cell(node: NodeRead) -> str:
    return f'<td title="{html.escape(node.id)}">{node.kind.value} {html.escape(node.label or node.id)}'
