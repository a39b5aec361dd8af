"""What other systems tell in OpenLineage joins the graph: edges only, so the order of events does not matter and twice is once.

A dataset of this platform's namespace is the commit that it names, or the model version; any other is a node of its own, and a folder
in S3 stands before the commits that were imported from it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.lineage import service as lineage
from actors.modelhub.models import Node, NodeKind
from actors.securityvault.models import Scope, platform_scope
from aidos.errors import NotFound
from api.protocols.openlineage.errors import InvalidRunEvent
from api.protocols.openlineage.wire import MODEL_PREFIX, DatasetNamed, EventPosted, JobNamed, ParentNamed
from cluster.db import Connection
from cluster.events import Event, follow
from cluster.host import Host
from data_pipelines.dataforge import service as dataforge

_ID_LENGTH = 200
_READABLE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_S3 = re.compile(r"s3[an]?://")


async def ingest(conn: Connection, scope: Scope, event: EventPosted, namespace: str) -> None:
    """Write what the event tells. Of a dataset alone there is nothing to draw. Raises: InvalidRunEvent."""
    if event.job is None:
        if event.dataset is None or event.run is not None:
            raise InvalidRunEvent(reason="An event is of a run (`run` and `job`), of a job (`job`) or of a dataset (`dataset`).")
        return
    job = _job(event.job)
    work = job
    if event.run is not None:
        work = await _run(conn, scope, event.run.id, job)
        await _add_parent(conn, scope, event.run.facets.get("parent"), work)
    for dataset in event.inputs:
        await lineage.add_edge(conn, scope, await _dataset(conn, scope, dataset, namespace), work, "input")
    for dataset in event.outputs:
        await lineage.add_edge(conn, scope, work, await _dataset(conn, scope, dataset, namespace), "produced")


def _job(named: JobNamed) -> Node:
    return _node(NodeKind.JOB, named.namespace, named.name)


async def _run(conn: Connection, scope: Scope, id: UUID, job: Node) -> Node:
    """The platform's own run of this id, or one elsewhere; only that has the job that the event names."""
    try:
        run = await modelhub.get_run(conn, scope, id)
    except NotFound:
        node = Node(NodeKind.RUN, str(id), job.label)
        await lineage.add_edge(conn, scope, job, node, "ran as")
        return node
    return Node(NodeKind.RUN, str(run.id), run.name)


async def _add_parent(conn: Connection, scope: Scope, facet: Any, run: Node) -> None:
    if facet is None:
        return
    try:
        parent = ParentNamed.model_validate(facet)
    except ValueError as error:
        raise InvalidRunEvent(
            reason="The facet 'parent' has a `run` with a `runId`, a UUID, and a `job` with `namespace` and `name`."
        ) from error
    await lineage.add_edge(conn, scope, await _run(conn, scope, parent.run.id, _job(parent.job)), run, "started")


async def _dataset(conn: Connection, scope: Scope, named: DatasetNamed, namespace: str) -> Node:
    if named.namespace == namespace and (own := await _own(conn, scope, named.name, named.version)):
        return own
    if not _S3.match(named.namespace):
        return _node(NodeKind.DATASET, named.namespace, named.name)
    node = _node(NodeKind.DATASET, _S3.sub("s3://", named.namespace.rstrip("/")), named.name.strip("/"))
    for imported in await lineage.list_imported(conn, scope, node.id):
        await _lead(conn, scope, node, imported)
    return node


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


async def _lead(conn: Connection, scope: Scope, written: Node, imported: Node) -> None:
    """What lies in a folder that was imported, or around it, went into the commit."""
    if written.id != imported.id:
        await lineage.add_edge(conn, scope, written, imported, "part of" if written.id.startswith(f"{imported.id}/") else "holds")


async def join_import(conn: Connection, events: Sequence[Event]) -> None:
    """A consumer of the outbox: the folder that an import read, and whatever is known to have written into it, lead to its commit."""
    for event in events:
        if event.type != "dataforge.import.ended" or not event.data.get("commit_id") or event.project_id is None:
            continue
        scope = platform_scope(event.org_id, event.project_id)
        source, dataset, id = str(event.data["source"]).rstrip("/"), event.data["dataset"], str(event.data["commit_id"])
        folder = Node(NodeKind.DATASET, source, source.removeprefix("s3://").partition("/")[2] or source)
        await lineage.add_edge(conn, scope, folder, Node(NodeKind.COMMIT, id, f"{dataset}@{id}"), lineage.IMPORTED)
        for known in await lineage.list_overlapping(conn, scope, source):
            await _lead(conn, scope, known, folder)


async def join_imports(host: Host) -> None:
    """Loop of an actor."""
    await follow(host.db, host.wakeup, "lineage-of-imports", join_import)
