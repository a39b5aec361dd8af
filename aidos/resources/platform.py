"""The installation itself, as the client sees it."""

from __future__ import annotations

from typing import Any

from aidos.http.operation import Resource, operation
from aidos.schemas.platform import Liveness, PlatformStatus, Readiness, VersionRead


class Platform(Resource):
    """The installation: alive, ready, which version, how it is doing."""

    noun = "platform"
    plural = "platform"

    live = operation("GET", "/healthz", returns=Liveness, help="Whether the gateway answers.")
    ready = operation("GET", "/readyz", returns=Readiness, help="Whether the gateway reaches what it needs.")
    version = operation("GET", "/v1/version", returns=VersionRead, help="What runs there.")
    openapi = operation("GET", "/v1/openapi.json", returns=dict[str, Any], help="The API as an OpenAPI 3.1 document.")
    status = operation("GET", "/v1/platform/status", returns=PlatformStatus, help="Parts, leases and consumers, for the operator.")
