"""ModelHub's verbs: experiments, runs, models, versions, aliases and the lineage graph.

Each runs in the caller's transaction and writes its event there. Bytes never pass through here: clients move them by
presigned URL, and ``reconciler`` inspects those of a model version before it becomes READY.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.modelhub import policy, store
from actors.modelhub.errors import (
    ArtifactExists,
    ArtifactNotFound,
    ExperimentExists,
    ExperimentNotFound,
    ModelExists,
    ModelNotFound,
    NodeNotFound,
    ParamChanged,
    RunIdTaken,
    RunNotFound,
    UploadIncomplete,
    VersionInUse,
    VersionNotFound,
    VersionNotReady,
)
from actors.modelhub.lineage.service import add_edge as add_edge
from actors.modelhub.lineage.service import find_node
from actors.modelhub.lineage.service import list_sources as list_sources
from actors.modelhub.lineage.service import trace as trace
from actors.modelhub.models import (
    Artifact,
    ArtifactSpec,
    Experiment,
    Flavour,
    Model,
    ModelFile,
    ModelVersion,
    Node,
    NodeKind,
    Point,
    Run,
    RunFilter,
    RunSpec,
    RunState,
    VersionOrigin,
    VersionSpec,
    VersionState,
)
from actors.modelhub.series import service as series
from actors.modelhub.series.models import Columns
from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from cluster.events import Event, publish
from cluster.objects import ObjectInfo, Objects, prefix_key
from cluster.telemetry import current_traceparent


async def create_experiment(conn: Connection, scope: Scope, name: str, description: str = "") -> Experiment:
    """Raises: ExperimentExists."""
    experiment = await _insert_experiment(conn, scope, name, description)
    if experiment is None:
        raise ExperimentExists(name=name)
    return experiment


async def get_or_create_experiment(conn: Connection, scope: Scope, name: str) -> Experiment:
    """The experiment of this name, made now if there is none."""
    while True:
        found = await store.find_experiment(conn, scope.project, name) or await _insert_experiment(conn, scope, name, "")
        if found:
            return found


async def get_experiment(conn: Connection, scope: Scope, name: str) -> Experiment:
    """By name or id. Raises: ExperimentNotFound."""
    if found := await store.find_experiment(conn, scope.project, name):
        return found
    raise ExperimentNotFound(name=name)


async def list_experiments(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[Experiment]:
    return await store.list_experiments(conn, scope.project, before, limit)


async def delete_experiment(conn: Connection, scope: Scope, name: str) -> None:
    """Also its runs; the versions that came of them stay. Raises: ExperimentNotFound."""
    experiment = await get_experiment(conn, scope, name)
    await store.delete_experiment(conn, scope.project, experiment.id)
    await _emit(conn, scope, "experiment.deleted", experiment.id, name=experiment.name)


async def _insert_experiment(conn: Connection, scope: Scope, name: str, description: str) -> Experiment | None:
    experiment = await store.insert_experiment(
        conn, {"id": new_id(), "project_id": scope.project, "name": name, "description": description, "created_by": scope.actor}
    )
    if experiment:
        await _emit(conn, scope, "experiment.created", experiment.id, name=name)
    return experiment


async def create_run(conn: Connection, scope: Scope, spec: RunSpec, experiment: Experiment | None = None) -> Run:
    """Begin a run, in the experiment that ``spec`` names unless it is given. What a job makes belongs to the job. With an id that its maker
    chose, the same run again is that run.

    Raises: TooManyParams; RunIdTaken when the id is another run's.
    """
    policy.check_counts(len(spec.params), len(spec.tags))
    experiment = experiment or await get_or_create_experiment(conn, scope, spec.experiment)
    run_id, job_id = spec.id or new_id(), spec.job_id or scope.principal.job_id
    row = {"id": run_id, "project_id": scope.project, "experiment_id": experiment.id, "name": spec.name or f"run-{run_id.hex[-6:]}"}
    row |= {"job_id": job_id, "created_by": scope.actor, "started_at": spec.started_at}
    run = await store.insert_run(conn, row, experiment.name, spec.params, spec.tags)
    if run is None:
        return await _same_run(conn, scope, run_id, experiment)
    node = Node(NodeKind.RUN, str(run_id), run.name)
    for source in spec.inputs:
        await add_edge(conn, scope, source, node, "input")
    if job_id and spec.job_id is None:  # who starts a run for its job knows the job's name and adds this edge itself
        await add_edge(conn, scope, Node(NodeKind.JOB, str(job_id), str(job_id)), node, "ran as")
    await _emit(conn, scope, "run.created", run_id, name=run.name, experiment=experiment.name, job_id=str(job_id) if job_id else None)
    return run


async def _same_run(conn: Connection, scope: Scope, run_id: UUID, experiment: Experiment) -> Run:
    known = await store.find_run(conn, scope.project, run_id)
    if known is None or known.experiment_id != experiment.id:
        raise RunIdTaken(run_id=run_id)
    return known


async def get_run(conn: Connection, scope: Scope, run_id: UUID) -> Run:
    """With params, tags and latest metrics. Raises: RunNotFound."""
    if found := await store.find_run(conn, scope.project, run_id):
        return found
    raise RunNotFound(run_id=run_id)


async def list_runs(conn: Connection, scope: Scope, wanted: RunFilter, before: UUID | None, limit: int) -> list[Run]:
    """Newest first."""
    return await store.list_runs(conn, scope.project, wanted, before, limit)


async def update_run(
    conn: Connection,
    scope: Scope,
    run_id: UUID,
    *,
    name: str | None = None,
    state: RunState | None = None,
    ended_at: datetime | None = None,
    reopen: bool = False,
) -> Run:
    """Rename, end or resume a run; ``reopen`` also one that is FINISHED. Raises: RunNotFound, WrongRunState."""
    stands = await store.lock_run(conn, scope.project, run_id)
    if stands is None:
        raise RunNotFound(run_id=run_id)
    if state is not None and not reopen:
        policy.check_transition(run_id, stands, state)
    await store.update_run(conn, scope.project, run_id, name=name, state=state, ended_at=ended_at)
    if state is not None and state != stands:
        await _emit(conn, scope, "run.resumed" if state is RunState.RUNNING else "run.ended", run_id, state=state)
    return await get_run(conn, scope, run_id)


async def finish_run(conn: Connection, scope: Scope, run_id: UUID, state: RunState = RunState.FINISHED) -> None:
    """End a run for the job that it belongs to; one that its user has ended or deleted stays as it is."""
    if await store.lock_run(conn, scope.project, run_id) is RunState.RUNNING:
        await store.update_run(conn, scope.project, run_id, name=None, state=state)
        await _emit(conn, scope, "run.ended", run_id, state=state)


async def delete_run(conn: Connection, scope: Scope, run_id: UUID) -> None:
    """Raises: RunNotFound."""
    if not await store.delete_run(conn, scope.project, run_id):
        raise RunNotFound(run_id=run_id)
    await _emit(conn, scope, "run.deleted", run_id)


async def set_params(conn: Connection, scope: Scope, run_id: UUID, params: Mapping[str, str], *, late: bool = False) -> None:
    """A param is set once; ``late`` also in a run that has ended. Raises: RunNotFound, RunEnded, ParamChanged, TooManyParams."""
    await _require_running(conn, scope, run_id, late)
    if not params:
        return
    clash = await store.set_params(conn, scope.project, run_id, params)
    if clash:
        raise ParamChanged(run_id=run_id, **clash)
    await _check_counts(conn, scope, run_id)


async def set_tags(conn: Connection, scope: Scope, run_id: UUID, tags: Mapping[str, str | None]) -> None:
    """None removes a tag. Ended runs may still be tagged. Raises: RunNotFound, TooManyParams."""
    if await store.share_run(conn, scope.project, run_id) is None:
        raise RunNotFound(run_id=run_id)
    await store.delete_tags(conn, scope.project, run_id, [key for key, value in tags.items() if value is None])
    await store.set_tags(conn, scope.project, run_id, {key: value for key, value in tags.items() if value is not None})
    await _check_counts(conn, scope, run_id)


async def log_metrics(conn: Connection, scope: Scope, run_id: UUID, points: Sequence[Point], *, late: bool = False) -> None:
    """Append points, ``late`` also to a run that has ended; one that is there already changes nothing. Raises: RunNotFound, RunEnded."""
    for refusal in (await series.log(conn, scope, [(run_id, Columns.of(points))], late=late)).values():
        raise refusal


async def list_points(
    conn: Connection, scope: Scope, run_id: UUID, key: str, after: tuple[int, datetime, float] | None, limit: int
) -> list[Point]:
    """The series of one metric by step. Raises: RunNotFound."""
    await get_run(conn, scope, run_id)
    return await store.list_points(conn, scope.project, run_id, key, after, limit)


async def plot_points(conn: Connection, scope: Scope, run_id: UUID, key: str, points: int) -> list[Point]:
    """At most ``points`` of the series, its spikes among them. Raises: RunNotFound."""
    await get_run(conn, scope, run_id)
    return await store.downsample_points(conn, scope.project, run_id, key, max(1, points // 2))


async def announce_artifacts(conn: Connection, scope: Scope, run_id: UUID, files: Sequence[ArtifactSpec]) -> list[Artifact]:
    """Make room for files that will be uploaded; those already ``stored`` need no upload.

    Raises: RunNotFound, RunEnded, ArtifactExists when a path is stored with other bytes.
    """
    await _require_running(conn, scope, run_id)
    wanted = {file.path: file for file in files}
    rows = []
    for file in wanted.values():
        artifact_id = new_id()
        key = prefix_key(scope.project, "artifacts", run_id, str(artifact_id))
        rows.append({"id": artifact_id, "path": file.path, "key": key, "sha256": file.sha256, "size_bytes": file.size_bytes})
    artifacts = await store.insert_artifacts(conn, scope.project, run_id, rows)
    for artifact in artifacts:
        if artifact.sha256 != wanted[artifact.path].sha256 or artifact.size_bytes != wanted[artifact.path].size_bytes:
            raise ArtifactExists(run_id=run_id, path=artifact.path)
    return artifacts


async def get_artifacts(conn: Connection, scope: Scope, run_id: UUID, paths: Sequence[str], *, stored: bool = True) -> list[Artifact]:
    """Artifacts by path, each of them. Raises: RunNotFound, ArtifactNotFound."""
    if await store.share_run(conn, scope.project, run_id) is None:
        raise RunNotFound(run_id=run_id)
    found = {artifact.path: artifact for artifact in await store.find_artifacts(conn, scope.project, run_id, paths)}
    for path in paths:
        if path not in found or (stored and not found[path].stored):
            raise ArtifactNotFound(run_id=run_id, path=path)
    return list(found.values())


async def measure(objects: Objects, artifacts: Sequence[Artifact]) -> dict[UUID, ObjectInfo | None]:
    """What the object store has of the artifacts. Network: call it outside any transaction."""
    found = await asyncio.gather(*(objects.find(artifact.key) for artifact in artifacts))
    return dict(zip([artifact.id for artifact in artifacts], found, strict=True))


async def complete_artifacts(
    conn: Connection, scope: Scope, run_id: UUID, artifacts: Sequence[Artifact], measured: Mapping[UUID, ObjectInfo | None]
) -> list[Artifact]:
    """Mark as stored what arrived in its announced size. Raises: UploadIncomplete."""
    for artifact in artifacts:
        info = measured[artifact.id]
        if info is None or info.size_bytes != artifact.size_bytes:
            actual_bytes = info.size_bytes if info else 0
            raise UploadIncomplete(path=artifact.path, expected_bytes=artifact.size_bytes, actual_bytes=actual_bytes)
    done = await store.complete_artifacts(conn, scope.project, run_id, [artifact.id for artifact in artifacts])
    await _emit(conn, scope, "artifact.stored", run_id, paths=[artifact.path for artifact in done])
    return done


async def list_artifacts(conn: Connection, scope: Scope, run_id: UUID, prefix: str, after: str | None, limit: int) -> list[Artifact]:
    """Stored artifacts by path. Raises: RunNotFound."""
    await get_run(conn, scope, run_id)
    return await store.list_artifacts(conn, scope.project, run_id, prefix, after, limit)


async def create_model(conn: Connection, scope: Scope, name: str, description: str = "") -> Model:
    """Raises: ModelExists."""
    if not await _insert_model(conn, scope, name, description):
        raise ModelExists(name=name)
    return await get_model(conn, scope, name)


async def get_model(conn: Connection, scope: Scope, name: str) -> Model:
    """Raises: ModelNotFound."""
    if found := await store.find_model(conn, scope.project, name):
        return found
    raise ModelNotFound(name=name)


async def list_models(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[Model]:
    return await store.list_models(conn, scope.project, before, limit)


async def delete_model(conn: Connection, scope: Scope, name: str) -> None:
    """With its versions and aliases; the name is free again. Raises: ModelNotFound."""
    model = await get_model(conn, scope, name)
    await store.delete_model(conn, scope.project, model.id)
    await _emit(conn, scope, "model.deleted", model.id, name=name)


async def _insert_model(conn: Connection, scope: Scope, name: str, description: str) -> bool:
    model_id = new_id()
    made = await store.insert_model(
        conn, {"id": model_id, "project_id": scope.project, "name": name, "description": description, "created_by": scope.actor}
    )
    if made:
        await _emit(conn, scope, "model.created", model_id, name=name)
    return made


async def register_version(conn: Connection, scope: Scope, model: str, spec: VersionSpec) -> ModelVersion:
    """The next version of the model (made now if there is none), PENDING until its bytes were inspected.

    Raises: RunNotFound, ArtifactNotFound, InvalidModelFiles.
    """
    run = await get_run(conn, scope, spec.run_id)
    artifacts = await get_artifacts(conn, scope, spec.run_id, spec.artifacts)
    paths = policy.version_paths(spec.artifacts)
    policy.check_model_files(spec.flavour, list(paths.values()))
    files = [ModelFile(paths[a.path], a.key, a.size_bytes, a.sha256) for a in artifacts]
    return await register_files(conn, scope, model, spec.flavour, files, run=run, description=spec.description)


async def register_files(
    conn: Connection,
    scope: Scope,
    model: str,
    flavour: Flavour,
    files: Sequence[ModelFile],
    *,
    run: Run | None = None,
    description: str = "",
    origin: VersionOrigin | None = None,
) -> ModelVersion:
    """The next version of the model (made now if there is none) from files in the object store, PENDING until they were inspected."""
    model_id, number = await _take_number(conn, scope, model)
    version_id, run_id = new_id(), run.id if run else None
    row = {"id": version_id, "org_id": scope.org_id, "project_id": scope.project, "model_id": model_id, "version": number}
    row |= {"run_id": run_id, "flavour": flavour, "description": description, "created_by": scope.actor}
    row |= {"author_id": scope.principal.person_id}
    row |= {"traceparent": current_traceparent(), **(origin or VersionOrigin()).__dict__}
    await store.insert_version(conn, row, files)
    if run:
        target = Node(NodeKind.MODEL_VERSION, str(version_id), f"{model}@{number}")
        await add_edge(conn, scope, Node(NodeKind.RUN, str(run.id), run.name), target, "produced")
    await _emit(conn, scope, "version.created", version_id, model=model, version=number, run_id=str(run_id) if run_id else None)
    return await get_version(conn, scope, model, str(number))


async def _take_number(conn: Connection, scope: Scope, model: str) -> tuple[UUID, int]:
    while True:
        found = await store.find_model(conn, scope.project, model)
        if found is None:
            await _insert_model(conn, scope, model, "")
        elif number := await store.next_version(conn, scope.project, found.id):
            return found.id, number


async def get_version(conn: Connection, scope: Scope, model: str, version: str) -> ModelVersion:
    """``version``: a number, an alias, or ``latest`` (the newest READY one). Raises: VersionNotFound."""
    number, alias = policy.parse_version(version)
    if found := await store.find_version(conn, scope.project, model, number=number, alias=alias):
        return found
    raise VersionNotFound(model=model, version=version)


async def get_ready_version(conn: Connection, scope: Scope, model: str, version: str) -> ModelVersion:
    """As ``get_version``, and it may be served. Raises: VersionNotFound, VersionNotReady."""
    found = await get_version(conn, scope, model, version)
    if found.state is not VersionState.READY:
        raise VersionNotReady(reference=found.reference, state=found.state, because=f": {found.reason}" if found.reason else "")
    return found


async def get_kept_version(conn: Connection, scope: Scope, model: str, version: str) -> ModelVersion:
    """As ``get_version``, and it was inspected and kept: READY or QUARANTINED. Raises: VersionNotFound, VersionNotReady."""
    found = await get_version(conn, scope, model, version)
    return found if found.state is VersionState.QUARANTINED else await get_ready_version(conn, scope, model, version)


async def list_versions(conn: Connection, scope: Scope, model: str, before: int | None, limit: int) -> list[ModelVersion]:
    """Newest first. Raises: ModelNotFound."""
    found = await get_model(conn, scope, model)
    return await store.list_versions(conn, scope.project, found.id, before, limit)


async def delete_version(conn: Connection, scope: Scope, model: str, version: str) -> None:
    """Its number is not given out again. Raises: VersionNotFound, VersionInUse."""
    number = (await lock_version(conn, scope, await get_version(conn, scope, model, version))).version
    found = await get_version(conn, scope, model, str(number))
    if found.aliases:
        raise VersionInUse(reference=found.reference, alias=found.aliases[0])
    await store.delete_version(conn, scope.project, found.id)
    await _emit(conn, scope, "version.deleted", found.id, model=found.model, version=found.version)


async def lock_version(conn: Connection, scope: Scope, version: ModelVersion) -> ModelVersion:
    """Until the transaction ends nobody else deletes it, speaks of it or points an alias at it. Raises: VersionNotFound."""
    if not await store.lock_version(conn, scope.project, version.id):
        raise VersionNotFound(model=version.model, version=version.version)
    return version


async def get_node(conn: Connection, scope: Scope, kind: NodeKind, name: str) -> Node:
    """A node by id or label (``digits@champion``, an endpoint's name). Raises: NodeNotFound, VersionNotFound."""
    if kind is NodeKind.MODEL_VERSION and "@" in name:
        version = await get_version(conn, scope, *name.rsplit("@", 1))
        return Node(kind, str(version.id), version.reference)
    if kind is NodeKind.RUN and (run_id := _to_uuid(name)) and (run := await store.find_run(conn, scope.project, run_id)):
        return Node(kind, str(run.id), run.name)
    if found := await find_node(conn, scope, kind, name):
        return found
    raise NodeNotFound(kind=kind, name=name)


def to_id(node: Node) -> UUID:
    """The id of a node of any kind but a file."""
    return UUID(node.id)


def _to_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _require_running(conn: Connection, scope: Scope, run_id: UUID, late: bool = False) -> None:
    state = await store.share_run(conn, scope.project, run_id)
    if state is None:
        raise RunNotFound(run_id=run_id)
    if not late:
        policy.check_running(run_id, state)


async def _check_counts(conn: Connection, scope: Scope, run_id: UUID) -> None:
    policy.check_counts(**await store.count_params(conn, scope.project, run_id))


async def _emit(conn: Connection, scope: Scope, event: str, subject: UUID, **data: Any) -> None:
    await publish(conn, Event(f"modelhub.{event}", str(subject), scope.org_id, scope.project, scope.actor, data))
