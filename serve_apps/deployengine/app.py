"""The Serve application of an endpoint: the model runs inside its ingress replica, behind the shared middleware."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from ray.util import metrics as ray_metrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from actors.securityvault.asgi import VaultMiddleware
from aidos.errors import NotFound
from cluster import metrics, telemetry
from cluster.db import new_id
from cluster.logfile import open_log
from cluster.objects import Objects
from cluster.settings import SYSTEM_GROUP, get_settings
from serve_apps.deployengine import policy
from serve_apps.deployengine.errors import ModelDamaged
from serve_apps.deployengine.models import EndpointSpec
from serve_apps.deployengine.protocol import OnnxModel

MAX_BODY_BYTES = 64_000_000


async def load_model(spec: EndpointSpec, objects: Objects) -> OnnxModel:
    """Fetch the model's graph, check its hash and load it. Raises: ModelDamaged."""
    file = spec.files[0]
    graph = await objects.get(file.key)
    actual = hashlib.sha256(graph).hexdigest()
    if actual != file.sha256:
        raise ModelDamaged(path=file.path, actual=actual, expected=file.sha256)
    return await asyncio.to_thread(OnnxModel, graph, spec.model, spec.version, max(1, int(spec.cpus)))


class ProtocolRoute(Route):
    """A route that, as FastAPI's do, leaves itself in the scope: spans and numbers are named by its template."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}


class Predictor:
    """The routes of the Open Inference Protocol v2 over one loaded model."""

    def __init__(self, spec: EndpointSpec) -> None:
        self.spec = spec
        self.model: OnnxModel | None = None

    async def load(self) -> None:
        self.model = await load_model(self.spec, Objects(get_settings()))

    def routes(self) -> list[Route]:
        model = "/v2/models/{model}"
        versioned = model + "/versions/{version}"
        return [
            ProtocolRoute("/v2", self.server, methods=["GET"]),
            ProtocolRoute("/v2/health/live", self.live, methods=["GET"]),
            ProtocolRoute("/v2/health/ready", self.live, methods=["GET"]),
            *(ProtocolRoute(path, self.metadata, methods=["GET"]) for path in (model, versioned)),
            *(ProtocolRoute(f"{path}/ready", self.ready, methods=["GET"]) for path in (model, versioned)),
            *(ProtocolRoute(f"{path}/infer", self.infer, methods=["POST"]) for path in (model, versioned)),
        ]

    async def server(self, _request: Request) -> Response:
        return JSONResponse({"name": "aidos", "version": "0.1.0", "extensions": []})

    async def live(self, _request: Request) -> Response:
        return JSONResponse({"live": True, "ready": True})

    async def metadata(self, request: Request) -> Response:
        return JSONResponse(self._named(request).metadata())

    async def ready(self, request: Request) -> Response:
        return JSONResponse({"name": self._named(request).name, "ready": True})

    async def infer(self, request: Request) -> Response:
        model = self._named(request)
        body = await request.body()
        answer = await asyncio.to_thread(model.infer, body)
        id = policy.to_prediction_id(self.spec.endpoint_id, self.spec.generation, new_id())
        headers = {"x-aidos-model": f"{model.name}@{model.version}", "x-aidos-prediction": id}
        return JSONResponse({"id": id, **answer}, headers=headers)

    def _named(self, request: Request) -> OnnxModel:
        """The model, if it is the one that the path names: by the endpoint's or by the model's name."""
        assert self.model is not None
        name, version = request.path_params["model"], request.path_params.get("version", self.model.version)
        if name not in {self.spec.name, self.model.name} or version != self.model.version:
            raise NotFound(noun="model", name=f"{name}@{version}")
        return self.model


def build_endpoint_app(spec: EndpointSpec) -> Any:
    """The ASGI application of a replica: middleware, then the protocol."""
    predictor = Predictor(spec)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await predictor.load()
        yield

    app = Starlette(routes=predictor.routes(), lifespan=lifespan)
    return VaultMiddleware(
        app, permission="deployengine:predict", project_id=spec.project_id, body_limit_bytes=MAX_BODY_BYTES, echo_request_id=False
    )


class EndpointReplica:
    """A replica of an endpoint."""

    def __init__(self, spec: EndpointSpec) -> None:
        self.spec = spec

    def __serve_build_asgi_app__(self) -> Any:
        process, settings = f"endpoint.{self.spec.name}", get_settings()
        telemetry.configure(settings, process, open_log(settings.home, process))
        metrics.start(ray_metrics, process)
        return build_endpoint_app(self.spec)


def build_app(spec: EndpointSpec) -> serve.Application:
    """The Serve application of an endpoint. Serve restarts its replicas only when the spec, so its generation, has changed."""
    deployment = serve.deployment(
        serve.ingress()(EndpointReplica),
        name="replica",
        num_replicas=spec.replicas,
        ray_actor_options={"num_cpus": spec.cpus, "label_selector": SYSTEM_GROUP},
        health_check_period_s=2,
        health_check_timeout_s=5,
        max_surge_percent=100,  # the new version answers before the old one is taken away
        rolling_update_percentage=1.0,
        graceful_shutdown_timeout_s=30,  # for requests in flight; an idle replica leaves after Serve's draining period
        graceful_shutdown_wait_loop_s=0.5,
        max_ongoing_requests=64,
    )
    return deployment.bind(spec)
