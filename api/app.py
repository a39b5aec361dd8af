"""The gateway as an ASGI application: every module's routes behind the one middleware. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from actors.securityvault import service as securityvault
from actors.securityvault.asgi import VaultMiddleware
from api import openapi, problems
from api.deps import Edge
from api.dispatch import RouteIndex
from api.health import VERSION, Health
from api.protocols.mlflow import artifacts as mlflow_artifacts
from api.protocols.mlflow import evaluation as mlflow_evaluation
from api.protocols.mlflow import logged as mlflow_logged
from api.protocols.mlflow import registry as mlflow_registry
from api.protocols.mlflow import traces as mlflow_traces
from api.protocols.mlflow import tracking as mlflow_tracking
from api.protocols.mlflow.errors import PREFIXES, MlflowErrors
from api.protocols.openlineage import routes as openlineage
from api.routers import (
    comparisons,
    costoptimizer,
    dataforge,
    deployengine,
    events,
    governance,
    lineage,
    modelhub,
    platform,
    reproductions,
    schedules,
    studies,
    trainos,
)
from api.routers import securityvault as securityvault_routes
from cluster.db import Database
from cluster.events import Wakeup
from cluster.objects import Objects
from cluster.settings import Settings
from data_pipelines.dataforge.tables.viewer import Viewer
from tune.trainos.tunnel import OpenTunnel, refuse_tunnel

# FastAPI silences this where it makes a body's field; the schemas of ours are built at their first use.
warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)

ROUTERS: tuple[APIRouter, ...] = (
    platform.router,
    securityvault_routes.router,
    dataforge.router,
    modelhub.router,
    lineage.router,
    governance.router,
    comparisons.router,
    trainos.router,
    schedules.router,
    reproductions.router,
    studies.router,
    deployengine.router,
    costoptimizer.router,
    events.router,
    mlflow_tracking.router,
    mlflow_artifacts.router,
    mlflow_logged.router,
    mlflow_registry.router,
    mlflow_traces.router,
    mlflow_evaluation.router,
    openlineage.router,
)


def build_edge(settings: Settings, open_tunnel: OpenTunnel = refuse_tunnel) -> Edge:
    """What a gateway process holds, not yet open: ``Edge.running`` opens it. ``open_tunnel`` is its way to the cluster's nodes."""
    db = Database(settings)
    viewer = Viewer(settings.home / "cache" / "viewer", settings.viewer_cache_bytes)
    return Edge(db, Objects(settings), Wakeup(db), securityvault.Authenticator(db, settings), viewer, open_tunnel)


def build_app(edge: Edge, *, open_edge: bool = False) -> FastAPI:
    """The application over ``edge``; with ``open_edge`` its lifespan opens and closes it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with edge.running() if open_edge else contextlib.nullcontext():
            if open_edge:
                _leave_to_the_process()
            yield

    app = FastAPI(
        title="AI-DOS", version=VERSION, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.edge = edge
    app.state.health = Health(edge)
    problems.install(app)
    app.router.routes.extend(_build_routes())
    _add_document(app)
    app.add_middleware(RouteIndex, router=app.router)
    app.add_middleware(
        VaultMiddleware, vault=edge.vault, basic=PREFIXES, uploads=(mlflow_artifacts.UPLOADS,), echo_request_id=not open_edge
    )
    app.add_middleware(MlflowErrors)
    _allow_origins(app, edge.db.settings)
    return app


@functools.cache
def _build_routes() -> tuple[BaseRoute, ...]:
    """Once a process: they hold nothing of an application's own."""
    root = APIRouter()
    for router in ROUTERS:
        root.include_router(router)
    return tuple(root.routes)


def _leave_to_the_process() -> None:
    """Take what stands now, routes and schemas, out of the garbage collector's sight: each of its full rounds would walk all of it."""
    gc.collect()
    gc.freeze()


def _add_document(app: FastAPI) -> None:
    @functools.cache
    def document() -> dict[str, Any]:
        return openapi.build_document(app)

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    app.state.openapi_json = functools.cache(lambda: json.dumps(document()).encode())


def _allow_origins(app: FastAPI, settings: Settings) -> None:
    """Let the named origins' pages call with a key of their own; cookies are never accepted, so none are sent."""
    if origins := [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "X-Aidos-Project", "Idempotency-Key", "If-Match", "If-None-Match", "Content-Type"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id"],
        )
