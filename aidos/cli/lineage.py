"""``aidos lineage``: the graph from file to prediction as a tree, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli.session import session
from aidos.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from rich.tree import Tree

    from aidos.schemas.modelhub import GraphRead

KINDS = ("file", "commit", "job", "run", "model_version", "endpoint", "prediction")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("lineage", help="What a thing came from and what came of it, from the raw file to the prediction.")(lineage)


def lineage(
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODE",
            help="An endpoint's name, a model version (digits@1), a commit (digits@main), a file's SHA-256, or an id; "
            f"KIND:NAME says which of {', '.join(KINDS)}.",
            show_default=False,
        ),
    ],
    direction: Annotated[str, typer.Option(help="up: where it came from; down: what came of it; both.")] = "both",
    depth: Annotated[int, typer.Option(min=1, max=20, help="How many edges away.")] = 10,
    files: Annotated[int, typer.Option(min=0, max=1000, help="Files to name of each commit.")] = 3,
) -> None:
    current = session()
    graph = find_graph(current.client, node, {"direction": direction, "depth": depth, "files": files})
    if current.as_json:
        current.show(graph)
        return
    for part in ("up", "down"):
        if direction in (part, "both") and (tree := build_tree(graph, upwards=part == "up")).children:
            current.out.print(tree)
    if not graph.edges:
        current.note(f"{graph.start.kind.value} {graph.start.label} stands alone.")
    for limit in graph.cut_by:
        current.note(
            "There are more edges than were walked: ask with a smaller --depth."
            if limit == "edges"
            else f"There is more behind --depth {depth}."
        )


def find_graph(client: Any, node: str, options: dict[str, Any]) -> GraphRead:
    """The graph of the first kind that has such a node. Raises: NotFound."""
    refusal: NotFound | None = None
    for kind, name in candidates(node):
        try:
            return client.lineage.get(kind, name, **options)
        except NotFound as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def candidates(node: str) -> Iterator[tuple[str, str]]:
    """The kinds that a name may be of, the likeliest first. Raises: InvalidRequest for an unknown kind."""
    kind, colon, name = node.partition(":")
    if colon:
        if (kind := kind.replace("-", "_")) not in KINDS:
            raise InvalidRequest(reason=f"There is no kind '{kind}'. It must be one of {', '.join(KINDS)}.")
        yield kind, name
    elif _SHA256.fullmatch(node):
        yield "file", node
    elif _UUID.fullmatch(node):
        yield from ((kind, node) for kind in ("run", "commit", "job", "model_version", "endpoint", "prediction"))
    elif "@" in node:
        yield from (("model_version", node), ("commit", node))
    else:
        yield from (("endpoint", node), ("run", node), ("job", node))


def build_tree(graph: GraphRead, *, upwards: bool) -> Tree:
    """One direction of the graph from its start; what was shown already is named, not repeated."""
    from rich.text import Text
    from rich.tree import Tree

    from aidos.cli.output import cell

    ends: dict[str, list[tuple[str, Any]]] = {}
    for edge in graph.edges:
        near, far = (edge.target, edge.source) if upwards else (edge.source, edge.target)
        ends.setdefault(near.id, []).append((edge.relation, far))
    shown: set[str] = set()

    def text(node: Any, prefix: str = "") -> Text:
        return Text.assemble((prefix, "dim"), (node.kind.value, "bold"), " ", cell("label", node.label), (f"  {node.id[:12]}", "dim"))

    def grow(tree: Tree, node: Any) -> None:
        if node.id in shown:
            if ends.get(node.id):
                tree.add(Text("… shown above", "dim"))
            return
        shown.add(node.id)
        for relation, far in ends.get(node.id, []):
            grow(tree.add(text(far, f"{relation} ← " if upwards else f"{relation} → ")), far)

    root = Tree(Text.assemble(text(graph.start), ("  came from" if upwards else "  went into", "dim")))
    grow(root, graph.start)
    return root
