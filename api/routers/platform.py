"""Routes of the installation itself: is it alive, is it ready, what is it, how is it doing; and the document of all routes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from aidos.schemas.platform import Liveness, PlatformStatus, Readiness, VersionRead
from api.deps import PUBLIC, ApiRoute, needs
from api.health import VERSION

router = APIRouter(tags=["platform"], route_class=ApiRoute)


@router.get("/healthz", openapi_extra=needs(PUBLIC))
async def get_liveness() -> Liveness:
    """The process answers; nothing else is asked."""
    return Liveness()


@router.get("/readyz", openapi_extra=needs(PUBLIC))
async def get_readiness(request: Request) -> Readiness:
    """The database and the object store can be reached; 503 when one cannot."""
    return Readiness.model_validate({"ready": True, "parts": await request.app.state.health.require_ready()})


@router.get("/v1/version", openapi_extra=needs(PUBLIC))
async def get_version() -> VersionRead:
    """What runs here."""
    return VersionRead(version=VERSION)


@router.get("/v1/openapi.json", openapi_extra=needs(PUBLIC), response_model=dict[str, Any])
async def get_openapi(request: Request) -> Response:
    """This API as an OpenAPI 3.1 document."""
    return Response(request.app.state.openapi_json(), media_type="application/json")


@router.get("/v1/platform/status", openapi_extra=needs("platform:operate", transaction=False, project=False))
async def get_platform_status(request: Request) -> PlatformStatus:
    """How the installation is doing: what it reaches, who holds which lease, how far behind each consumer of events is."""
    return PlatformStatus.model_validate(await request.app.state.health.status())
