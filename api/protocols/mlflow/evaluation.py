"""MLflow's evaluation datasets and scorers: ``/api/3.0/mlflow/datasets`` and ``/api/3.0/mlflow/scorers``."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from actors.modelhub.evaluation import service
from actors.modelhub.evaluation.models import EvaluationDataset
from actors.modelhub.models import Experiment
from actors.modelhub.search import service as search
from actors.modelhub.tracking import service as tracking
from api.deps import Tx, TxDep
from api.protocols.mlflow import evaluation_wire as wire
from api.protocols.mlflow.errors import MlflowRoute
from api.protocols.mlflow.tracking import LOG, MANAGE, READ, WRITE
from api.protocols.mlflow.wire import answer, experiment_id, ms

router = APIRouter(prefix="/api/3.0/mlflow", tags=["modelhub"], route_class=MlflowRoute, include_in_schema=False)
Text = Annotated[str, Query()]


async def _experiments(tx: Tx, ids: list[str]) -> list[Experiment]:
    return [await tracking.get_experiment(tx.conn, tx.scope, id) for id in ids]


async def _show(tx: Tx, found: list[EvaluationDataset]) -> list[dict[str, object]]:
    experiments = await search.find_experiments(tx.conn, tx.scope, [id for each in found for id in each.experiment_ids])
    return [wire.dataset(each, experiments) for each in found]


@router.post("/datasets/create", openapi_extra=WRITE)
async def mlflow_create_dataset(body: wire.DatasetCreate, tx: TxDep) -> JSONResponse:
    experiments = await _experiments(tx, body.experiment_ids)
    made = await service.create_dataset(tx.conn, tx.scope, body.name, wire.to_texts(body.tags), experiments)
    return answer(dataset=(await _show(tx, [made]))[0])


@router.post("/datasets/search", openapi_extra=READ)
async def mlflow_search_evaluation_datasets(body: wire.DatasetsSearch, tx: TxDep) -> JSONResponse:
    question = search.Question(body.filter_string, tuple(body.order_by), limit=body.max_results, page_token=body.page_token)
    experiments = await tracking.resolve_experiments(tx.conn, tx.scope, body.experiment_ids) if body.experiment_ids else None
    found, token = await search.search_evaluation_datasets(tx.conn, tx.scope, experiments, question)
    return answer(datasets=await _show(tx, found), next_page_token=token or None)


@router.get("/datasets/search", openapi_extra=READ)
async def mlflow_query_evaluation_datasets(asked: Annotated[wire.DatasetsSearch, Query()], tx: TxDep) -> JSONResponse:
    return await mlflow_search_evaluation_datasets(asked, tx)


@router.get("/datasets/{dataset_id}", openapi_extra=READ)
async def mlflow_get_dataset(dataset_id: str, tx: TxDep) -> JSONResponse:
    return answer(dataset=(await _show(tx, [await service.get_dataset(tx.conn, tx.scope, service.to_id(dataset_id))]))[0])


@router.delete("/datasets/{dataset_id}", openapi_extra=MANAGE)
async def mlflow_delete_dataset(dataset_id: str, tx: TxDep) -> JSONResponse:
    await service.delete_dataset(tx.conn, tx.scope, service.to_id(dataset_id))
    return answer()


@router.patch("/datasets/{dataset_id}/tags", openapi_extra=WRITE)
async def mlflow_set_dataset_tags(dataset_id: str, body: wire.DatasetTags, tx: TxDep) -> JSONResponse:
    changed = await service.change_tags(tx.conn, tx.scope, service.to_id(dataset_id), wire.to_texts(body.tags))
    return answer(dataset=(await _show(tx, [changed]))[0])


@router.delete("/datasets/{dataset_id}/tags/{key}", openapi_extra=WRITE)
async def mlflow_delete_dataset_tag(dataset_id: str, key: str, tx: TxDep) -> JSONResponse:
    await service.change_tags(tx.conn, tx.scope, service.to_id(dataset_id), {}, [key])
    return answer()


@router.get("/datasets/{dataset_id}/experiment-ids", openapi_extra=READ)
async def mlflow_get_dataset_experiments(dataset_id: str, tx: TxDep) -> JSONResponse:
    (shown,) = await _show(tx, [await service.get_dataset(tx.conn, tx.scope, service.to_id(dataset_id))])
    return answer(experiment_ids=shown["experiment_ids"])


@router.post("/datasets/{dataset_id}/add-experiments", openapi_extra=WRITE)
async def mlflow_add_dataset_experiments(dataset_id: str, body: wire.DatasetExperiments, tx: TxDep) -> JSONResponse:
    experiments = await _experiments(tx, body.experiment_ids)
    changed = await service.add_experiments(tx.conn, tx.scope, service.to_id(dataset_id), experiments)
    return answer(dataset=(await _show(tx, [changed]))[0])


@router.post("/datasets/{dataset_id}/remove-experiments", openapi_extra=WRITE)
async def mlflow_remove_dataset_experiments(dataset_id: str, body: wire.DatasetExperiments, tx: TxDep) -> JSONResponse:
    ids = await tracking.resolve_experiments(tx.conn, tx.scope, body.experiment_ids)
    changed = await service.remove_experiments(tx.conn, tx.scope, service.to_id(dataset_id), ids)
    return answer(dataset=(await _show(tx, [changed]))[0])


@router.post("/datasets/{dataset_id}/records", openapi_extra=LOG)
async def mlflow_put_records(dataset_id: str, body: wire.RecordsPut, tx: TxDep) -> JSONResponse:
    inserted, updated = await service.put_records(tx.conn, tx.scope, service.to_id(dataset_id), body.records)
    return answer(inserted_count=inserted, updated_count=updated)


@router.get("/datasets/{dataset_id}/records", openapi_extra=READ)
async def mlflow_list_records(
    dataset_id: str, tx: TxDep, max_results: Annotated[int, Query(ge=1, le=50_000)] = 1000, page_token: Text = ""
) -> JSONResponse:
    found, token = await service.list_records(tx.conn, tx.scope, service.to_id(dataset_id), max_results, page_token)
    return answer(records=json.dumps([wire.record(each, dataset_id) for each in found]), next_page_token=token or None)


@router.delete("/datasets/{dataset_id}/records", openapi_extra=WRITE)
async def mlflow_delete_records(dataset_id: str, body: wire.RecordsNamed, tx: TxDep) -> JSONResponse:
    deleted = await service.delete_records(tx.conn, tx.scope, service.to_id(dataset_id), body.dataset_record_ids)
    return answer(deleted_count=deleted)


@router.post("/scorers/register", openapi_extra=WRITE)
async def mlflow_register_scorer(body: wire.ScorerRegister, tx: TxDep) -> JSONResponse:
    experiment = await tracking.get_experiment(tx.conn, tx.scope, body.experiment_id)
    made = await service.register_scorer(tx.conn, tx.scope, experiment, body.name, body.serialized_scorer)
    shown = {"version": made.version, "scorer_id": str(made.scorer_id), "creation_time": ms(made.created_at)}
    named = {"experiment_id": experiment_id(experiment.id, experiment.name), "name": made.name}
    return answer(**shown, **named, serialized_scorer=made.serialized)


@router.get("/scorers/list", openapi_extra=READ)
async def mlflow_list_scorers(
    tx: TxDep, experiment_id: Text = "", experiment_ids: Annotated[list[str] | None, Query()] = None
) -> JSONResponse:
    experiments = await _experiments(tx, [id for id in [experiment_id, *(experiment_ids or ())] if id])
    return answer(scorers=[wire.scorer(each) for each in await service.list_scorers(tx.conn, tx.scope, experiments)])


@router.get("/scorers/versions", openapi_extra=READ)
async def mlflow_list_scorer_versions(experiment_id: Text, name: Text, tx: TxDep) -> JSONResponse:
    experiments = await _experiments(tx, [experiment_id])
    return answer(scorers=[wire.scorer(each) for each in await service.list_scorers(tx.conn, tx.scope, experiments, name)])


@router.get("/scorers/get", openapi_extra=READ)
async def mlflow_get_scorer(experiment_id: Text, name: Text, tx: TxDep, version: int | None = None) -> JSONResponse:
    (experiment,) = await _experiments(tx, [experiment_id])
    return answer(scorer=wire.scorer(await service.get_scorer(tx.conn, tx.scope, experiment, name, version)))


@router.get("/scorers/online-configs", openapi_extra=READ)
async def mlflow_list_scoring_configs(tx: TxDep) -> JSONResponse:
    """Asked of every scorer that is listed: none runs by itself here."""
    return answer(configs=[])


@router.delete("/scorers/delete", openapi_extra=MANAGE)
async def mlflow_delete_scorer(body: wire.ScorerNamed, tx: TxDep) -> JSONResponse:
    (experiment,) = await _experiments(tx, [body.experiment_id])
    await service.delete_scorers(tx.conn, tx.scope, experiment, body.name, body.version)
    return answer()
