"""/v1/dataforge imports in place."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from aidos.schemas.common import Name, PageOf
from aidos.schemas.dataforge.imports import ImportCreate, ImportRead, split_uri
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, WaitS, needs
from api.pages import id_of, page_of
from data_pipelines.dataforge.imports import service
from data_pipelines.dataforge.imports.models import ImportSpec, ImportState

router = APIRouter(prefix="/v1/dataforge/datasets/{dataset}/imports", tags=["dataforge"], route_class=ApiRoute)
READ, WRITE = needs("dataforge:read"), needs("dataforge:write")


@router.post("", status_code=202, openapi_extra=WRITE)
async def create_import(dataset: Name, body: ImportCreate, tx: TxDep) -> ImportRead:
    """Make a branch equal to a folder of a bucket without copying a byte, in the background."""
    spec = ImportSpec(*split_uri(body.source), body.branch, body.message)
    return ImportRead.model_validate(await service.request_import(tx.conn, tx.scope, tx.objects, dataset, spec))


@router.get("", openapi_extra=READ)
async def list_imports(dataset: Name, page: PageDep, tx: TxDep) -> PageOf[ImportRead]:
    rows = await service.list_imports(tx.conn, tx.scope, dataset, id_of(page.cursor), page.limit)
    return page_of(ImportRead, rows, page.limit, "id")


@router.get("/{import_id}", openapi_extra=needs("dataforge:read", transaction=False))
async def get_import(dataset: Name, import_id: UUID, session: SessionDep, wait: WaitS) -> ImportRead:
    """An import; with `wait`, once it has ended."""
    found = await session.wait_until(
        lambda conn: service.get_import(conn, session.scope, dataset, import_id), lambda now: now.state is not ImportState.RUNNING, wait
    )
    return ImportRead.model_validate(found)


@router.post("/{import_id}/cancel", openapi_extra=WRITE)
async def cancel_import(dataset: Name, import_id: UUID, tx: TxDep) -> ImportRead:
    """End it before it has made its commit."""
    return ImportRead.model_validate(await service.cancel_import(tx.conn, tx.scope, dataset, import_id))
