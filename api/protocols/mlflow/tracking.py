"""MLflow's tracking API: experiments and runs. ``/api/2.0/mlflow`` as its REST reference says, answered by ModelHub's own verbs.

https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from actors.modelhub import service as modelhub
from actors.modelhub.logged import service as logged
from actors.modelhub.logged.models import ModelMetric, Role
from actors.modelhub.models import Run, RunSpec
from actors.modelhub.search import service as search
from actors.modelhub.search.models import Lifecycle
from actors.modelhub.series.models import Columns
from actors.modelhub.tracking import service
from actors.modelhub.tracking.errors import InvalidParameterValue
from api.deps import Session, SessionDep, Tx, TxDep, needs
from api.protocols.mlflow import wire
from api.protocols.mlflow.errors import MlflowRoute
from api.protocols.mlflow.wire import answer

router = APIRouter(prefix="/api/2.0/mlflow", tags=["modelhub"], route_class=MlflowRoute, include_in_schema=False)
READ, WRITE, MANAGE = needs("modelhub:read", audit=False), needs("modelhub:write"), needs("modelhub:manage")
LOG = needs("modelhub:write", audit=False)
LOG_POINTS = needs("modelhub:write", audit=False, transaction=False)
Text = Annotated[str, Query()]


@router.post("/experiments/create", openapi_extra=WRITE)
async def mlflow_create_experiment(body: wire.ExperimentCreate, tx: TxDep) -> JSONResponse:
    made = await service.create_experiment(tx.conn, tx.scope, body.name, wire.to_map(body.tags))
    return answer(experiment_id=wire.experiment_id(made.id, made.name))


@router.get("/experiments/get", openapi_extra=READ)
async def mlflow_get_experiment(experiment_id: Text, tx: TxDep) -> JSONResponse:
    return answer(experiment=wire.experiment(await service.get_experiment(tx.conn, tx.scope, experiment_id)))


@router.get("/experiments/get-by-name", openapi_extra=READ)
async def mlflow_get_experiment_by_name(experiment_name: Text, tx: TxDep) -> JSONResponse:
    return answer(experiment=wire.experiment(await service.get_experiment_by_name(tx.conn, tx.scope, experiment_name)))


@router.post("/experiments/search", openapi_extra=READ)
async def mlflow_search_experiments(body: wire.ExperimentsSearch, tx: TxDep) -> JSONResponse:
    question = search.Question(body.filter, tuple(body.order_by), body.view_type, body.max_results, body.page_token)
    found, token = await search.search_experiments(tx.conn, tx.scope, question)
    return answer(experiments=[wire.experiment(each) for each in found], next_page_token=token or None)


@router.get("/experiments/search", openapi_extra=READ)
async def mlflow_query_experiments(
    tx: TxDep,
    filter: Text = "",
    order_by: Annotated[list[str] | None, Query()] = None,
    view_type: Lifecycle = Lifecycle.ACTIVE,
    max_results: Annotated[int, Query(ge=1, le=50_000)] = 1000,
    page_token: Text = "",
) -> JSONResponse:
    asked = wire.ExperimentsSearch(
        filter=filter, order_by=order_by or [], view_type=view_type, max_results=max_results, page_token=page_token
    )
    return await mlflow_search_experiments(asked, tx)


@router.post("/experiments/update", openapi_extra=WRITE)
async def mlflow_update_experiment(body: wire.ExperimentUpdate, tx: TxDep) -> JSONResponse:
    await service.rename_experiment(tx.conn, tx.scope, body.experiment_id, body.new_name)
    return answer()


@router.post("/experiments/delete", openapi_extra=MANAGE)
async def mlflow_delete_experiment(body: wire.ExperimentNamed, tx: TxDep) -> JSONResponse:
    await service.delete_experiment(tx.conn, tx.scope, body.experiment_id)
    return answer()


@router.post("/experiments/restore", openapi_extra=MANAGE)
async def mlflow_restore_experiment(body: wire.ExperimentNamed, tx: TxDep) -> JSONResponse:
    await service.restore_experiment(tx.conn, tx.scope, body.experiment_id)
    return answer()


@router.post("/experiments/set-experiment-tag", openapi_extra=WRITE)
async def mlflow_set_experiment_tag(body: wire.ExperimentTag, tx: TxDep) -> JSONResponse:
    await service.set_experiment_tag(tx.conn, tx.scope, body.experiment_id, body.key, body.value)
    return answer()


@router.post("/experiments/delete-experiment-tag", openapi_extra=WRITE)
async def mlflow_delete_experiment_tag(body: wire.ExperimentTagNamed, tx: TxDep) -> JSONResponse:
    await service.delete_experiment_tag(tx.conn, tx.scope, body.experiment_id, body.key)
    return answer()


@router.post("/experiments/search-datasets", openapi_extra=READ)
async def mlflow_search_datasets(body: wire.DatasetsSearch, tx: TxDep) -> JSONResponse:
    rows = await service.list_dataset_names(tx.conn, tx.scope, body.experiment_ids)
    return answer(dataset_summaries=[{**row, "experiment_id": row["experiment_id"].hex} for row in rows])


@router.post("/runs/create", openapi_extra=WRITE)
async def mlflow_create_run(body: wire.RunCreate, tx: TxDep) -> JSONResponse:
    tags = {**({service.USER: body.user_id} if body.user_id else {}), **wire.to_map(body.tags)}
    began = wire.moment(body.start_time) if body.start_time else None
    run = await service.create_run(tx.conn, tx.scope, body.experiment_id, RunSpec("", body.run_name, tags=tags, started_at=began))
    return answer(run=wire.run(run))


@router.get("/runs/get", openapi_extra=READ)
async def mlflow_get_run(tx: TxDep, run_id: Text = "", run_uuid: Text = "") -> JSONResponse:
    run_id = run_id or run_uuid
    if not run_id:
        raise RequestValidationError([{"type": "missing", "loc": ("query", "run_id"), "msg": "Field required", "input": None}])
    (run,) = await _with_links(tx, [await service.get_run(tx.conn, tx.scope, run_id)])
    return answer(run=run)


@router.post("/runs/update", openapi_extra=WRITE)
async def mlflow_update_run(body: wire.RunUpdate, tx: TxDep) -> JSONResponse:
    try:
        state = wire.to_state(body.status)
    except ValueError:
        raise InvalidParameterValue(parameter="status", reason=f"there is no status '{body.status}'") from None
    id, ended = service.run_id(body.run_id), wire.moment(body.end_time) if body.end_time else None
    run = await modelhub.update_run(tx.conn, tx.scope, id, name=body.run_name or None, state=state, ended_at=ended, reopen=True)
    return answer(run_info=wire.run_info(run))


@router.post("/runs/delete", openapi_extra=MANAGE)
async def mlflow_delete_run(body: wire.RunNamed, tx: TxDep) -> JSONResponse:
    await modelhub.delete_run(tx.conn, tx.scope, service.run_id(body.run_id))
    return answer()


@router.post("/runs/restore", openapi_extra=MANAGE)
async def mlflow_restore_run(body: wire.RunNamed, tx: TxDep) -> JSONResponse:
    await service.restore_run(tx.conn, tx.scope, body.run_id)
    return answer()


@router.post("/runs/search", openapi_extra=READ)
async def mlflow_search_runs(body: wire.RunsSearch, tx: TxDep) -> JSONResponse:
    question = search.Question(body.filter, tuple(body.order_by), body.run_view_type, body.max_results, body.page_token)
    experiments = await service.resolve_experiments(tx.conn, tx.scope, body.experiment_ids)
    found, token = await search.search_runs(tx.conn, tx.scope, experiments, question)
    return answer(runs=await _with_links(tx, found), next_page_token=token or None)


async def _with_links(tx: Tx, runs: list[Run]) -> list[dict[str, object]]:
    linked = [run for run in runs if run.linked]
    datasets, models = await service.list_datasets(tx.conn, tx.scope, linked), await logged.list_links(tx.conn, tx.scope, linked)
    return [wire.run(run, datasets.get(run.id, ()), models.get(run.id, ())) for run in runs]


@router.post("/runs/log-metric", openapi_extra=LOG_POINTS)
async def mlflow_log_metric(body: wire.RunMetric, session: SessionDep) -> JSONResponse:
    return await _log(session, wire.Batch(run_id=body.run_id, metrics=[body]))


@router.post("/runs/log-parameter", openapi_extra=LOG)
async def mlflow_log_param(body: wire.RunParam, tx: TxDep) -> JSONResponse:
    await service.log_batch(tx.conn, tx.scope, body.run_id, (), [(body.key, body.value)], {})
    return answer()


@router.post("/runs/log-batch", openapi_extra=LOG_POINTS)
async def mlflow_log_batch(request: Request, session: SessionDep) -> JSONResponse:
    body = await request.body()
    if sent := wire.read_points(body):
        return await _log_points(session, *sent)
    return await _log(session, wire.read(wire.Batch, body))


async def _log_points(session: Session, run_id: str, points: Columns) -> JSONResponse:
    service.check_batch({"metrics": len(points.keys)})
    await session.edge.sink.log(session.scope, service.run_id(run_id), points)
    return answer()


async def _log(session: Session, batch: wire.Batch) -> JSONResponse:
    points, params = [metric.point for metric in batch.metrics], [(param.key, param.value) for param in batch.params]
    measured = [(logged.to_id(each.model_id), _measured(each, service.run_id(batch.run_id))) for each in batch.metrics if each.model_id]
    if points and not (params or batch.tags or measured):
        return await _log_points(session, batch.run_id, Columns.of(points))
    async with session.transaction() as conn:
        await service.log_batch(conn, session.scope, batch.run_id, points, params, wire.to_map(batch.tags))
        await logged.log_metrics(conn, session.scope, service.run_id(batch.run_id), measured)
    return answer()


def _measured(metric: wire.Metric, run: UUID) -> ModelMetric:
    return ModelMetric(metric.point, run, metric.dataset_name or "", metric.dataset_digest or "")


@router.post("/runs/set-tag", openapi_extra=LOG)
async def mlflow_set_tag(body: wire.RunTag, tx: TxDep) -> JSONResponse:
    await service.set_tags(tx.conn, tx.scope, body.run_id, {body.key: body.value})
    return answer()


@router.post("/runs/delete-tag", openapi_extra=WRITE)
async def mlflow_delete_tag(body: wire.RunTagNamed, tx: TxDep) -> JSONResponse:
    await service.delete_tag(tx.conn, tx.scope, body.run_id, body.key)
    return answer()


@router.post("/runs/log-inputs", openapi_extra=LOG)
async def mlflow_log_inputs(body: wire.Inputs, tx: TxDep) -> JSONResponse:
    await service.log_datasets(tx.conn, tx.scope, body.run_id, [each.input for each in body.datasets])
    await _link(tx, body.run_id, Role.INPUT, body.models)
    return answer()


@router.post("/runs/outputs", openapi_extra=LOG)
async def mlflow_log_outputs(body: wire.RunOutputs, tx: TxDep) -> JSONResponse:
    await _link(tx, body.run_id, Role.OUTPUT, body.models)
    return answer()


async def _link(tx: Tx, run_id: str, role: Role, models: list[wire.ModelNamed]) -> None:
    named = {logged.to_id(model.model_id): model.step for model in models}
    await logged.link_models(tx.conn, tx.scope, service.run_id(run_id), role, named)


@router.post("/runs/log-model", openapi_extra=LOG)
async def mlflow_log_model(body: wire.ModelHistory, tx: TxDep) -> JSONResponse:
    await service.add_model_history(tx.conn, tx.scope, body.run_id, body.model_json)
    return answer()


@router.get("/metrics/get-history", openapi_extra=READ)
async def mlflow_get_metric_history(
    run_id: Text, metric_key: Text, tx: TxDep, max_results: Annotated[int | None, Query(ge=1)] = None, page_token: Text = ""
) -> JSONResponse:
    points, token = await service.list_history(tx.conn, tx.scope, run_id, metric_key, max_results, page_token)
    return answer(metrics=[wire.metric(point) for point in points], next_page_token=token or None)


@router.get("/metrics/get-history-bulk-interval", openapi_extra=READ)
async def mlflow_get_metric_histories(
    run_ids: Annotated[list[str], Query(min_length=1, max_length=100)],
    metric_key: Annotated[str, Query(min_length=1)],
    tx: TxDep,
    start_step: int | None = None,
    end_step: int | None = None,
    max_results: Annotated[int, Query(ge=1, le=2500)] = 320,
) -> JSONResponse:
    if (start_step is None) != (end_step is None):
        reason = "If either start step or end step are specified, both must be specified."
        raise InvalidParameterValue(parameter="end_step", reason=reason)
    if start_step is not None and end_step is not None and start_step > end_step:
        reason = f"end_step must be greater than start_step. Found start_step={start_step} and end_step={end_step}."
        raise InvalidParameterValue(parameter="end_step", reason=reason)
    found = await service.sample_histories(tx.conn, tx.scope, run_ids, metric_key, (start_step, end_step), max_results)
    return answer(metrics=_by_run(found))


@router.get("/metrics/get-history-bulk", openapi_extra=READ)
async def mlflow_get_metric_histories_bulk(
    run_id: Annotated[list[str], Query(min_length=1, max_length=100)],
    metric_key: Text,
    tx: TxDep,
    max_results: Annotated[int, Query(ge=1, le=25_000)] = 25_000,
) -> JSONResponse:
    return answer(metrics=_by_run(await service.list_histories(tx.conn, tx.scope, run_id, metric_key, max_results)))


def _by_run(found: list[tuple[UUID, wire.Point]]) -> list[dict[str, object]]:
    return [wire.metric(point, run_id=run.hex) for run, point in found]
