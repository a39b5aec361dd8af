"""MLflow's traces and assessments: ``/api/3.0/mlflow/traces``, and those of its routes that stayed at 2.0."""

from __future__ import annotations

import contextlib

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from actors.modelhub.search import service as search
from actors.modelhub.traces import service
from actors.modelhub.traces.errors import AssessmentNotFound
from actors.modelhub.tracking import service as tracking
from api.deps import TxDep
from api.protocols.mlflow import trace_wire as wire
from api.protocols.mlflow.errors import MlflowRoute
from api.protocols.mlflow.tracking import LOG, MANAGE, READ, WRITE
from api.protocols.mlflow.wire import answer, moment

router = APIRouter(tags=["modelhub"], route_class=MlflowRoute, include_in_schema=False)
V2, V3 = "/api/2.0/mlflow/traces", "/api/3.0/mlflow/traces"


@router.post(V3, openapi_extra=LOG)
async def mlflow_start_trace(body: wire.TraceStart, tx: TxDep) -> JSONResponse:
    info = body.trace.trace_info
    experiment = await tracking.get_experiment(tx.conn, tx.scope, info.trace_location.mlflow_experiment.experiment_id)
    made = await service.put_trace(tx.conn, tx.scope, experiment, info.spec)
    return answer(trace={"trace_info": wire.trace_info(made)})


@router.post(V3 + "/search", openapi_extra=READ)
async def mlflow_search_traces(body: wire.TracesSearch, tx: TxDep) -> JSONResponse:
    question = search.Question(body.filter, tuple(body.order_by), limit=body.max_results, page_token=body.page_token)
    named = [location.mlflow_experiment.experiment_id for location in body.locations]
    experiments = await tracking.resolve_experiments(tx.conn, tx.scope, named)
    found, token = await search.search_traces(tx.conn, tx.scope, experiments, question)
    return answer(traces=[wire.trace_info(trace) for trace in found], next_page_token=token or None)


@router.post(V3 + "/batchGetInfos", openapi_extra=READ)
async def mlflow_get_trace_infos(body: wire.TraceInfosGet, tx: TxDep) -> JSONResponse:
    return answer(trace_infos=[wire.trace_info(trace) for trace in await search.find_traces(tx.conn, tx.scope, body.trace_ids)])


@router.post(V2 + "/delete-traces", openapi_extra=MANAGE)
@router.post(V3 + "/delete-traces", openapi_extra=MANAGE)
async def mlflow_delete_traces(body: wire.TracesDelete, tx: TxDep) -> JSONResponse:
    experiment = await tracking.get_experiment(tx.conn, tx.scope, body.experiment_id)
    before = None if body.max_timestamp_millis is None else moment(body.max_timestamp_millis)
    deleted = await service.delete_traces(tx.conn, tx.scope, experiment, body.request_ids, before, body.max_traces)
    return answer(traces_deleted=deleted)


@router.post(V2 + "/link-to-run", openapi_extra=WRITE)
async def mlflow_link_traces(body: wire.TracesLink, tx: TxDep) -> JSONResponse:
    await service.link_traces(tx.conn, tx.scope, body.trace_ids, tracking.run_id(body.run_id))
    return answer()


@router.get(V3 + "/{trace_id}", openapi_extra=READ)
async def mlflow_get_trace(trace_id: str, tx: TxDep) -> JSONResponse:
    return answer(trace={"trace_info": wire.trace_info(await service.get_trace(tx.conn, tx.scope, trace_id))})


@router.patch(V2 + "/{trace_id}/tags", openapi_extra=LOG)
@router.patch(V3 + "/{trace_id}/tags", openapi_extra=LOG)
async def mlflow_set_trace_tag(trace_id: str, body: wire.TraceTag, tx: TxDep) -> JSONResponse:
    await service.change_tags(tx.conn, tx.scope, trace_id, {body.key: body.value})
    return answer()


@router.delete(V2 + "/{trace_id}/tags", openapi_extra=WRITE)
@router.delete(V3 + "/{trace_id}/tags", openapi_extra=WRITE)
async def mlflow_delete_trace_tag(trace_id: str, body: wire.TraceTagNamed, tx: TxDep) -> JSONResponse:
    await service.change_tags(tx.conn, tx.scope, trace_id, {body.key: None})
    return answer()


@router.post(V3 + "/{trace_id}/assessments", openapi_extra=WRITE)
async def mlflow_create_assessment(trace_id: str, body: wire.AssessmentSent, tx: TxDep) -> JSONResponse:
    return answer(assessment=wire.assessment(await service.create_assessment(tx.conn, tx.scope, trace_id, body.body), trace_id))


@router.get(V3 + "/{trace_id}/assessments/{assessment_id}", openapi_extra=READ)
async def mlflow_get_assessment(trace_id: str, assessment_id: str, tx: TxDep) -> JSONResponse:
    found = await service.get_assessment(tx.conn, tx.scope, trace_id, assessment_id)
    return answer(assessment=wire.assessment(found, trace_id))


@router.patch(V3 + "/{trace_id}/assessments/{assessment_id}", openapi_extra=WRITE)
async def mlflow_update_assessment(trace_id: str, assessment_id: str, body: wire.AssessmentSent, tx: TxDep) -> JSONResponse:
    changed = await service.change_assessment(tx.conn, tx.scope, trace_id, assessment_id, body.body)
    return answer(assessment=wire.assessment(changed, trace_id))


@router.delete(V3 + "/{trace_id}/assessments/{assessment_id}", openapi_extra=WRITE)
async def mlflow_delete_assessment(trace_id: str, assessment_id: str, tx: TxDep) -> JSONResponse:
    with contextlib.suppress(AssessmentNotFound):
        await service.delete_assessment(tx.conn, tx.scope, trace_id, assessment_id)
    return answer()
