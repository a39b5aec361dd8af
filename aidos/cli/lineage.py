"""``aidos lineage``: the graph from file to prediction as a tree, both ways; ``aidos affected``: what a thing has gone into."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from aidos.cli.output import cell, show_table
from aidos.cli.session import session
from aidos.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from rich.tree import Tree

    from aidos.client import Client
    from aidos.schemas.modelhub import GraphRead

KINDS = (
    "file", "commit", "job", "run", "model_version", "endpoint", "prediction", "dataset", "prompt", "index", "adapter", "device",
)  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PREDICTION = re.compile(r"[0-9a-f]{32}-\d+-[0-9a-f]{32}")
_FILE = re.compile(r"(?P<dataset>[^@/:]+)@(?P<rest>.+/.+)")
T = TypeVar("T")

NodeName = Annotated[
    str,
    typer.Argument(
        metavar="NODE",
        help="An endpoint's name, a model version (digits@1), a commit (digits@main), a file (digits@main/train/7.png, or its SHA-256), "
        f"a prediction's id, or an id; KIND:NAME says which of {', '.join(KINDS)}.",
        show_default=False,
    ),
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("lineage", help="What a thing came from and what came of it, from the raw file to the prediction.")(lineage)
    group.command("affected", help="What a bad file, commit or dataset has gone into: which live endpoints saw it?")(affected)


def lineage(
    node: NodeName,
    direction: Annotated[str, typer.Option(help="up: where it came from; down: what came of it; both.")] = "both",
    depth: Annotated[int, typer.Option(min=1, max=20, help="How many edges away.")] = 10,
    files: Annotated[int, typer.Option(min=0, max=1000, help="Files to name of each commit.")] = 3,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the graph as a page of its own.")] = None,
) -> None:
    current = session()
    graph = ask(
        current.client, node, lambda kind, name: current.client.lineage.get(kind, name, direction=direction, depth=depth, files=files)
    )
    if html is not None:
        from aidos.cli.lineage_page import to_html

        html.write_text(to_html(graph), "utf-8")
        current.note(f"Written to {html}.")
    if current.as_json:
        current.show(graph)
        return
    for part in ("up", "down"):
        if html is None and direction in (part, "both") and (tree := build_tree(graph, upwards=part == "up")).children:
            current.out.print(tree)
    if not graph.edges:
        current.note(f"{graph.start.kind.value} {graph.start.label} stands alone.")
    for limit in graph.cut_by:
        current.note(
            "There are more edges than were walked: ask with a smaller --depth."
            if limit == "edges"
            else f"There is more behind --depth {depth}."
        )


def affected(
    node: NodeName,
    only: Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only things of this kind; again for more.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only endpoints that answer with it now, or are about to.")] = False,
) -> None:
    current = session()
    if unknown := next((kind for kind in only or () if kind.replace("-", "_") not in KINDS), None):
        raise InvalidRequest(reason=f"There is no kind '{unknown}'. It must be one of {', '.join(KINDS)}.")
    kinds = [kind.replace("-", "_") for kind in only or ()]
    found = ask(current.client, node, lambda kind, name: current.client.lineage.affected(kind, name, only=kinds, live=live))
    if current.as_json:
        current.show(found)
        return
    rows = [
        {
            "kind": each.node.kind.value,
            "name": each.node.label or each.node.id,
            "saw it": "yes" if each.sure else "maybe",
            "live": each.model,
        }
        for each in found.affected
    ]
    show_table(current, rows, ("kind", "name", "saw it", "live"), verbatim=True)
    if found.truncated:
        current.note("There are more: ask for one --kind, or with --live.")


def ask(client: Client, node: str, question: Callable[[str, str], T]) -> T:
    """The answer about the first kind that has such a node. Raises: NotFound."""
    refusal: NotFound | None = None
    for kind, name in candidates(node):
        try:
            if kind == "file":
                return question(kind, find_content(client, name))
            return question(kind, quote(name, safe="") if kind in ("dataset", "job") else name)
        except NotFound as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def find_content(client: Client, file: str) -> str:
    """The SHA-256 of ``dataset@ref/path``; a digest stays. Raises: NotFound."""
    parts = _FILE.fullmatch(file)
    if parts is None:
        return file
    pieces = parts["rest"].split("/")
    refusal: NotFound | None = None
    for cut in range(1, len(pieces)):  # a branch's name may have slashes too
        ref, path = "/".join(pieces[:cut]), "/".join(pieces[cut:])
        try:
            found = client.datasets.files(parts["dataset"], ref=ref, prefix=path, limit=1)
            if match := next((each.sha256 for each in found if each.path == path), None):
                return match
        except NotFound as error:
            refusal = refusal or error
    raise refusal or NotFound(noun="file", name=file)


def candidates(node: str) -> Iterator[tuple[str, str]]:
    """The kinds that a name may be of, the likeliest first. Raises: InvalidRequest for an unknown kind."""
    kind, colon, name = node.partition(":")
    if node.startswith("s3://"):
        yield "dataset", node.rstrip("/")
    elif colon:
        if (kind := kind.replace("-", "_")) not in KINDS:
            raise InvalidRequest(reason=f"There is no kind '{kind}'. It must be one of {', '.join(KINDS)}.")
        yield kind, name
    elif _SHA256.fullmatch(node) or _FILE.fullmatch(node):
        yield "file", node
    elif _PREDICTION.fullmatch(node):
        yield "prediction", node
    elif _UUID.fullmatch(node):
        yield from ((kind, node) for kind in ("run", "commit", "job", "model_version", "endpoint"))
    elif "@" in node:
        yield from (("model_version", node), ("commit", node))
    else:
        yield from (("endpoint", node), ("run", node), ("job", node))


def build_tree(graph: GraphRead, *, upwards: bool) -> Tree:
    """One direction of the graph from its start; what was shown already is named, not repeated."""
    from rich.text import Text
    from rich.tree import Tree

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
