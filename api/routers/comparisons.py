"""/v1/modelhub/comparisons and /views: runs side by side, and the questions about them that a project keeps."""

from __future__ import annotations

from fastapi import APIRouter

from actors.modelhub.comparison import service
from aidos.schemas.common import Name, PageOf
from aidos.schemas.comparisons import ComparisonCreate, ComparisonRead, ViewRead, ViewSet
from api import comparisons
from api.deps import ApiRoute, PageDep, TxDep, needs
from api.pages import key_of, page_of, stored_text

router = APIRouter(prefix="/v1/modelhub", tags=["modelhub"], route_class=ApiRoute)
READ, WRITE = needs("modelhub:read"), needs("modelhub:write")


@router.post("/comparisons", openapi_extra=needs("modelhub:read", audit=False))
async def compare_runs(body: ComparisonCreate, tx: TxDep) -> ComparisonRead:
    """Up to 500 runs, by id or by query: what differs, what is alike, and the curves of their metrics."""
    return await comparisons.compare(tx.conn, tx.scope, body)


@router.put("/views/{view}", openapi_extra=WRITE)
async def set_view(view: Name, body: ViewSet, tx: TxDep) -> ViewRead:
    """Keep a view under this name, in the place of one that there is."""
    charts = [chart.model_dump(mode="json") for chart in body.charts]
    return ViewRead.model_validate(await service.set_view(tx.conn, tx.scope, view, body.query, body.columns, charts))


@router.get("/views", openapi_extra=READ)
async def list_views(page: PageDep, tx: TxDep) -> PageOf[ViewRead]:
    rows = await service.list_views(tx.conn, tx.scope, key_of(page.cursor, stored_text), page.limit)
    return page_of(ViewRead, rows, page.limit, "name")


@router.get("/views/{view}", openapi_extra=READ)
async def get_view(view: Name, tx: TxDep) -> ViewRead:
    return ViewRead.model_validate(await service.get_view(tx.conn, tx.scope, view))


@router.delete("/views/{view}", status_code=204, openapi_extra=WRITE)
async def delete_view(view: Name, tx: TxDep) -> None:
    await service.delete_view(tx.conn, tx.scope, view)
