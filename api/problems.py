"""The one place where an error becomes an answer: RFC 9457 ``application/problem+json``.

``to_declared`` turns whatever was raised into an ``AidosError``; ``answer`` renders it. What nobody declared is a bare
500 with the request id: its text goes to the log, never to the caller, and a database error never shows its SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from aidos.errors import (
    AidosError,
    Forbidden,
    InvalidPayload,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from aidos.http.problems import to_problem
from api.errors import (
    ActorAway,
    ChangeConflicts,
    Contended,
    MalformedBody,
    MethodNotAllowed,
    RequestInvalid,
    RouteNotFound,
    UnstorableValue,
)
from cluster.telemetry import get_logger

NESTING_LIMIT = 64
_MOST_ERRORS = 20
_log = get_logger("api")

# PostgreSQL's error classes (https://www.postgresql.org/docs/current/errcodes-appendix.html), most special first.
_DATABASE: tuple[tuple[type[psycopg.Error], type[AidosError]], ...] = (
    (psycopg.errors.SerializationFailure, Contended),
    (psycopg.errors.DeadlockDetected, Contended),
    (psycopg.errors.LockNotAvailable, Contended),
    (psycopg.errors.CheckViolation, UnstorableValue),
    (psycopg.errors.NotNullViolation, UnstorableValue),
    (psycopg.errors.ProgramLimitExceeded, UnstorableValue),
    (psycopg.errors.StatementTooComplex, UnstorableValue),
    (psycopg.DataError, UnstorableValue),
    (psycopg.errors.UniqueViolation, ChangeConflicts),
    (psycopg.errors.ForeignKeyViolation, ChangeConflicts),
)
_KINDS: dict[int, type[AidosError]] = {
    cls.status: cls for cls in (Unauthenticated, Forbidden, NotFound, PayloadTooLarge, InvalidPayload, TooManyRequests, Unavailable)
}


def install(app: FastAPI) -> None:
    """Answer with problems to all that is raised outside a route's own handler, unknown paths included."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer(error, request)

    for kind in (AidosError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)


def answer(error: Exception, request: Request) -> Response:
    """The problem document of ``error`` as a response."""
    declared = to_declared(error, request)
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    if declared.status >= 500 and not isinstance(declared, Unavailable):
        _log.error("request failed", exc_info=error, request_id=request_id, path=request.scope.get("path"))
    status, headers, body = to_problem(declared, request_id)
    if isinstance(declared, MethodNotAllowed):
        headers.append((b"allow", str(declared.fields["allow"]).encode()))
    response = Response(status_code=status)
    response.body, response.raw_headers = body, headers
    return response


def to_declared(error: BaseException, request: Request) -> AidosError:
    """The declared error that stands for ``error``."""
    # Ray raises a generated subclass of the remote error whose own fields were never set: its cause is the error itself.
    if _is_ray(error) and isinstance(cause := getattr(error, "cause", None), BaseException) and cause is not error:
        return to_declared(cause, request)
    if isinstance(error, AidosError):
        return error
    if isinstance(error, RequestValidationError):
        return _validation(error.errors())
    if isinstance(error, HTTPException):
        return _http(error, request)
    if isinstance(error, psycopg.Error):
        return _database(error)
    if isinstance(error, UnicodeEncodeError):
        return UnstorableValue()
    if _is_ray(error):
        return ActorAway(retry_after_s=2) if _is_away(error) else AidosError()
    return AidosError()


def _is_ray(error: BaseException) -> bool:
    # By name, so that a process without Ray (tests, tools) need not load it.
    return any(cls.__module__.startswith("ray.") for cls in type(error).__mro__)


def _is_away(error: BaseException) -> bool:
    away = {"RayActorError", "ActorUnavailableError", "GetTimeoutError", "DeploymentUnavailableError", "BackPressureError"}
    return any(cls.__name__ in away for cls in type(error).__mro__)


def _database(error: psycopg.Error) -> AidosError:
    for kind, declared in _DATABASE:
        if isinstance(error, kind):
            return declared(retry_after_s=1) if issubclass(declared, Unavailable) else declared()
    if isinstance(error, psycopg.OperationalError):
        return Unavailable(reason="The database cannot answer now.", retry_after_s=2)
    return AidosError()


def _validation(errors: Sequence[Mapping[str, Any]]) -> AidosError:
    broken = next((error for error in errors if error["type"] == "json_invalid"), None)
    if broken:
        return MalformedBody(most=NESTING_LIMIT, reason=str((broken.get("ctx") or {}).get("error", "not JSON")).lower())
    fields = [_field(error) for error in errors[:_MOST_ERRORS]]
    place, what = f"{fields[0]['in']} {fields[0]['pointer'].lstrip('#/')}".strip(), fields[0]["detail"]
    more = f", and {len(errors) - 1} more: 'errors' points at each" if len(errors) > 1 else ""
    return RequestInvalid(reason=f"{place}: {what}{more}", count=len(errors), errors=fields)


def _field(error: Mapping[str, Any]) -> dict[str, str]:
    """Where and what, without the value: what was sent may be a secret."""
    place, *path = error["loc"] or ("body",)
    pointer = "#/" + "/".join(str(part)[:200].replace("~", "~0").replace("/", "~1") for part in path)
    return {"in": str(place), "pointer": pointer if path else "#", "detail": str(error["msg"])[:500]}


def _http(error: HTTPException, request: Request) -> AidosError:
    method, path = request.method, request.scope.get("path", "")
    if error.status_code == 404:
        return RouteNotFound(method=method, path=path[:200])
    if error.status_code == 405:
        return MethodNotAllowed(method=method, allow=", ".join(_allowed(request)))
    if error.status_code == 400:
        return MalformedBody(most=NESTING_LIMIT, reason="it could not be read")
    kind = _KINDS.get(error.status_code, InvalidRequest if error.status_code < 500 else AidosError)
    return kind(reason=str(error.detail))


def _allowed(request: Request) -> list[str]:
    """The methods of the path; the router itself knows only those of the first route that has it."""
    routes: Iterable[Any] = request.app.routes
    partial = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return sorted({method for route in partial for method in getattr(route, "methods", None) or ()})
