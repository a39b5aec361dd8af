"""Endpoints, as the client sees them."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.deployengine import EndpointCreate, EndpointRead, EndpointUpdate

_ONE = "/v1/deployengine/endpoints/{endpoint}"


class Endpoints(Resource):
    """Models that answer predictions over the Open Inference Protocol v2."""

    noun = "endpoint"

    create = operation(
        "POST",
        "/v1/deployengine/endpoints",
        body=EndpointCreate,
        returns=EndpointRead,
        positional=("name",),
        help="Ask for an endpoint that serves a model version.",
    )
    list = operation("GET", "/v1/deployengine/endpoints", returns=EndpointRead, paged=True, help="The project's endpoints, newest first.")
    get = operation(
        "GET", _ONE, returns=EndpointRead, query={"wait": str}, help="One endpoint; --wait 30s answers once it is READY, FAILED or DELETED."
    )
    update = operation(
        "PATCH",
        _ONE,
        body=EndpointUpdate,
        returns=EndpointRead,
        headers={"if_match": "If-Match"},
        help="Serve another model version, or change the width.",
    )
    delete = operation("DELETE", _ONE, returns=EndpointRead, help="Remove an endpoint; its record and lineage stay.")
