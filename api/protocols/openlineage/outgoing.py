"""The platform's runs as OpenLineage's events, made of the outbox when they are asked for or sent: nothing is kept twice.

A run in a job has the job's name, another its experiment's. A commit is a dataset in a version, so is a model version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.lineage import service as lineage
from actors.modelhub.models import Direction, Node, NodeKind, Run, RunState
from actors.securityvault import service as securityvault
from actors.securityvault.models import Scope, platform_scope
from aidos.errors import NotFound
from api.protocols.openlineage import wire
from api.protocols.openlineage.wire import EventType, facet
from cluster.db import Connection
from cluster.events import Event, Position, tail_events
from data_pipelines.dataforge.reports import service as reports
from tune.trainos import service as trainos
from tune.trainos.models import Job

RUN_TYPES = {"modelhub.run.created": EventType.START, "modelhub.run.resumed": EventType.RUNNING}
_ENDS = {RunState.FINISHED: EventType.COMPLETE, RunState.FAILED: EventType.FAIL, RunState.KILLED: EventType.ABORT}
_PARENT_TAG = "mlflow.parentRunId"


def namespace_of(url: str, project: str) -> str:
    """What a project's jobs and datasets are named in: ``aidos://host:port/project``."""
    return f"aidos://{urlsplit(url).netloc}/{project}"


async def list_run_events(
    conn: Connection, scope: Scope, url: str, after: Position, limit: int
) -> tuple[list[dict[str, Any]], Position | None]:
    """The project's events behind ``after``, of at most ``limit`` of the outbox; where to go on, None at the end."""
    found = await tail_events(conn, after, type="modelhub", limit=limit)
    made = [await to_run_event(conn, event, url, scope) for _, event in found]
    return [each for each in made if each], found[-1][0] if len(found) == limit else None


async def to_run_event(conn: Connection, event: Event, url: str, scope: Scope | None = None) -> dict[str, Any] | None:
    """The event as OpenLineage tells it; None where it is no transition of a run, or the run or its project is gone."""
    moment = _moment(event)
    if moment is None or event.project_id is None or event.time is None:
        return None
    scope = scope or _scope(event.org_id, event.project_id)
    type, run_id = moment
    try:
        run = await modelhub.get_run(conn, scope, run_id)
        project = await securityvault.get_project(conn, _scope(event.org_id, event.project_id), str(event.project_id))
    except NotFound:
        return None
    teller = Teller(conn, scope, namespace_of(url, project.name))
    return {
        "eventType": type.value,
        "eventTime": event.time.isoformat(),
        "producer": wire.PRODUCER,
        "schemaURL": wire.EVENT_SCHEMA,
        **await teller.tell(run, failed=type is EventType.FAIL),
    }


def _moment(event: Event) -> tuple[EventType, UUID] | None:
    if event.type in RUN_TYPES:
        return RUN_TYPES[event.type], UUID(event.subject)
    if event.type == "modelhub.run.ended":
        return _ENDS[RunState(event.data["state"])], UUID(event.subject)
    if event.type == "modelhub.version.created" and event.data.get("run_id"):
        return EventType.OTHER, UUID(event.data["run_id"])  # an output that may come after the run has ended
    return None


def _scope(org_id: UUID, project_id: UUID) -> Scope:
    scope = platform_scope(org_id, project_id)
    return replace(scope, principal=replace(scope.principal, org_admin=True))


class Teller:
    """Says of runs of one project what they read and made."""

    def __init__(self, conn: Connection, scope: Scope, namespace: str) -> None:
        self.conn, self.scope, self.namespace = conn, scope, namespace

    async def tell(self, run: Run, *, failed: bool) -> dict[str, Any]:
        """``run``, ``job``, ``inputs`` and ``outputs`` of an event."""
        job = await self._job(run)
        graph = await lineage.trace(self.conn, self.scope, Node(NodeKind.RUN, str(run.id)), Direction.BOTH, 1)
        inputs = [await self._dataset(edge.source) for edge in graph.edges if edge.target.id == str(run.id)]
        outputs = [await self._dataset(edge.target) for edge in graph.edges if edge.source.id == str(run.id)]
        facets = await self._parent(run, job)
        if failed:
            reason = job.reason if job and job.run_id == run.id and job.reason else "The run failed."
            facets["errorMessage"] = facet("ErrorMessageRunFacet", "1-0-1", message=reason, programmingLanguage="Python")
        kind = facet("JobTypeJobFacet", "2-0-3", processingType="BATCH", integration="AIDOS", jobType="JOB" if job else "RUN")
        return {
            "run": {"runId": str(run.id), "facets": facets},
            "job": {"namespace": self.namespace, "name": job.name if job else run.experiment, "facets": {"jobType": kind}},
            "inputs": [each for each in inputs if each],
            "outputs": [each for each in outputs if each],
        }

    async def _job(self, run: Run) -> Job | None:
        if run.job_id is not None:
            with contextlib.suppress(NotFound):
                return await trainos.get_job(self.conn, self.scope, str(run.job_id))
        return None

    async def _parent(self, run: Run, job: Job | None) -> dict[str, Any]:
        """The facet ``parent``: the run that a trial belongs to, or that of the job whose code began this one."""
        named = run.tags.get(_PARENT_TAG) or (str(job.run_id) if job and job.run_id != run.id and job.run_id else "")
        try:
            parent = await modelhub.get_run(self.conn, self.scope, UUID(named)) if named else None
        except (ValueError, NotFound):
            return {}
        if parent is None or parent.id == run.id:
            return {}
        over = await self._job(parent)
        about = {"namespace": self.namespace, "name": over.name if over else parent.experiment}
        return {"parent": facet("ParentRunFacet", "1-0-1", run={"runId": str(parent.id)}, job=about)}

    async def _dataset(self, node: Node) -> dict[str, Any] | None:
        if node.kind == NodeKind.COMMIT:
            name = node.label.rpartition("@")[0]
            fields = await self._columns(name, node.id)
            return wire.to_dataset(self.namespace, name, node.id, **({"schema": wire.to_schema(fields)} if fields else {}))
        if node.kind == NodeKind.MODEL_VERSION:
            return await self._model(*node.label.rpartition("@")[::2])
        if node.kind == NodeKind.DATASET:
            namespace, name = split_dataset(node.id)
            return wire.to_dataset(namespace, name, "")
        return None

    async def _columns(self, dataset: str, commit_id: str) -> Mapping[str, str]:
        """Names and types, where somebody had the commit's tables profiled."""
        try:
            for report in await reports.list_reports(self.conn, self.scope, dataset, commit_id, "profile", None, 1):
                result = (await reports.get_report(self.conn, self.scope, report.id)).result or {}
                columns = result.get("table", {}).get("columns", {})
                return {name: next(iter(column.get("types") or {"unknown": 0})) for name, column in columns.items()}
        except NotFound:  # the dataset was deleted since
            pass
        return {}

    async def _model(self, model: str, version: str) -> dict[str, Any]:
        name, kind = f"{wire.MODEL_PREFIX}{model}", facet("DatasetTypeDatasetFacet", "1-0-1", datasetType="MODEL")
        try:
            signature = (await modelhub.get_version(self.conn, self.scope, model, version)).signature or {}
        except NotFound:
            signature = {}
        fields = {tensor["name"]: tensor["dtype"] for tensor in signature.get("inputs", ())}
        schema = {"schema": wire.to_schema(fields)} if fields else {}
        return wire.to_dataset(self.namespace, name, version, datasetType=kind, **schema)


def split_dataset(id: str) -> tuple[str, str]:
    """Namespace and name of an external dataset's id: ``scheme://authority`` and the rest, or up to the first slash."""
    scheme, separator, rest = id.partition("://")
    head, _, name = (rest if separator else id).partition("/")
    return (f"{scheme}://{head}" if separator else head), name or head
