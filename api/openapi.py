"""The OpenAPI document: every status an operation can answer with, every problem, who may call it, and with what credential."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from aidos.schemas.common import Problem

TAGS = {
    "platform": "Health, version and state of the installation.",
    "securityvault": "Organisations, projects, people, roles, keys, tokens and the audit chain.",
    "dataforge": "Datasets: commits, refs, files; bytes move by presigned URL.",
    "modelhub": "Experiments, runs, metrics, artifacts, models, versions and lineage.",
    "trainos": "Jobs on Ray: submit, follow, log, cancel.",
    "deployengine": "Endpoints that serve model versions.",
    "costoptimizer": "What leased resources cost.",
    "events": "What happened in a project, as CloudEvents.",
}
DESCRIPTION = (
    "The operating system of a machine-learning team. Errors are RFC 9457 problems (`application/problem+json`); lists are paged by "
    "`cursor`; a change may carry an `Idempotency-Key`; long work is followed with `?wait=30s` or by server-sent events. The project is "
    "the key's own, or named by `X-Aidos-Project`."
)
CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, an API key or a job token."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}
PROJECT_HEADER = {
    "name": "X-Aidos-Project",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 100},
    "description": "Name or id of the project; without it the key's own, or `default`.",
}
IDEMPOTENCY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "description": "Makes the change happen once, however often it is asked for; the first answer is kept for a day.",
}
_STATUSES = {
    400: "The request cannot be understood",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not there, or in a project that you cannot see",
    409: "The state of the resource forbids it",
    412: "Changed meanwhile",
    413: "Body too large",
    422: "A value of the request is wrong",
    429: "Too many requests",
    500: "The platform failed; the request id finds the log line",
    503: "Not available now",
}
_NEED_A_CALLER = {403}
_NEED_A_CHANGE = {409, 412, 413}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
STREAM: dict[str, Any] = {
    "description": "Server-sent events; an event `end` is the last one",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_INTERNAL = ("x-transaction", "x-project", "x-audit", "x-streams")


def problem_responses(methods: Iterable[str], *, public: bool) -> dict[int | str, dict[str, Any]]:
    """The refusals that a route of these methods can answer with."""
    left_out = (_NEED_A_CALLER if public else set()) | (_NEED_A_CHANGE if set(methods) <= {"GET", "HEAD"} else set())
    return {status: {"description": text, "content": _PROBLEM} for status, text in _STATUSES.items() if status not in left_out}


def build_document(app: FastAPI) -> dict[str, Any]:
    """The document of all routes of ``app``."""
    used = {tag for route in app.routes for tag in getattr(route, "tags", ())}
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items() if name in used],
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = CREDENTIALS
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _complete(method, operation)
    return document


def _complete(method: str, operation: dict[str, Any]) -> None:
    public = operation["x-permission"] == "public"
    operation["security"] = [] if public else [{name: []} for name in CREDENTIALS]
    parameters = operation.setdefault("parameters", [])
    if not public and operation.get("x-project", True):
        parameters.append(PROJECT_HEADER)
    if not public and method != "get" and operation.get("x-transaction", True):
        parameters.append(IDEMPOTENCY_HEADER)
    for name in _INTERNAL:
        operation.pop(name, None)
