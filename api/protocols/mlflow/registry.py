"""MLflow's model registry: ``/api/2.0/mlflow/registered-models`` and ``/model-versions``, over the native models and versions."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from actors.modelhub.errors import AliasNotFound
from actors.modelhub.governance import service as governance
from actors.modelhub.models import Model, VersionOrigin
from actors.modelhub.registry import service
from actors.modelhub.search import service as search
from actors.modelhub.tracking.errors import InvalidParameterValue
from api.deps import Tx, TxDep
from api.protocols.mlflow import model_wire
from api.protocols.mlflow.errors import MlflowRoute
from api.protocols.mlflow.tracking import MANAGE, READ, WRITE
from api.protocols.mlflow.wire import answer

router = APIRouter(prefix="/api/2.0/mlflow", tags=["modelhub"], route_class=MlflowRoute, include_in_schema=False)
Text = Annotated[str, Query()]
Texts = Annotated[list[str] | None, Query()]


@router.post("/registered-models/create", openapi_extra=WRITE)
async def mlflow_create_registered_model(body: model_wire.ModelCreate, tx: TxDep) -> JSONResponse:
    tags = {tag.key: tag.value for tag in body.tags}
    return answer(
        registered_model=model_wire.registered_model(await service.create_model(tx.conn, tx.scope, body.name, body.description, tags))
    )


@router.get("/registered-models/get", openapi_extra=READ)
async def mlflow_get_registered_model(name: Text, tx: TxDep) -> JSONResponse:
    return answer(registered_model=(await _shown(tx, [await service.get_model(tx.conn, tx.scope, name)]))[0])


async def _shown(tx: Tx, models: list[Model]) -> list[dict[str, object]]:
    latest = await service.latest_versions(tx.conn, tx.scope, models)
    return [model_wire.registered_model(model, latest) for model in models]


@router.post("/registered-models/rename", openapi_extra=MANAGE)
async def mlflow_rename_registered_model(body: model_wire.ModelRename, tx: TxDep) -> JSONResponse:
    model = await service.rename_model(tx.conn, tx.scope, body.name, body.new_name)
    return answer(registered_model=(await _shown(tx, [model]))[0])


@router.patch("/registered-models/update", openapi_extra=WRITE)
async def mlflow_update_registered_model(body: model_wire.ModelUpdate, tx: TxDep) -> JSONResponse:
    model = await service.describe_model(tx.conn, tx.scope, body.name, body.description)
    return answer(registered_model=(await _shown(tx, [model]))[0])


@router.delete("/registered-models/delete", openapi_extra=MANAGE)
async def mlflow_delete_registered_model(body: model_wire.ModelName, tx: TxDep) -> JSONResponse:
    await governance.delete_model(tx.conn, tx.scope, body.name)
    return answer()


@router.get("/registered-models/search", openapi_extra=READ)
async def mlflow_search_registered_models(
    tx: TxDep,
    filter: Text = "",
    order_by: Texts = None,
    max_results: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: Text = "",
) -> JSONResponse:
    question = search.Question(filter, tuple(order_by or ()), limit=max_results, page_token=page_token)
    found, token = await search.search_models(tx.conn, tx.scope, question)
    return answer(registered_models=await _shown(tx, found), next_page_token=token or None)


@router.post("/registered-models/get-latest-versions", openapi_extra=READ)
async def mlflow_get_latest_versions(body: model_wire.LatestVersions, tx: TxDep) -> JSONResponse:
    model = await service.get_model(tx.conn, tx.scope, body.name)
    found = await service.latest_versions(tx.conn, tx.scope, [model], body.stages)
    return answer(model_versions=[model_wire.model_version(version) for version in found])


@router.get("/registered-models/get-latest-versions", openapi_extra=READ)
async def mlflow_query_latest_versions(name: Text, tx: TxDep, stages: Texts = None) -> JSONResponse:
    return await mlflow_get_latest_versions(model_wire.LatestVersions(name=name, stages=stages or []), tx)


@router.post("/registered-models/set-tag", openapi_extra=WRITE)
async def mlflow_set_registered_model_tag(body: model_wire.ModelTag, tx: TxDep) -> JSONResponse:
    await service.set_model_tags(tx.conn, tx.scope, body.name, {body.key: body.value})
    return answer()


@router.delete("/registered-models/delete-tag", openapi_extra=WRITE)
async def mlflow_delete_registered_model_tag(body: model_wire.ModelTagNamed, tx: TxDep) -> JSONResponse:
    await service.set_model_tags(tx.conn, tx.scope, body.name, {body.key: None})
    return answer()


@router.post("/registered-models/alias", openapi_extra=MANAGE)
async def mlflow_set_alias(body: model_wire.ModelAlias, tx: TxDep) -> JSONResponse:
    await service.move_alias(tx.conn, tx.scope, body.name, body.alias, body.version)
    return answer()


@router.delete("/registered-models/alias", openapi_extra=MANAGE)
async def mlflow_delete_alias(body: model_wire.ModelAliasNamed, tx: TxDep) -> JSONResponse:
    with contextlib.suppress(AliasNotFound):
        await governance.delete_alias(tx.conn, tx.scope, body.name, body.alias)
    return answer()


@router.get("/registered-models/alias", openapi_extra=READ)
async def mlflow_get_version_by_alias(name: Text, alias: Text, tx: TxDep) -> JSONResponse:
    return answer(model_version=model_wire.model_version(await service.get_version_by_alias(tx.conn, tx.scope, name, alias)))


@router.post("/model-versions/create", openapi_extra=WRITE)
async def mlflow_create_version(body: model_wire.VersionCreate, tx: TxDep) -> JSONResponse:
    tags, origin = {tag.key: tag.value for tag in body.tags}, VersionOrigin(body.source, body.run_link)
    made = await service.create_version(tx.conn, tx.scope, body.name, origin, body.run_id, body.description, tags)
    return answer(model_version=model_wire.model_version(made))


@router.get("/model-versions/get", openapi_extra=READ)
async def mlflow_get_version(name: Text, version: Text, tx: TxDep) -> JSONResponse:
    if not version.isdecimal():
        raise InvalidParameterValue(parameter="version", reason=f"it must be an integer, got '{version[:100]}'")
    return answer(model_version=model_wire.model_version(await service.get_version(tx.conn, tx.scope, name, version)))


@router.patch("/model-versions/update", openapi_extra=WRITE)
async def mlflow_update_version(body: model_wire.VersionUpdate, tx: TxDep) -> JSONResponse:
    found = await service.describe_version(tx.conn, tx.scope, body.name, body.version, body.description)
    return answer(model_version=model_wire.model_version(found))


@router.post("/model-versions/transition-stage", openapi_extra=MANAGE)
async def mlflow_transition_stage(body: model_wire.VersionStage, tx: TxDep) -> JSONResponse:
    archive = body.archive_existing_versions
    found = await service.move_stage(tx.conn, tx.scope, body.name, body.version, body.stage, archive=archive)
    return answer(model_version=model_wire.model_version(found))


@router.delete("/model-versions/delete", openapi_extra=MANAGE)
async def mlflow_delete_version(body: model_wire.VersionNamed, tx: TxDep) -> JSONResponse:
    await service.delete_version(tx.conn, tx.scope, body.name, body.version)
    return answer()


@router.get("/model-versions/search", openapi_extra=READ)
async def mlflow_search_versions(
    tx: TxDep,
    filter: Text = "",
    order_by: Texts = None,
    max_results: Annotated[int, Query(ge=1, le=200_000)] = 10_000,
    page_token: Text = "",
) -> JSONResponse:
    question = search.Question(filter, tuple(order_by or ()), limit=max_results, page_token=page_token)
    found, token = await search.search_versions(tx.conn, tx.scope, question)
    return answer(model_versions=[model_wire.model_version(version) for version in found], next_page_token=token or None)


@router.get("/model-versions/get-download-uri", openapi_extra=READ)
async def mlflow_get_download_uri(name: Text, version: Text, tx: TxDep) -> JSONResponse:
    return answer(artifact_uri=model_wire.version_uri(await service.get_version(tx.conn, tx.scope, name, version)))


@router.post("/model-versions/set-tag", openapi_extra=WRITE)
async def mlflow_set_version_tag(body: model_wire.VersionTag, tx: TxDep) -> JSONResponse:
    await service.set_version_tags(tx.conn, tx.scope, body.name, body.version, {body.key: body.value})
    return answer()


@router.delete("/model-versions/delete-tag", openapi_extra=WRITE)
async def mlflow_delete_version_tag(body: model_wire.VersionTagNamed, tx: TxDep) -> JSONResponse:
    await service.set_version_tags(tx.conn, tx.scope, body.name, body.version, {body.key: None})
    return answer()
