"""The lineage graph across modules: ModelHub has the edges, DataForge knows files and who read them, DeployEngine what is served now.

A file is part of every commit that holds its content, and a prediction names the deployment that answered it: neither is an edge that
somebody must write, so the graph has as many files and predictions as there are, and they cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from actors.modelhub import service as modelhub
from actors.modelhub.errors import NodeNotFound
from actors.modelhub.lineage import service as lineage
from actors.modelhub.lineage.models import Affected, Evidence
from actors.modelhub.models import Direction, Edge, Graph, Node, NodeKind
from actors.securityvault.models import Scope
from aidos.errors import InvalidPayload, NotFound
from aidos.schemas.lineage import AffectedRead, ImpactRead
from cluster.db import Connection
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.models import Commit
from data_pipelines.dataforge.reads import service as reads
from data_pipelines.dataforge.reads.models import FileRead, Reader
from serve_apps.deployengine import service as deployengine
from serve_apps.deployengine.models import Deployment

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMED_BY_PATH = frozenset({NodeKind.DATASET, NodeKind.JOB})


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
    """The graph around a thing; on the way up at most ``files`` files of each commit, those that runs have read before others.

    Raises: NotFound.
    """
    if kind is NodeKind.FILE:
        return await _trace_file(conn, scope, name, direction, depth)
    if kind is NodeKind.PREDICTION:
        graph = await _trace_prediction(conn, scope, name, direction, depth)
    else:
        graph = await lineage.trace(conn, scope, await _find(conn, scope, kind, name), direction, depth)
    return graph if direction is Direction.DOWN or not files else await _with_files(conn, scope, graph, files)


async def _find(conn: Connection, scope: Scope, kind: NodeKind, name: str) -> Node:
    if kind is NodeKind.COMMIT and "@" in name:
        (start,) = await commit_nodes(conn, scope, [name])
        return start
    told = unquote(name) if kind in _NAMED_BY_PATH else name
    if "\0" in told:
        raise NodeNotFound(kind=kind, name=name)
    return await modelhub.get_node(conn, scope, kind, told)


async def _trace_file(conn: Connection, scope: Scope, sha256: str, direction: Direction, depth: int) -> Graph:
    start, nodes = _file(sha256), [_commit(each) for each in await _holding(conn, scope, sha256)]
    if not nodes:
        raise NodeNotFound(kind=NodeKind.FILE, name=sha256)
    if direction is Direction.UP:
        return Graph(start, ())
    graph = await lineage.trace(conn, scope, start, Direction.DOWN, depth, via=nodes)
    return replace(graph, edges=(*(Edge(start, node, "part of") for node in nodes), *graph.edges))


async def _trace_prediction(conn: Connection, scope: Scope, id: str, direction: Direction, depth: int) -> Graph:
    """Up from the one version that answered, not from all that the endpoint has ever served."""
    answer = await deployengine.find_answer(conn, scope, id)
    if answer is None:
        raise NodeNotFound(kind=NodeKind.PREDICTION, name=id)
    deployment, at = answer
    start = Node(NodeKind.PREDICTION, id, f"{deployment.endpoint} at {at:%Y-%m-%d %H:%M:%S} UTC")
    endpoint, version = _endpoint(deployment), Node(NodeKind.MODEL_VERSION, str(deployment.model_version_id), deployment.reference)
    steps = (Edge(endpoint, start, "answered"), Edge(version, endpoint, "served by"))
    if direction is Direction.DOWN:
        return Graph(start, ())
    if depth <= len(steps):
        return Graph(start, steps[:depth], ("depth",))
    graph = await lineage.trace(conn, scope, start, Direction.UP, depth - len(steps), via=[version])
    return replace(graph, edges=(*steps, *graph.edges))


async def _with_files(conn: Connection, scope: Scope, graph: Graph, limit: int) -> Graph:
    """The files that runs streamed and, of commits that nobody is known to have streamed, the first."""
    inputs = [edge for edge in graph.edges if edge.source.kind == NodeKind.COMMIT and edge.target.kind == NodeKind.RUN]
    runs = {edge.target.id: edge.target for edge in inputs}
    read = await reads.list_files_read(conn, scope, [modelhub.to_id(run) for run in runs.values()], limit) if runs else []
    named = [Edge(Node(NodeKind.FILE, file.sha256, file.path), runs[str(file.run_id)], "streamed by") for file in _first(read, limit)]
    streamed = {(str(file.run_id), str(file.commit_id)) for file in read}
    commits = {edge.source.id: edge.source for edge in graph.edges if edge.source.kind == NodeKind.COMMIT}
    if graph.start.kind == NodeKind.COMMIT:
        commits = {graph.start.id: graph.start}
    for commit in commits.values():
        if not any((run, commit.id) in streamed for run in runs):
            named += await _files_of(conn, scope, commit, limit)
    return replace(graph, edges=(*named, *graph.edges))


def _first(read: Sequence[FileRead], limit: int) -> list[FileRead]:
    """So many files of each run and commit; a run may have streamed several sources of one commit."""
    kept: dict[tuple[object, object], dict[str, FileRead]] = {}
    for file in read:
        files = kept.setdefault((file.run_id, file.commit_id), {})
        if len(files) < limit:
            files.setdefault(file.path, file)
    return [file for files in kept.values() for file in files.values()]


async def _files_of(conn: Connection, scope: Scope, commit: Node, limit: int) -> list[Edge]:
    try:
        files = await dataforge.list_files(conn, scope, modelhub.to_id(commit), limit=limit)
    except NotFound:  # the dataset was deleted since
        return []
    return [Edge(Node(NodeKind.FILE, file.sha256, file.path), commit, "part of") for file in files]


async def find_affected(conn: Connection, scope: Scope, kind: NodeKind, name: str, kinds: Sequence[NodeKind], *, live: bool) -> ImpactRead:
    """What has come of a thing; of a file, with what surely saw it. ``live``: only endpoints that answer with it now. Raises: NotFound."""
    wanted = {NodeKind.ENDPOINT} if live else set(kinds or NodeKind)
    if kind is NodeKind.FILE:
        start, starts, evidence = await _evidence(conn, scope, name)
        holding = [Affected(node, sure=True) for node in starts if NodeKind.COMMIT in wanted]
    else:
        start = await _find(conn, scope, kind, name)
        starts, evidence, holding = [start], Evidence(), []
    answering, lost = await _list_live(conn, scope, start, starts, evidence) if NodeKind.ENDPOINT in wanted else ([], False)
    found, more = ([], False) if live else await lineage.list_affected(conn, scope, starts, sorted(wanted), evidence)
    told = {str(each.node.id) for each in answering}
    others = [_to_read(each) for each in (*holding, *found) if each.node.id not in told]
    return ImpactRead.model_validate({"start": start, "affected": [*answering, *others], "truncated": lost or more})


async def _list_live(
    conn: Connection, scope: Scope, start: Node, starts: Sequence[Node], evidence: Evidence
) -> tuple[list[AffectedRead], bool]:
    """Endpoints that answer with what came of the starts; and whether some may be missing."""
    serving = await deployengine.list_live(conn, scope)
    versions, lost = await lineage.list_descended(
        conn, scope, starts, NodeKind.MODEL_VERSION, {str(each.model_version_id) for each in serving}, evidence
    )
    if start.kind == NodeKind.MODEL_VERSION:
        versions[start.id] = True
    return [_to_live(each, versions[id]) for each in serving if (id := str(each.model_version_id)) in versions], lost


async def _evidence(conn: Connection, scope: Scope, sha256: str) -> tuple[Node, list[Node], Evidence]:
    """A file, the commits that hold it, and which runs are known to have read it, or other files of them only."""
    commits = [_commit(each) for each in await _holding(conn, scope, sha256)]
    known = _SHA256.fullmatch(sha256) is not None
    readers: list[Reader] = await reads.list_readers(conn, scope, sha256, [modelhub.to_id(each) for each in commits]) if known else []
    seen = {reader.run_id for reader in readers if reader.saw}
    if not commits and not seen:
        raise NodeNotFound(kind=NodeKind.FILE, name=sha256)
    cleared = [(reader.run_id, str(reader.commit_id)) for reader in readers if reader.complete and not reader.saw]
    return _file(sha256), commits, Evidence(sure=False, seen=sorted(seen), cleared=cleared)


async def _holding(conn: Connection, scope: Scope, sha256: str) -> list[Commit]:
    return await dataforge.find_commits_with_blob(conn, scope, sha256) if _SHA256.fullmatch(sha256) else []


def _file(sha256: str) -> Node:
    return Node(NodeKind.FILE, sha256, sha256[:12])


def _commit(commit: Commit) -> Node:
    return Node(NodeKind.COMMIT, str(commit.id), f"{commit.dataset}@{commit.id}")


def _endpoint(deployment: Deployment) -> Node:
    return Node(NodeKind.ENDPOINT, str(deployment.endpoint_id), deployment.endpoint)


def _to_live(deployment: Deployment, sure: bool) -> AffectedRead:
    return AffectedRead.model_validate({"node": _endpoint(deployment), "sure": sure, "live": True, "model": deployment.reference})


def _to_read(affected: Affected) -> AffectedRead:
    return AffectedRead.model_validate({"node": affected.node, "sure": affected.sure, "live": False, "model": ""})
