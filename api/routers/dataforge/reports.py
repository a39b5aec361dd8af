"""/v1/dataforge reports: asked of a dataset's commits, answered by jobs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from aidos.schemas.common import Name, PageOf
from aidos.schemas.dataforge.reports import ProgressSet, ReportCreate, ReportKind, ReportRead, ResultSet
from aidos.schemas.dataforge.versions import RefName
from api import reports
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, WaitS, needs
from api.pages import id_of, page_of
from data_pipelines.dataforge.reports import service
from data_pipelines.dataforge.reports.models import Progress

router = APIRouter(prefix="/v1/dataforge", tags=["dataforge"], route_class=ApiRoute)
FINAL = frozenset({"SUCCEEDED", "FAILED"})
RefFilter = Annotated[RefName | None, Query(description="Only of the commit behind this branch, tag or commit id.")]
KindFilter = Annotated[ReportKind | None, Query(description="Only of this kind.")]


@router.post("/datasets/{dataset}/reports", status_code=201, openapi_extra=needs("dataforge:write"))
async def create_report(dataset: Name, body: ReportCreate, tx: TxDep) -> ReportRead:
    """Ask something of a commit: a job finds it out. The same question gets the same report; one whose job failed is begun again."""
    return await reports.create_report(tx.conn, tx.scope, dataset, body)


@router.get("/datasets/{dataset}/reports", openapi_extra=needs("dataforge:read"))
async def list_reports(dataset: Name, tx: TxDep, page: PageDep, ref: RefFilter = None, kind: KindFilter = None) -> PageOf[ReportRead]:
    """A dataset's reports without their results, newest first."""
    items = await reports.list_reports(tx.conn, tx.scope, dataset, ref, kind, id_of(page.cursor), page.limit)
    return page_of(ReportRead, items, page.limit, "id")


@router.get("/reports/{report}", openapi_extra=needs("dataforge:read", transaction=False))
async def get_report(report: UUID, session: SessionDep, wait: WaitS) -> ReportRead:
    """A report; with `wait`, once it has ended."""
    return await session.wait_until(
        lambda conn: reports.get_report(conn, session.scope, report), lambda now: wait == 0 or now.state in FINAL, wait
    )


@router.put("/reports/{report}/progress", openapi_extra=needs("dataforge:write", audit=False))
async def set_report_progress(report: UUID, body: ProgressSet, tx: TxDep) -> ReportRead:
    """How far the report's own job is; nobody else may say so."""
    await service.note_progress(tx.conn, tx.scope, report, Progress(body.stage, body.done, body.total))
    return await reports.get_report(tx.conn, tx.scope, report)


@router.put("/reports/{report}/result", openapi_extra=needs("dataforge:write"))
async def finish_report(report: UUID, body: ResultSet, tx: TxDep) -> ReportRead:
    """Keep what the report's own job found; nobody else may, and the first result stays."""
    return await reports.finish_report(tx.conn, tx.scope, report, body.result)
