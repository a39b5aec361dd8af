"""/v1/modelhub/lineage: the graph, what a thing has gone into, and the runs as events of OpenLineage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from actors.modelhub.models import Direction, NodeKind
from aidos.schemas.common import PageOf, decode_cursor, encode_cursor
from aidos.schemas.lineage import ImpactRead, RunEventRead
from aidos.schemas.modelhub import GraphRead
from api import lineage
from api.deps import ApiRoute, PageDep, TxDep, needs
from api.protocols.openlineage import outgoing
from api.routers.events import BEGINNING, number

router = APIRouter(prefix="/v1/modelhub/lineage", tags=["modelhub"], route_class=ApiRoute)
READ = needs("modelhub:read")
NodeName = Annotated[
    str,
    Path(
        pattern=r"^[^\x00-\x1f\x7f]{1,2000}$",
        description="Id or name, e.g. `digits@1`. Of a dataset or job elsewhere `namespace/name`, percent-encoded once more: no path has its slashes.",
    ),
]


@router.get("/events", openapi_extra=READ)
async def list_run_events(page: PageDep, tx: TxDep, request: Request) -> PageOf[RunEventRead]:
    """What the project's runs read and made, as events of OpenLineage, oldest first. A page may have fewer than its limit."""
    after = decode_cursor(page.cursor, [number, number]) or BEGINNING
    url = request.app.state.edge.db.settings.url
    found, last = await outgoing.list_run_events(tx.conn, tx.scope, url, (after[0], after[1]), page.limit)
    return PageOf(items=[RunEventRead.model_validate(event) for event in found], next_cursor=encode_cursor(*last) if last else None)


@router.get("/{kind}/{name}/affected", openapi_extra=READ)
async def list_affected(
    kind: NodeKind,
    name: NodeName,
    tx: TxDep,
    only: Annotated[list[NodeKind] | None, Query(description="Of these kinds; none given: of all.")] = None,
    live: Annotated[bool, Query(description="Only endpoints that answer with it now.")] = False,
) -> ImpactRead:
    """What has come of a thing: of a file, what surely saw it and what only may have."""
    return await lineage.find_affected(tx.conn, tx.scope, kind, name, only or (), live=live)


@router.get("/{kind}/{name}", openapi_extra=READ)
async def get_lineage(
    kind: NodeKind,
    name: NodeName,
    tx: TxDep,
    direction: Direction = Direction.BOTH,
    depth: Annotated[int, Query(ge=1, le=20)] = 10,
    files: Annotated[int, Query(ge=0, le=1000, description="Files to name of each commit on the way up.")] = 3,
) -> GraphRead:
    """What a thing came from and what came of it: file → commit → run → model version → endpoint → prediction."""
    return GraphRead.model_validate(await lineage.trace(tx.conn, tx.scope, kind, name, direction, depth, files))
