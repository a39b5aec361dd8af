"""``POST /api/v1/lineage`` and ``…/batch``: where OpenLineage's clients send events, with an API key as their bearer token.

https://github.com/OpenLineage/OpenLineage/blob/main/spec/OpenLineage.yml
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse

from api.deps import ApiRoute, Tx, TxDep, needs
from api.protocols.openlineage import incoming
from api.protocols.openlineage.outgoing import namespace_of
from api.protocols.openlineage.wire import EventPosted

router = APIRouter(prefix="/api/v1/lineage", tags=["modelhub"], route_class=ApiRoute, include_in_schema=False)
WRITE = needs("modelhub:write", audit=False)
MOST = 1000


@router.post("", openapi_extra=WRITE)
async def post_run_event(body: EventPosted, tx: TxDep, request: Request) -> JSONResponse:
    """Take one event of OpenLineage into the lineage graph; the same again changes nothing."""
    return await _ingest([body], tx, request)


@router.post("/batch", openapi_extra=WRITE)
async def post_run_events(body: Annotated[list[EventPosted], Body(max_length=MOST)], tx: TxDep, request: Request) -> JSONResponse:
    """Take events of OpenLineage, all of them or, where one is wrong, none."""
    return await _ingest(body, tx, request)


async def _ingest(events: list[EventPosted], tx: Tx, request: Request) -> JSONResponse:
    namespace = namespace_of(request.app.state.edge.db.settings.url, tx.scope.project_name or str(tx.scope.project))
    await incoming.ingest(tx.conn, tx.scope, events, namespace)
    return JSONResponse({"accepted": len(events)})
