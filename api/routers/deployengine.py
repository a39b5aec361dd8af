"""Routes of DeployEngine: the control plane of endpoints. Predictions go to the endpoint's own route."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from aidos.schemas.common import PageOf
from aidos.schemas.deployengine import EndpointCreate, EndpointRead, EndpointUpdate
from api.deps import ApiRoute, EdgeDep, IfMatch, PageDep, SessionDep, TxDep, WaitS, check_etag, needs
from api.pages import id_of, page_of
from serve_apps.deployengine import service
from serve_apps.deployengine.models import SETTLED

router = APIRouter(prefix="/v1/deployengine", tags=["deployengine"], route_class=ApiRoute)

EndpointName = Annotated[str, Path(max_length=100, description="Name or id of the endpoint.")]


@router.post("/endpoints", status_code=202, openapi_extra=needs("deployengine:manage"))
async def create_endpoint(body: EndpointCreate, tx: TxDep, edge: EdgeDep) -> EndpointRead:
    """Ask for an endpoint; follow it with `GET …?wait=30s`."""
    return EndpointRead.model_validate(await service.create_endpoint(tx.conn, tx.scope, edge.db.settings, **body.model_dump()))


@router.get("/endpoints", openapi_extra=needs("deployengine:read"))
async def list_endpoints(tx: TxDep, page: PageDep) -> PageOf[EndpointRead]:
    """The project's endpoints, newest first."""
    found = await service.list_endpoints(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(EndpointRead, found, page.limit, "id")


@router.get("/endpoints/{endpoint}", openapi_extra=needs("deployengine:read", transaction=False))
async def get_endpoint(endpoint: EndpointName, session: SessionDep, wait: WaitS, response: Response) -> EndpointRead:
    """An endpoint; with `wait`, once it is READY, FAILED or DELETED."""
    found = await session.wait_until(
        lambda conn: service.get_endpoint(conn, session.scope, endpoint), lambda now: wait == 0 or now.state in SETTLED, wait
    )
    response.headers["ETag"] = found.etag
    return EndpointRead.model_validate(found)


@router.patch("/endpoints/{endpoint}", status_code=202, openapi_extra=needs("deployengine:manage"))
async def update_endpoint(endpoint: EndpointName, body: EndpointUpdate, tx: TxDep, edge: EdgeDep, if_match: IfMatch = None) -> EndpointRead:
    """Change the model version or the width; the old version answers until the new one is ready."""
    found = await service.get_endpoint(tx.conn, tx.scope, endpoint)
    check_etag(if_match, found.etag)
    return EndpointRead.model_validate(await service.update_endpoint(tx.conn, tx.scope, edge.db.settings, found, **body.model_dump()))


@router.delete("/endpoints/{endpoint}", status_code=202, openapi_extra=needs("deployengine:manage"))
async def delete_endpoint(endpoint: EndpointName, tx: TxDep) -> EndpointRead:
    """Ask for the removal of an endpoint; its record and lineage stay."""
    return EndpointRead.model_validate(await service.delete_endpoint(tx.conn, tx.scope, endpoint))
