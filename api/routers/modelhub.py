"""/v1/modelhub: experiments, runs, models and lineage."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from actors.modelhub import service
from actors.modelhub.governance import service as governance
from actors.modelhub.models import (
    ArtifactSpec,
    Flavour,
    Point,
    RunFilter,
    RunSpec,
    RunState,
    VersionSpec,
    VersionState,
)
from actors.modelhub.registry import service as registry
from aidos.schemas.common import Name, PageOf, decode_cursor
from aidos.schemas.comparisons import Query as RunQuery
from aidos.schemas.modelhub import (
    ArtifactList,
    ArtifactPaths,
    ArtifactRead,
    ArtifactsAnnounce,
    ArtifactUpload,
    ArtifactUploads,
    ExperimentCreate,
    ExperimentRead,
    FileDownload,
    FileDownloads,
    Key,
    MetricsLog,
    ModelCreate,
    ModelRead,
    ParamsLog,
    PointRead,
    RunCreate,
    RunRead,
    RunUpdate,
    TagsSet,
    VersionCreate,
    VersionName,
    VersionRead,
    VersionUpdate,
)
from api import arrow, comparisons, lineage
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, WaitS, needs
from api.pages import id_of, key_of, page_of, stored_text, whole_below

router = APIRouter(prefix="/v1/modelhub", tags=["modelhub"], route_class=ApiRoute)
READ, WRITE, MANAGE = needs("modelhub:read"), needs("modelhub:write"), needs("modelhub:manage")
SERIES = needs("modelhub:read", transaction=False)


@router.post("/experiments", status_code=201, openapi_extra=WRITE)
async def create_experiment(body: ExperimentCreate, tx: TxDep) -> ExperimentRead:
    return ExperimentRead.model_validate(await service.create_experiment(tx.conn, tx.scope, body.name, body.description))


@router.get("/experiments", openapi_extra=READ)
async def list_experiments(page: PageDep, tx: TxDep) -> PageOf[ExperimentRead]:
    rows = await service.list_experiments(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(ExperimentRead, rows, page.limit, "id")


@router.get("/experiments/{experiment}", openapi_extra=READ)
async def get_experiment(experiment: Name, tx: TxDep) -> ExperimentRead:
    return ExperimentRead.model_validate(await service.get_experiment(tx.conn, tx.scope, experiment))


@router.delete("/experiments/{experiment}", status_code=204, openapi_extra=MANAGE)
async def delete_experiment(experiment: Name, tx: TxDep) -> None:
    await service.delete_experiment(tx.conn, tx.scope, experiment)


@router.post("/runs", status_code=201, openapi_extra=WRITE)
async def create_run(body: RunCreate, tx: TxDep) -> RunRead:
    inputs = await lineage.commit_nodes(tx.conn, tx.scope, body.inputs)
    asked = body.model_dump(include={"experiment", "name", "params", "tags", "started_at", "id"})
    spec = RunSpec(**asked, inputs=inputs)
    return RunRead.model_validate(await service.create_run(tx.conn, tx.scope, spec))


@router.get("/runs", openapi_extra=READ)
async def list_runs(
    page: PageDep,
    tx: TxDep,
    experiment: Annotated[Name | None, Query()] = None,
    state: RunState | None = None,
    job_id: UUID | None = None,
    query: Annotated[RunQuery | None, Query(description="Those of which it holds: `metrics.acc > 0.9 and cost_usd < 2`.")] = None,
) -> PageOf[RunRead]:
    found = await service.get_experiment(tx.conn, tx.scope, experiment) if experiment else None
    wanted = RunFilter(found.id if found else None, state, job_id)
    rows = await comparisons.list_runs(tx.conn, tx.scope, wanted, query, id_of(page.cursor), page.limit)
    return page_of(RunRead, rows, page.limit, "id")


@router.get("/runs/{run_id}", openapi_extra=needs("modelhub:read", transaction=False))
async def get_run(run_id: UUID, session: SessionDep, wait: WaitS) -> RunRead:
    """With ``wait``: answers when the run has ended."""
    run = await session.wait_until(
        lambda conn: service.get_run(conn, session.scope, run_id), lambda run: run.state is not RunState.RUNNING, wait
    )
    return RunRead.model_validate(run)


@router.patch("/runs/{run_id}", openapi_extra=WRITE)
async def update_run(run_id: UUID, body: RunUpdate, tx: TxDep) -> RunRead:
    state, ended_at = (RunState(body.state), body.ended_at) if body.state else (None, None)
    return RunRead.model_validate(await service.update_run(tx.conn, tx.scope, run_id, name=body.name, state=state, ended_at=ended_at))


@router.delete("/runs/{run_id}", status_code=204, openapi_extra=MANAGE)
async def delete_run(run_id: UUID, tx: TxDep) -> None:
    await service.delete_run(tx.conn, tx.scope, run_id)


@router.post("/runs/{run_id}/params", status_code=204, openapi_extra=WRITE)
async def log_params(run_id: UUID, body: ParamsLog, tx: TxDep) -> None:
    await service.set_params(tx.conn, tx.scope, run_id, body.params)


@router.post("/runs/{run_id}/tags", status_code=204, openapi_extra=WRITE)
async def set_tags(run_id: UUID, body: TagsSet, tx: TxDep) -> None:
    await service.set_tags(tx.conn, tx.scope, run_id, body.tags)


@router.post("/runs/{run_id}/metrics", status_code=204, openapi_extra=needs("modelhub:write", audit=False))
async def log_metrics(run_id: UUID, body: MetricsLog, tx: TxDep) -> None:
    await service.log_metrics(tx.conn, tx.scope, run_id, [Point(p.key, p.value, p.step, p.at) for p in body.points])


@router.get("/runs/{run_id}/metrics", openapi_extra=SERIES, response_model=PageOf[PointRead])
async def list_metric_points(
    request: Request,
    run_id: UUID,
    key: Annotated[Key, Query()],
    page: PageDep,
    session: SessionDep,
    points: Annotated[int | None, Query(ge=2, le=10_000)] = None,
) -> Response | PageOf[PointRead]:
    """One metric by step; with ``points``, at most so many in one page, with the extremes of each part of the series. Who accepts
    ``application/vnd.apache.arrow.stream`` gets all points as such a stream."""
    if arrow.is_asked(request):
        return await arrow.stream_series(session, run_id, key)
    async with session.transaction() as conn:
        if points:
            rows = await service.plot_points(conn, session.scope, run_id, key, points)
            return PageOf(items=[PointRead.model_validate(row) for row in rows])
        rows = await service.list_points(conn, session.scope, run_id, key, _after_point(page.cursor), page.limit)
    return page_of(PointRead, rows, page.limit, "step", "at", "value")


def _after_point(cursor: str | None) -> tuple[int, datetime, float] | None:
    key = decode_cursor(cursor, [_to_step, _to_moment, float])
    return (key[0], key[1], key[2]) if key else None


def _to_step(text: str) -> int:
    if abs(step := int(text)) > 2**53:
        raise ValueError("no such step")
    return step


def _to_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1970 <= moment.year < 9000:
        raise ValueError("no such moment")
    return moment


@router.post("/runs/{run_id}/artifacts/uploads", openapi_extra=WRITE)
async def announce_artifacts(run_id: UUID, body: ArtifactsAnnounce, tx: TxDep) -> ArtifactUploads:
    """URLs to PUT files to; then complete them."""
    files = [ArtifactSpec(file.path, file.sha256, file.size_bytes) for file in body.files]
    artifacts = await service.announce_artifacts(tx.conn, tx.scope, run_id, files)
    urls = {a.path: None if a.stored else tx.objects.presign_put(a.key) for a in artifacts}
    return ArtifactUploads(files=[ArtifactUpload(path=path, upload_url=url) for path, url in urls.items()])


@router.post("/runs/{run_id}/artifacts", openapi_extra=needs("modelhub:write", transaction=False))
async def complete_artifacts(run_id: UUID, body: ArtifactPaths, session: SessionDep) -> ArtifactList:
    """Files that were PUT are checked for their size and become artifacts of the run."""
    async with session.transaction() as conn:
        announced = await service.get_artifacts(conn, session.scope, run_id, body.paths, stored=False)
    measured = await service.measure(session.edge.objects, announced)
    async with session.change() as conn:
        done = await service.complete_artifacts(conn, session.scope, run_id, announced, measured)
    return ArtifactList(files=[ArtifactRead.model_validate(artifact) for artifact in done])


@router.get("/runs/{run_id}/artifacts", openapi_extra=READ)
async def list_artifacts(
    run_id: UUID, page: PageDep, tx: TxDep, prefix: Annotated[str, Query(pattern=r"^[^\x00]{0,500}$")] = ""
) -> PageOf[ArtifactRead]:
    rows = await service.list_artifacts(tx.conn, tx.scope, run_id, prefix, key_of(page.cursor, stored_text), page.limit)
    return page_of(ArtifactRead, rows, page.limit, "path")


@router.post("/runs/{run_id}/artifacts/downloads", openapi_extra=needs("modelhub:read", audit=False))
async def download_artifacts(run_id: UUID, body: ArtifactPaths, tx: TxDep) -> FileDownloads:
    artifacts = await service.get_artifacts(tx.conn, tx.scope, run_id, body.paths)
    return FileDownloads(
        files=[FileDownload(path=a.path, sha256=a.sha256, size_bytes=a.size_bytes, url=tx.objects.presign_get(a.key)) for a in artifacts]
    )


@router.post("/models", status_code=201, openapi_extra=WRITE)
async def create_model(body: ModelCreate, tx: TxDep) -> ModelRead:
    return ModelRead.model_validate(await service.create_model(tx.conn, tx.scope, body.name, body.description))


@router.get("/models", openapi_extra=READ)
async def list_models(page: PageDep, tx: TxDep) -> PageOf[ModelRead]:
    rows = await service.list_models(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(ModelRead, rows, page.limit, "id")


@router.get("/models/{model}", openapi_extra=READ)
async def get_model(model: Name, tx: TxDep) -> ModelRead:
    return ModelRead.model_validate(await service.get_model(tx.conn, tx.scope, model))


@router.delete("/models/{model}", status_code=204, openapi_extra=MANAGE)
async def delete_model(model: Name, tx: TxDep) -> None:
    await governance.delete_model(tx.conn, tx.scope, model)


@router.post("/models/{model}/versions", status_code=201, openapi_extra=WRITE)
async def register_model_version(model: Name, body: VersionCreate, tx: TxDep) -> VersionRead:
    """The next version, PENDING until its bytes were inspected."""
    spec = VersionSpec(body.run_id, Flavour(body.flavour), tuple(dict.fromkeys(body.artifacts)), body.description)
    return VersionRead.model_validate(await service.register_version(tx.conn, tx.scope, model, spec))


@router.get("/models/{model}/versions", openapi_extra=READ)
async def list_model_versions(model: Name, page: PageDep, tx: TxDep) -> PageOf[VersionRead]:
    rows = await service.list_versions(tx.conn, tx.scope, model, key_of(page.cursor, whole_below(2**31)), page.limit)
    return page_of(VersionRead, rows, page.limit, "version")


@router.get("/models/{model}/versions/{version}", openapi_extra=needs("modelhub:read", transaction=False))
async def get_model_version(model: Name, version: VersionName, session: SessionDep, wait: WaitS) -> VersionRead:
    """With ``wait``: answers when the version was inspected."""
    found = await session.wait_until(
        lambda conn: service.get_version(conn, session.scope, model, version), lambda v: v.state is not VersionState.PENDING, wait
    )
    return VersionRead.model_validate(found)


@router.patch("/models/{model}/versions/{version}", openapi_extra=WRITE)
async def update_model_version(model: Name, version: VersionName, body: VersionUpdate, tx: TxDep) -> VersionRead:
    """Change what is prose: description, card, tags. Files, signature and what else they say stay."""
    return VersionRead.model_validate(
        await registry.update_version(tx.conn, tx.scope, model, version, body.description, body.card, body.tags)
    )


@router.delete("/models/{model}/versions/{version}", status_code=204, openapi_extra=MANAGE)
async def delete_model_version(model: Name, version: VersionName, tx: TxDep) -> None:
    await service.delete_version(tx.conn, tx.scope, model, version)


@router.post("/models/{model}/versions/{version}/downloads", openapi_extra=needs("modelhub:read", audit=False))
async def download_model_version(model: Name, version: VersionName, tx: TxDep) -> FileDownloads:
    found = await service.get_kept_version(tx.conn, tx.scope, model, version)
    files = [FileDownload(path=f.path, sha256=f.sha256, size_bytes=f.size_bytes, url=tx.objects.presign_get(f.key)) for f in found.files]
    return FileDownloads(files=files, warning=governance.warning(found))
