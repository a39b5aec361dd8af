"""MLflow's logged models: ``/api/2.0/mlflow/logged-models``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from actors.modelhub.logged import service
from actors.modelhub.logged.models import LoggedModelSpec, LoggedModelState
from actors.modelhub.search import service as search
from actors.modelhub.tracking import service as tracking
from api.deps import TxDep
from api.protocols.mlflow import model_wire, wire
from api.protocols.mlflow.errors import MlflowRoute
from api.protocols.mlflow.tracking import LOG, MANAGE, READ, WRITE
from api.protocols.mlflow.wire import answer

router = APIRouter(prefix="/api/2.0/mlflow/logged-models", tags=["modelhub"], route_class=MlflowRoute, include_in_schema=False)


@router.post("", openapi_extra=WRITE)
async def mlflow_create_logged_model(body: model_wire.LoggedModelCreate, tx: TxDep) -> JSONResponse:
    experiment = await tracking.get_experiment(tx.conn, tx.scope, body.experiment_id)
    run_id = tracking.run_id(body.source_run_id) if body.source_run_id else None
    spec = LoggedModelSpec(body.name, body.model_type, run_id, wire.to_map(body.params), wire.to_map(body.tags))
    return answer(model=model_wire.logged_model(await service.create_model(tx.conn, tx.scope, experiment, spec)))


@router.post("/search", openapi_extra=READ)
async def mlflow_search_logged_models(body: model_wire.LoggedModelsSearch, tx: TxDep) -> JSONResponse:
    order = tuple(f"{by.field_name} {'ASC' if by.ascending else 'DESC'}" for by in body.order_by)
    question = search.Question(body.filter, order, limit=body.max_results, page_token=body.page_token)
    experiments = await tracking.resolve_experiments(tx.conn, tx.scope, body.experiment_ids)
    measured_on = [(by.dataset_name, by.dataset_digest) if by.dataset_name else None for by in body.order_by]
    datasets = [(each.dataset_name, each.dataset_digest) for each in body.datasets]
    found, token = await search.search_logged_models(tx.conn, tx.scope, experiments, question, measured_on, datasets)
    return answer(models=[model_wire.logged_model(model) for model in found], next_page_token=token or None)


@router.get("/{logged_model}", openapi_extra=READ)
async def mlflow_get_logged_model(logged_model: str, tx: TxDep) -> JSONResponse:
    return answer(model=model_wire.logged_model(await service.get_model(tx.conn, tx.scope, service.to_id(logged_model))))


@router.patch("/{logged_model}", openapi_extra=WRITE)
async def mlflow_finalize_logged_model(logged_model: str, body: model_wire.LoggedModelFinish, tx: TxDep) -> JSONResponse:
    state = LoggedModelState(body.status.removeprefix("LOGGED_MODEL_"))
    return answer(model=model_wire.logged_model(await service.finish_model(tx.conn, tx.scope, service.to_id(logged_model), state)))


@router.delete("/{logged_model}", openapi_extra=MANAGE)
async def mlflow_delete_logged_model(logged_model: str, tx: TxDep) -> JSONResponse:
    await service.delete_model(tx.conn, tx.scope, service.to_id(logged_model))
    return answer()


@router.post("/{logged_model}/params", openapi_extra=LOG)
async def mlflow_log_logged_model_params(logged_model: str, body: model_wire.LoggedModelParams, tx: TxDep) -> JSONResponse:
    await service.set_params(tx.conn, tx.scope, service.to_id(logged_model), wire.to_map(body.params))
    return answer()


@router.patch("/{logged_model}/tags", openapi_extra=LOG)
async def mlflow_set_logged_model_tags(logged_model: str, body: model_wire.LoggedModelTags, tx: TxDep) -> JSONResponse:
    model = await service.set_tags(tx.conn, tx.scope, service.to_id(logged_model), wire.to_map(body.tags))
    return answer(model=model_wire.logged_model(model))


@router.delete("/{logged_model}/tags/{tag}", openapi_extra=WRITE)
async def mlflow_delete_logged_model_tag(logged_model: str, tag: str, tx: TxDep) -> JSONResponse:
    await service.delete_tag(tx.conn, tx.scope, service.to_id(logged_model), tag)
    return answer()
