"""/v1/modelhub/lineage, beside the graph itself: what a thing has gone into."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from actors.modelhub.models import NodeKind
from aidos.schemas.lineage import ImpactRead
from api import lineage
from api.deps import ApiRoute, TxDep, needs
from api.routers.modelhub import NodeName

router = APIRouter(prefix="/v1/modelhub/lineage", tags=["modelhub"], route_class=ApiRoute)


@router.get("/{kind}/{name}/affected", openapi_extra=needs("modelhub:read"))
async def list_affected(
    kind: NodeKind,
    name: NodeName,
    tx: TxDep,
    only: Annotated[list[NodeKind] | None, Query(description="Of these kinds; none given: of all.")] = None,
    live: Annotated[bool, Query(description="Only endpoints that answer with it now.")] = False,
) -> ImpactRead:
    """What has come of a thing: of a file, what surely saw it and what only may have."""
    return await lineage.find_affected(tx.conn, tx.scope, kind, name, only or (), live=live)
