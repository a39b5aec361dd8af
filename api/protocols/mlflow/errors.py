"""Refusals as MLflow's clients read them: ``{"error_code", "message"}`` beside the members of the problem that they are.

A middleware, outside of all others: what the edge refuses before a route is found must be understood too.
Codes and statuses: https://github.com/mlflow/mlflow/blob/master/mlflow/protos/databricks.proto
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.modelhub.errors import RunNotFound
from actors.modelhub.tracking import service as tracking
from aidos.http.problems import MEDIA_TYPE
from api.deps import ApiRoute, Session
from api.errors import RequestInvalid

PREFIXES = ("/api/2.0/mlflow", "/api/3.0/mlflow", "/version", "/get-artifact", "/model-versions/get-artifact")
AJAX = "/ajax-api/"
"""What MLflow's own pages call the same routes."""
_BY_STATUS = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "ENDPOINT_NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "INVALID_PARAMETER_VALUE",
    412: "INVALID_PARAMETER_VALUE",
    413: "INVALID_PARAMETER_VALUE",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
_CONFLICTS = ("alias-protected", "protection-kept")
_STATUS = {409: 400, 412: 400, 413: 400, 422: 400}
_ROUTES = ("route-not-found", "method-not-allowed")
# Where client scripts look at the words: those of MLflow's server, of the problem's members.
_WORDS = {
    "experiment-not-found": "No Experiment with id={name} exists",
    "experiment-exists": "Experiment(name={name}) already exists.",
    "invalid-artifact-path": "Invalid path",
    "run-not-found": "Run with id={run_id} not found",
    "model-not-found": "Registered Model with name={name} not found",
    "model-exists": "Registered Model (name={name}) already exists.",
    "version-not-found": "Model Version (name={model}, version={version}) not found",
}


def to_mlflow(problem: dict[str, Any]) -> dict[str, Any]:
    """The problem with MLflow's two members, and MLflow's status."""
    status, kind = int(problem["status"]), str(problem["type"]).rsplit(":", 1)[-1]
    code = _BY_STATUS.get(status, "INTERNAL_ERROR")
    if kind.endswith("-exists"):
        code = "RESOURCE_ALREADY_EXISTS"
    elif kind in _CONFLICTS:
        return {**problem, "error_code": "RESOURCE_CONFLICT", "message": _message(problem)}
    elif kind in _ROUTES:
        code = "ENDPOINT_NOT_FOUND"
    return {**problem, "status": _STATUS.get(status, status), "error_code": code, "message": _message(problem)}


def _message(problem: dict[str, Any]) -> str:
    if words := _WORDS.get(str(problem["type"]).rsplit(":", 1)[-1]):
        return words.format(**{name: _to_id(value) for name, value in problem.items()})
    errors = problem.get("errors")
    return " ".join(error["detail"] for error in errors) if isinstance(errors, list) and errors else str(problem["detail"])


def _to_id(value: object) -> str:
    """Ids are shown without hyphens."""
    with contextlib.suppress(ValueError):
        return UUID(str(value)).hex
    return str(value)


class MlflowRoute(ApiRoute):
    """Says what is wrong with a message as MLflow does, with the value."""

    async def _run(self, request: Request) -> Response:
        try:
            return await super()._run(request)
        except RunNotFound as error:
            session = Session(request.app.state.edge, request.scope["state"]["scope"], request)
            async with session.transaction() as conn:
                await tracking.refuse_deleted(conn, session.scope, str(error.fields["run_id"]))
            raise
        except RequestValidationError as error:
            if any(each["type"] == "json_invalid" for each in error.errors()):
                raise
            said = [{"pointer": "#", "detail": _say(each)} for each in error.errors()[:20]]
            raise RequestInvalid(reason=said[0]["detail"].rstrip("."), errors=said) from None


def _say(error: Mapping[str, Any]) -> str:
    _, *path = error["loc"] or ("body",)
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "body"
    if error["type"] == "missing" or error["input"] in (None, "", []):
        return f"Missing value for required parameter '{name}'."
    value = json.dumps(error["input"], separators=(",", ":"), default=str)
    return f"Invalid value {value[:500]} for parameter '{name}' supplied: {str(error['msg']).removeprefix('Value error, ')}."


class MlflowErrors:
    """Wraps the application; other paths pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(AJAX):
            path = scope["path"].removeprefix("/ajax-")
            scope = {**scope, "path": f"/{path}", "raw_path": b"/" + scope["raw_path"].removeprefix(b"/ajax-")}
        if scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            send = _Translation(send).send
        await self._app(scope, receive, send)


class _Translation:
    """One answer: a problem is held until it is whole."""

    def __init__(self, send: Send) -> None:
        self._send, self._body = send, b""
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and dict(message.get("headers", ())).get(b"content-type") == MEDIA_TYPE.encode():
            self._start = message
        elif self._start is None:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._answer(self._start)

    async def _answer(self, start: Message) -> None:
        problem = to_mlflow(json.loads(self._body))
        body = json.dumps(problem).encode()
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**start, "status": problem["status"], "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
