"""MLflow's artifact API: the proxy ``/api/2.0/mlflow-artifacts``, and what a server says of itself.

Small files come in through the gateway as a stream, large ones in parts by presigned URL. All go back straight from the object store: by presigned
URL, which ``server-info`` offers and the client takes, or by a redirect to one for clients that do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse

from actors.modelhub.artifacts import service
from actors.modelhub.artifacts.models import Entry, Location, OwnerKind
from actors.modelhub.logged import service as logged
from actors.modelhub.registry import service as registry
from actors.modelhub.traces import service as traces
from actors.modelhub.tracking import service as tracking
from api.deps import Session, SessionDep, Tx, TxDep, needs
from api.errors import UploadStalled
from api.protocols.mlflow import model_wire, wire
from api.protocols.mlflow.errors import MlflowRoute
from api.protocols.mlflow.tracking import MANAGE, READ
from api.protocols.mlflow.wire import answer

SPEAKS = "3.3.2"
"""The version that clients ask for to know whether they may send spans one by one, from 3.4 on: here they come as a file of their trace."""
UPLOADS = "/api/2.0/mlflow-artifacts/artifacts/"
"""Bodies below it are files."""

router = APIRouter(tags=["modelhub"], route_class=MlflowRoute, include_in_schema=False)
PROXY = "/api/2.0/mlflow-artifacts"
PUT = needs("modelhub:write", transaction=False, streams=True)
PARTS = needs("modelhub:write", transaction=False)


@router.get("/version", openapi_extra=READ)
async def mlflow_version() -> PlainTextResponse:
    return PlainTextResponse(SPEAKS)


@router.get("/api/3.0/mlflow/server-info", openapi_extra=READ)
async def mlflow_server_info() -> JSONResponse:
    return answer(store_type="SqlStore", workspaces_enabled=False, multipart_uploads_enabled=True, multipart_downloads_enabled=True)


@router.get("/api/2.0/mlflow/artifacts/list", openapi_extra=READ)
async def mlflow_list_artifacts(run_id: Annotated[str, Query()], tx: TxDep, path: Annotated[str, Query()] = "") -> JSONResponse:
    run = await tracking.get_run(tx.conn, tx.scope, run_id)
    at = Location(OwnerKind.RUN, run.id, service.check_path(path))
    found = await service.list_folder(tx.conn, tx.scope, at)
    return answer(root_uri=wire.run_info(run)["artifact_uri"], files=[_entry(entry, at.path) for entry in found])


@router.get(PROXY + "/artifacts", openapi_extra=READ)
async def mlflow_list_folder(path: Annotated[str, Query()], tx: TxDep) -> JSONResponse:
    below = "/".join(part for part in path.split("/") if part != ".")  # by which clients mean all there is
    return answer(files=[_entry(entry) for entry in await service.list_folder(tx.conn, tx.scope, service.parse_location(below))])


@router.get("/api/2.0/mlflow/logged-models/{logged_model}/artifacts/directories", openapi_extra=READ)
async def mlflow_list_model_artifacts(logged_model: str, tx: TxDep, artifact_directory_path: Annotated[str, Query()] = "") -> JSONResponse:
    model = await logged.get_model(tx.conn, tx.scope, logged.to_id(logged_model))
    at = Location(OwnerKind.MODEL, model.id, service.check_path(artifact_directory_path))
    found = await service.list_folder(tx.conn, tx.scope, at)
    return answer(root_uri=model_wire.logged_model(model)["info"]["artifact_uri"], files=[_entry(entry, at.path) for entry in found])


def _entry(entry: Entry, folder: str = "") -> dict[str, Any]:
    shown = {"path": f"{folder}/{entry.name}" if folder else entry.name, "is_dir": entry.size_bytes is None}
    return shown if entry.size_bytes is None else {**shown, "file_size": entry.size_bytes}


@router.get(PROXY + "/artifacts/{artifact:path}", openapi_extra=READ)
async def mlflow_download_artifact(artifact: str, tx: TxDep) -> RedirectResponse:
    return await _redirect(tx, service.parse_location(artifact))


@router.get("/get-artifact", openapi_extra=READ)
async def mlflow_get_artifact(path: Annotated[str, Query()], tx: TxDep, run_id: str = "", run_uuid: str = "") -> RedirectResponse:
    at = service.check_path(path)
    run = await tracking.get_run(tx.conn, tx.scope, run_id or run_uuid)
    return await _redirect(tx, Location(OwnerKind.RUN, run.id, at))


@router.get("/model-versions/get-artifact", openapi_extra=READ)
async def mlflow_get_version_artifact(
    name: Annotated[str, Query()], version: Annotated[str, Query()], path: Annotated[str, Query()], tx: TxDep
) -> RedirectResponse:
    at = service.check_path(path)
    found = await registry.get_version(tx.conn, tx.scope, name, version)
    return await _redirect(tx, Location(OwnerKind.VERSION, found.id, at))


@router.get("/api/2.0/mlflow/get-trace-artifact", openapi_extra=READ)
async def mlflow_get_trace_artifact(request_id: Annotated[str, Query()], tx: TxDep) -> RedirectResponse:
    trace = await traces.get_trace(tx.conn, tx.scope, request_id)
    return await _redirect(tx, Location(OwnerKind.TRACE, trace.id, "traces.json"))


async def _redirect(tx: Tx, at: Location) -> RedirectResponse:
    """HTTP clients leave their credentials behind when a redirect leads to another host or port (requests, curl, browsers)."""
    file = await service.find_file(tx.conn, tx.scope, at)
    return RedirectResponse(tx.objects.presign_get(file.key, filename=file.path.rsplit("/", 1)[-1]))


@router.get(PROXY + "/presigned/{artifact:path}", openapi_extra=READ)
async def mlflow_presign_download(artifact: str, tx: TxDep) -> JSONResponse:
    file = await service.find_file(tx.conn, tx.scope, service.parse_location(artifact))
    return answer(url=tx.objects.presign_get(file.key), headers={}, file_size=file.size_bytes)


@router.put(PROXY + "/artifacts/{artifact:path}", openapi_extra=PUT)
async def mlflow_upload_artifact(artifact: str, request: Request, session: SessionDep) -> JSONResponse:
    return await _receive(request, session, service.parse_location(artifact))


@router.post("/api/2.0/mlflow/upload-artifact", openapi_extra=PUT)
async def mlflow_upload_run_artifact(
    run_uuid: Annotated[str, Query()], path: Annotated[str, Query()], request: Request, session: SessionDep
) -> JSONResponse:
    return await _receive(request, session, Location(OwnerKind.RUN, tracking.run_id(run_uuid), service.check_path(path)))


async def _receive(request: Request, session: Session, at: Location) -> JSONResponse:
    objects = session.edge.objects
    key = service.build_key(session.scope, at)
    async with session.transaction() as conn:
        await service.check_writable(conn, session.scope, at)
    sha256, size_bytes = await service.receive(objects, key, _body(request, session.edge.db.settings.request_timeout_s))
    async with session.change() as conn:
        await service.put(conn, session.scope, at, key, sha256, size_bytes)
    return answer()


async def _body(request: Request, limit_s: float) -> AsyncIterator[bytes]:
    """A large file may take its time, as long as it keeps coming. Raises: UploadStalled."""
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(limit_s):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise UploadStalled(limit_s=limit_s) from None
        if chunk is None:
            return
        yield chunk


@router.delete(PROXY + "/artifacts/{artifact:path}", openapi_extra=MANAGE)
async def mlflow_delete_artifact(artifact: str, tx: TxDep) -> JSONResponse:
    await service.delete(tx.conn, tx.scope, service.parse_location(artifact))
    return answer()


@router.post(PROXY + "/mpu/create/{artifact:path}", openapi_extra=PARTS)
async def mlflow_create_upload(artifact: str, body: wire.UploadCreate, session: SessionDep) -> JSONResponse:
    at = _target(artifact, body.path)
    async with session.transaction() as conn:
        await service.check_writable(conn, session.scope, at)
    upload, urls = await service.begin(session.edge.objects, service.build_key(session.scope, at), body.num_parts)
    async with session.change() as conn:
        await service.announce(conn, session.scope, at, upload)
    parts = [{"url": url, "part_number": number, "headers": {}} for number, url in enumerate(urls, 1)]
    return answer(upload_id=upload.upload_id, credentials=parts)


@router.post(PROXY + "/mpu/complete/{artifact:path}", openapi_extra=PARTS)
async def mlflow_complete_upload(artifact: str, body: wire.UploadNamed, session: SessionDep) -> JSONResponse:
    at = _target(artifact, body.path)
    async with session.transaction() as conn:
        upload = await service.get_upload(conn, session.scope, at, body.upload_id)
    stored = await service.join(session.edge.objects, at, upload)
    async with session.change() as conn:
        await service.complete(conn, session.scope, at, upload, stored)
    return answer()


@router.post(PROXY + "/mpu/abort/{artifact:path}", openapi_extra=PARTS)
async def mlflow_abort_upload(artifact: str, body: wire.UploadNamed, session: SessionDep) -> JSONResponse:
    at = _target(artifact, body.path)
    async with session.change() as conn:
        upload = await service.get_upload(conn, session.scope, at, body.upload_id)
        await service.abort(conn, session.scope, at, upload)
    await session.edge.objects.abort_multipart(upload.key, upload.upload_id)
    return answer()


def _target(folder: str, local_file: str) -> Location:
    """The client names the folder in the path and its own file in the body."""
    return service.parse_location(f"{folder.rstrip('/')}/{local_file.replace(chr(92), '/').rsplit('/', 1)[-1]}")
