"""Predictions over the Open Inference Protocol v2, from plain nested lists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aidos.errors import InvalidPayload, Unavailable
from aidos.http.conversation import NotAidos
from aidos.http.operation import UnexpectedReply
from aidos.http.wire import Reply, Request, quote_parameter

if TYPE_CHECKING:
    from aidos.client import Client


def predict(client: Client, endpoint: str, value: Any) -> dict[str, Any]:
    """Ask an endpoint. ``value``: a request of the protocol (an object with ``inputs``), an object of input names to nested
    lists, or a nested list for a model with one input; a missing batch dimension is added.

    Raises: NotFound, Unavailable while it is not served, InvalidPayload when the value does not fit the model's inputs.
    """
    found = client.endpoints.get(endpoint)
    model = f"{found.route}/v2/models/{quote_parameter('endpoint', found.name)}"
    try:
        if not (isinstance(value, dict) and isinstance(value.get("inputs"), list)):
            value = to_request(_ask(client, Request("GET", model)), value)
        return _ask(client, Request("POST", f"{model}/infer", json=value))
    except NotAidos as error:  # the proxy knows no such route, or not yet
        raise Unavailable(reason=f"Endpoint '{found.name}' is {found.state} and not served ({error}).", retry_after_s=5) from error


def to_request(metadata: dict[str, Any], value: Any) -> dict[str, Any]:
    """The protocol's request for plain values, by the model's own description of its inputs."""
    described = {tensor["name"]: tensor for tensor in metadata["inputs"]}
    if not isinstance(value, dict):
        if len(described) != 1:
            raise InvalidPayload(reason=f"The model takes {sorted(described)}: give an object with one list for each.")
        value = {next(iter(described)): value}
    unknown = sorted(set(value) - set(described))
    if unknown:
        raise InvalidPayload(reason=f"There is no input '{unknown[0]}'. The model takes {sorted(described)}.")
    return {"inputs": [_tensor(described[name], data) for name, data in value.items()]}


def _tensor(described: dict[str, Any], data: Any) -> dict[str, Any]:
    shape = shape_of(data)
    if len(shape) == len(described["shape"]) - 1:
        data, shape = [data], [1, *shape]
    return {"name": described["name"], "datatype": described["datatype"], "shape": shape, "data": list(_flat(data))}


def shape_of(data: Any) -> list[int]:
    """Sizes of a nested list. Raises: InvalidPayload when its rows differ in length."""
    if not isinstance(data, list):
        return []
    inner = [shape_of(each) for each in data]
    if any(shape != inner[0] for shape in inner):
        raise InvalidPayload(reason="The rows of a nested list must all have the same length.")
    return [len(data), *(inner[0] if inner else [])]


def _flat(data: Any) -> list[Any]:
    return [value for each in data for value in _flat(each)] if isinstance(data, list) else [data]


def _ask(client: Client, request: Request) -> dict[str, Any]:
    def read(reply: Reply) -> dict[str, Any]:
        try:
            answer = json.loads(reply.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnexpectedReply(route=f"{request.method} {request.path}", field="body", message="it is no JSON object")
        return answer

    return client.transport.send(request, read)
