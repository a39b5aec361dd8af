"""The platform's runs as OpenLineage's events, made of the outbox when they are asked for or sent: nothing is kept twice.

A run in a job has the job's name, another its experiment's. A commit is a dataset in a version, so is a model version.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from actors.modelhub.lineage import service as lineage
from actors.modelhub.lineage.models import TracedRun
from actors.modelhub.models import Node, NodeKind, RunState
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


def namespace_of(url: str, project: str) -> str:
    """What a project's jobs and datasets are named in: ``aidos://host:port/project``."""
    return f"aidos://{urlsplit(url).netloc}/{project}"


async def list_run_events(
    conn: Connection, scope: Scope, url: str, after: Position, limit: int
) -> tuple[list[dict[str, Any]], Position | None]:
    """The project's events behind ``after``, of at most ``limit`` of the outbox; where to go on, None at the end."""
    found = await tail_events(conn, after, type="modelhub", limit=limit)
    made = await to_run_events(conn, [event for _, event in found], url, scope)
    return [each for each in made if each], found[-1][0] if len(found) == limit else None


async def to_run_events(conn: Connection, events: Sequence[Event], url: str, scope: Scope | None = None) -> list[dict[str, Any] | None]:
    """Each event as OpenLineage tells it; None where it is no transition of a run, or the run or its project is gone.

    What they tell is asked for together: so many queries a project, however many events.
    """
    moments = [_moment(event) for event in events]
    asked: dict[UUID, set[UUID]] = {}
    for event, moment in zip(events, moments, strict=True):
        if moment and event.project_id:
            asked.setdefault(event.project_id, set()).add(moment[1])
    orgs = {event.project_id: event.org_id for event in events}
    tellers = {project: await _find_teller(conn, _scope(orgs[project], project), scope, url, runs) for project, runs in asked.items()}
    return [
        _tell(tellers.get(event.project_id) if event.project_id else None, event, *moment) if moment else None
        for event, moment in zip(events, moments, strict=True)
    ]


async def _find_teller(conn: Connection, platform: Scope, scope: Scope | None, url: str, runs: Iterable[UUID]) -> Teller | None:
    try:
        project = await securityvault.get_project(conn, platform, str(platform.project))
    except NotFound:
        return None
    return await Teller.of(conn, scope or platform, namespace_of(url, project.name), runs)


def _tell(teller: Teller | None, event: Event, type: EventType, run_id: UUID) -> dict[str, Any] | None:
    if teller is None or event.time is None or (run := teller.runs.get(run_id)) is None:
        return None
    return {
        "eventType": type.value,
        "eventTime": event.time.isoformat(),
        "producer": wire.PRODUCER,
        "schemaURL": wire.EVENT_SCHEMA,
        **teller.tell(run, failed=type is EventType.FAIL),
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


@dataclass(frozen=True)
class Teller:
    """Says of runs of one project what they read and made: all that is known of them, read together."""

    namespace: str
    runs: Mapping[UUID, TracedRun]
    jobs: Mapping[UUID, Job]
    inputs: Mapping[str, Sequence[Node]]
    outputs: Mapping[str, Sequence[Node]]
    columns: Mapping[UUID, Mapping[str, str]]
    signatures: Mapping[UUID, Mapping[str, Any]]

    @classmethod
    async def of(cls, conn: Connection, scope: Scope, namespace: str, ids: Iterable[UUID]) -> Teller:
        """With the runs that these belong to."""
        runs = {run.id: run for run in await lineage.list_runs(conn, scope, list(ids))}
        jobs = await _find_jobs(conn, scope, runs.values())
        over = [parent for run in runs.values() if (parent := _parent_of(run, jobs)) and parent not in runs]
        parents = {run.id: run for run in await lineage.list_runs(conn, scope, over)}
        jobs |= await _find_jobs(conn, scope, [run for run in parents.values() if run.job_id not in jobs])
        inputs, outputs = defaultdict(list), defaultdict(list)
        for edge in await lineage.list_edges(conn, scope, NodeKind.RUN, [str(id) for id in runs]):
            inputs[edge.target.id].append(edge.source)
            outputs[edge.source.id].append(edge.target)
        columns = await reports.list_columns(conn, scope, _ids(inputs, NodeKind.COMMIT))
        signatures = await lineage.list_signatures(conn, scope, _ids(outputs, NodeKind.MODEL_VERSION))
        return cls(namespace, runs | parents, jobs, inputs, outputs, columns, signatures)

    def tell(self, run: TracedRun, *, failed: bool) -> dict[str, Any]:
        """``run``, ``job``, ``inputs`` and ``outputs`` of an event."""
        job, id = self.jobs.get(run.job_id) if run.job_id else None, str(run.id)
        inputs = [self._dataset(node) for node in self.inputs.get(id, ())]
        outputs = [self._dataset(node) for node in self.outputs.get(id, ())]
        facets = self._parent(run)
        if failed:
            reason = job.reason if job and job.run_id == run.id and job.reason else "The run failed."
            facets["errorMessage"] = facet("ErrorMessageRunFacet", "1-0-1", message=reason, programmingLanguage="Python")
        kind = facet("JobTypeJobFacet", "2-0-3", processingType="BATCH", integration="AIDOS", jobType="JOB" if job else "RUN")
        return {
            "run": {"runId": id, "facets": facets},
            "job": {"namespace": self.namespace, "name": job.name if job else run.experiment, "facets": {"jobType": kind}},
            "inputs": [each for each in inputs if each],
            "outputs": [each for each in outputs if each],
        }

    def _parent(self, run: TracedRun) -> dict[str, Any]:
        """The facet ``parent``: the run that a trial belongs to, or that of the job whose code began this one."""
        id = _parent_of(run, self.jobs)
        parent = self.runs.get(id) if id and id != run.id else None
        if parent is None:
            return {}
        over = self.jobs.get(parent.job_id) if parent.job_id else None
        about = {"namespace": self.namespace, "name": over.name if over else parent.experiment}
        return {"parent": facet("ParentRunFacet", "1-0-1", run={"runId": str(parent.id)}, job=about)}

    def _dataset(self, node: Node) -> dict[str, Any] | None:
        if node.kind == NodeKind.COMMIT:
            fields = self.columns.get(UUID(node.id), {})
            schema = {"schema": wire.to_schema(fields)} if fields else {}
            return wire.to_dataset(self.namespace, node.label.rpartition("@")[0], node.id, **schema)
        if node.kind == NodeKind.MODEL_VERSION:
            return self._model(node)
        if node.kind == NodeKind.DATASET:
            namespace, name = split_dataset(node.id)
            return wire.to_dataset(namespace, name, "")
        return None

    def _model(self, node: Node) -> dict[str, Any]:
        model, _, version = node.label.rpartition("@")
        kind = facet("DatasetTypeDatasetFacet", "1-0-1", datasetType="MODEL")
        fields = {tensor["name"]: tensor["dtype"] for tensor in self.signatures.get(UUID(node.id), {}).get("inputs", ())}
        schema = {"schema": wire.to_schema(fields)} if fields else {}
        return wire.to_dataset(self.namespace, f"{wire.MODEL_PREFIX}{model}", version, datasetType=kind, **schema)


def _ids(nodes: Mapping[str, Sequence[Node]], kind: NodeKind) -> set[UUID]:
    return {UUID(node.id) for around in nodes.values() for node in around if node.kind == kind}


async def _find_jobs(conn: Connection, scope: Scope, runs: Iterable[TracedRun]) -> dict[UUID, Job]:
    return {job.id: job for job in await trainos.find_jobs(conn, scope, {run.job_id for run in runs if run.job_id})}


def _parent_of(run: TracedRun, jobs: Mapping[UUID, Job]) -> UUID | None:
    """What the run names as its parent, or the run of its job."""
    if run.parent:
        with contextlib.suppress(ValueError):
            return UUID(run.parent)
        return None
    job = jobs.get(run.job_id) if run.job_id else None
    return job.run_id if job else None


def split_dataset(id: str) -> tuple[str, str]:
    """Namespace and name of an external dataset's id: ``scheme://authority`` and the rest, or up to the first slash."""
    scheme, separator, rest = id.partition("://")
    head, _, name = (rest if separator else id).partition("/")
    return (f"{scheme}://{head}" if separator else head), name or head
