"""What other systems tell in OpenLineage joins the graph: edges only, so the order of events does not matter and twice is once.

A dataset of this platform's namespace is the commit that it names, or the model version; any other is a node of its own, and a folder
in S3 stands before the commits that were imported from it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.lineage import service as lineage
from actors.modelhub.models import Edge, Node, NodeKind
from actors.securityvault.models import Scope, platform_scope
from aidos.errors import NotFound
from api.protocols.openlineage.wire import MODEL_PREFIX, DatasetNamed, EventPosted, JobNamed, ParentRun, RunNamed
from cluster.db import Connection
from cluster.events import Event, follow
from cluster.host import Host
from data_pipelines.dataforge import service as dataforge

_ID_LENGTH = 200
_READABLE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_S3 = re.compile(r"s3[an]?://")


async def ingest(conn: Connection, scope: Scope, events: Sequence[EventPosted], namespace: str) -> None:
    """Write what the events tell, whatever is named often asked for once. Of a dataset alone there is nothing to draw."""
    named = [run.id for event in events if event.run for run in (event.run, *_parent_runs(event.run))]
    drawing = Drawing(conn, scope, namespace, {run.id: run.name for run in await lineage.list_runs(conn, scope, named)})
    for event in events:
        if event.job is not None:
            await drawing.draw(event.job, event)
    await lineage.add_edges(conn, scope, drawing.edges)


def _parent_runs(run: RunNamed) -> Sequence[ParentRun]:
    return (run.facets.parent.run,) if run.facets.parent else ()


class Drawing:
    """The edges that events tell of. ``own``: names of the platform's own runs among those that they name."""

    def __init__(self, conn: Connection, scope: Scope, namespace: str, own: Mapping[UUID, str]) -> None:
        self.conn, self.scope, self.namespace, self.own = conn, scope, namespace, own
        self.edges: list[Edge] = []
        self._known: dict[tuple[str, str, str], Node] = {}

    async def draw(self, job: JobNamed, event: EventPosted) -> None:
        """Of a run, or of a job as such."""
        work = _job(job)
        if event.run is not None:
            work = self._run(event.run.id, job)
            if parent := event.run.facets.parent:
                self.edges.append(Edge(self._run(parent.run.id, parent.job), work, "started"))
        self.edges += [Edge(await self._dataset(each), work, "input") for each in event.inputs]
        self.edges += [Edge(work, await self._dataset(each), "produced") for each in event.outputs]

    def _run(self, id: UUID, job: JobNamed) -> Node:
        """The platform's own run of this id, or one elsewhere; only that has the job that the event names."""
        if id in self.own:
            return Node(NodeKind.RUN, str(id), self.own[id])
        began = _job(job)
        node = Node(NodeKind.RUN, str(id), began.label)
        self.edges.append(Edge(began, node, "ran as"))
        return node

    async def _dataset(self, named: DatasetNamed) -> Node:
        key = (named.namespace, named.name, named.version)
        if key not in self._known:
            self._known[key] = await self._find(named)
        return self._known[key]

    async def _find(self, named: DatasetNamed) -> Node:
        if named.namespace == self.namespace and (own := await _own(self.conn, self.scope, named.name, named.version)):
            return own
        if not _S3.match(named.namespace):
            return _node(NodeKind.DATASET, named.namespace, named.name)
        node = _node(NodeKind.DATASET, _S3.sub("s3://", named.namespace.rstrip("/")), named.name.strip("/"))
        for imported in await lineage.list_imported(self.conn, self.scope, node.id):
            self.edges += _lead(node, imported)
        return node


def _job(named: JobNamed) -> Node:
    return _node(NodeKind.JOB, named.namespace, named.name)


async def _own(conn: Connection, scope: Scope, name: str, version: str) -> Node | None:
    """A model's version, or the commit: by the version, else the head of ``main``. None where there is none."""
    try:
        if name.startswith(MODEL_PREFIX):
            found = await modelhub.get_version(conn, scope, name.removeprefix(MODEL_PREFIX), version or "latest")
            return Node(NodeKind.MODEL_VERSION, str(found.id), found.reference)
        commit = await dataforge.get_commit(conn, scope, name, version or "main")
    except NotFound:
        return None
    return Node(NodeKind.COMMIT, str(commit.id), f"{commit.dataset}@{commit.id}")


def _node(kind: NodeKind, namespace: str, name: str) -> Node:
    """``namespace/name`` is the id; one that is too long for a key or not to be read is its digest."""
    whole = f"{namespace}/{name}".rstrip("/")
    readable = _READABLE.fullmatch(whole) is not None
    return Node(kind, whole if readable else f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}", name[:_ID_LENGTH])


def _lead(written: Node, imported: Node) -> list[Edge]:
    """What lies in a folder that was imported, or around it, went into the commit."""
    if written.id == imported.id:
        return []
    return [Edge(written, imported, "part of" if written.id.startswith(f"{imported.id}/") else "holds")]


async def join_import(conn: Connection, events: Sequence[Event]) -> None:
    """A consumer of the outbox: the folder that an import read, and whatever is known to have written into it, lead to its commit."""
    for event in events:
        if event.type != "dataforge.import.ended" or not event.data.get("commit_id") or event.project_id is None:
            continue
        scope = platform_scope(event.org_id, event.project_id)
        source, dataset, id = str(event.data["source"]).rstrip("/"), event.data["dataset"], str(event.data["commit_id"])
        folder = Node(NodeKind.DATASET, source, source.removeprefix("s3://").partition("/")[2] or source)
        edges = [Edge(folder, Node(NodeKind.COMMIT, id, f"{dataset}@{id}"), lineage.IMPORTED)]
        for known in await lineage.list_overlapping(conn, scope, source):
            edges += _lead(known, folder)
        await lineage.add_edges(conn, scope, edges)


async def join_imports(host: Host) -> None:
    """Loop of an actor."""
    await follow(host.db, host.wakeup, "lineage-of-imports", join_import, ("dataforge.import.",))
