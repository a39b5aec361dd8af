"""The edge of every route: permission, project, transaction, idempotency and audit, once, in the route class.

A route is declared with ``openapi_extra=needs("modelhub:write")``; without it registration fails. ``ApiRoute`` then
resolves the project, checks the permission, opens the transaction as that tenant, answers a repeated
``Idempotency-Key`` from its first answer, and writes the audit record of a change in the same transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from actors.securityvault import policy
from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, Scope
from aidos.errors import Conflict, InvalidRequest, PreconditionFailed
from aidos.schemas.common import Problem
from cluster import telemetry
from cluster.db import Connection, Database, load_queries
from cluster.events import Wakeup, changes
from cluster.objects import Objects

Q = load_queries("cluster")
MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PUBLIC = "public"
T = TypeVar("T")

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "The request cannot be understood",
        401: "Not signed in",
        403: "Not allowed",
        404: "Not there, or in a project that you cannot see",
        409: "The state of the resource forbids it",
        412: "Changed meanwhile",
        413: "Body too large",
        422: "The payload is wrong",
        429: "Too many requests",
        503: "Not available now",
    }.items()
}


class IdempotencyKeyReused(Conflict):
    title = "Idempotency key was used for another request"
    detail = "The Idempotency-Key '{key}' was used with another body or route. Use a new key for a new request."


class RequestInProgress(Conflict):
    title = "The same request is in progress"
    detail = "A request with Idempotency-Key '{key}' is still running. Repeat it in a second."


@dataclass(frozen=True)
class Tx:
    """What a handler gets: the open transaction, the caller, and the process's services."""

    conn: Connection
    scope: Scope
    objects: Objects


@dataclass(frozen=True)
class Edge:
    """What the gateway process holds, put on ``app.state.edge`` at start-up."""

    db: Database
    objects: Objects
    wakeup: Wakeup
    vault: securityvault.Authenticator


def needs(permission: str, *, transaction: bool = True, project: bool = True, audit: bool = True) -> dict[str, Any]:
    """Declare a route's permission (``<module>:<action>``, or ``public``).

    ``transaction=False``: the handler opens its own short ones with ``Session`` (long polls, streams). ``project=False``:
    the route is one of the organisation's.
    """
    return {"x-permission": permission, "x-transaction": transaction, "x-project": project, "x-audit": audit}


class ApiRoute(APIRoute):
    """A route that cannot be registered without a permission, and runs in a transaction of its tenant."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        if "x-permission" not in extra:
            raise ValueError(f"{path} declares no permission: openapi_extra=needs('<module>:<action>')")
        self.permission: str = extra["x-permission"]
        self.in_transaction: bool = extra.get("x-transaction", True)
        self.in_project: bool = extra.get("x-project", True)
        self.audited: bool = extra.get("x-audit", True)
        options["responses"] = {**_PROBLEMS, **(options.get("responses") or {})}
        options.setdefault("operation_id", endpoint.__name__)
        if options["operation_id"] is None:
            options["operation_id"] = endpoint.__name__
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def run(request: Request) -> Response:
            if self.permission == PUBLIC:
                return await handle(request)
            edge: Edge = request.app.state.edge
            scope = await self._authorise(edge, request)
            request.state.scope = scope
            with telemetry.bind(project_id=scope.project_id, actor=scope.actor):
                if not self.in_transaction:
                    return await handle(request)
                return await self._in_transaction(edge, scope, request, handle)

        return run

    async def _authorise(self, edge: Edge, request: Request) -> Scope:
        principal: Principal = request.state.principal
        wanted = request.headers.get("x-aidos-project")
        scope = await edge.vault.scope(principal, wanted) if self.in_project else Scope(principal, principal.org_id, None)
        policy.require(scope, self.permission)
        return scope

    async def _in_transaction(self, edge: Edge, scope: Scope, request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        changing = request.method in MUTATING
        key = request.headers.get("idempotency-key") if changing else None
        async with edge.db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            request.state.tx = Tx(conn, scope, edge.objects)
            answer = Remembered(scope, key, request) if key else None
            if answer and (known := await answer.find(conn)):
                return known
            response = await handle(request)
            if answer:
                await answer.keep(conn, response)
            if changing and self.audited:
                await securityvault.write_audit(conn, scope, self._audit_record(request, response))
            return response

    def _audit_record(self, request: Request, response: Response) -> securityvault.AuditEntry:
        return securityvault.AuditEntry(
            action=str(self.operation_id),
            resource=request.scope["path"],
            client_ip=request.client.host if request.client else "",
            request_id=request.state.request_id,
            data={"status": response.status_code},
        )


class Remembered:
    """The answer to an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), kept with its effect."""

    def __init__(self, scope: Scope, key: str, request: Request) -> None:
        if not 1 <= len(key) <= 200:
            raise InvalidRequest(reason="The Idempotency-Key must have 1 to 200 characters.")
        self.key, self.request = key, request
        self.row: dict[str, Any] = {"org_id": scope.org_id, "principal": scope.actor, "key": key}

    async def find(self, conn: Connection) -> Response | None:
        """The first answer, or None with the key now reserved. Raises: IdempotencyKeyReused, RequestInProgress."""
        body = await self.request.body()
        target = f"{self.request.method} {self.request.scope['path']} {self.request.headers.get('x-aidos-project', '')}\n".encode()
        self.row["request_sha256"] = hashlib.sha256(target + body).digest()
        if await (await conn.execute(Q.reserve_answer, self.row)).fetchone():
            return None
        known = await (await conn.execute(Q.find_answer, self.row)).fetchone()
        if known is None or known["status"] == 0:
            raise RequestInProgress(key=self.key)
        if bytes(known["request_sha256"]) != self.row["request_sha256"]:
            raise IdempotencyKeyReused(key=self.key)
        body = bytes(known["body"]) if known["body"] is not None else b""
        return Response(body, status_code=known["status"], headers={**known["headers"], "idempotency-replayed": "true"})

    async def keep(self, conn: Connection, response: Response) -> None:
        headers = {name: response.headers[name] for name in ("content-type", "location", "etag") if name in response.headers}
        await conn.execute(
            Q.keep_answer, {**self.row, "status": response.status_code, "headers": Jsonb(headers), "body": bytes(response.body)}
        )


async def _tx(request: Request) -> Tx:
    return request.state.tx


async def _session(request: Request) -> Session:
    return Session(request.app.state.edge, request.state.scope)


@dataclass(frozen=True)
class Session:
    """For routes without a transaction of their own: short ones, one after the other."""

    edge: Edge
    scope: Scope

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.edge.db.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id) as conn:
            yield conn

    async def wait_until(self, read: Callable[[Connection], Awaitable[T]], done: Callable[[T], bool], wait_s: float) -> T:
        """Read now and after each change until ``done`` or ``wait_s`` has passed; the last state read."""
        async for _ in changes(self.edge.wakeup, wait_s):
            async with self.transaction() as conn:
                found = await read(conn)
            if done(found):
                break
        return found


class Page(BaseModel):
    """Keyset pagination: ``limit`` rows after ``cursor``."""

    limit: int = 50
    cursor: str | None = None


def _page(
    limit: Annotated[int, Query(ge=1, le=500, description="Rows a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
) -> Page:
    return Page(limit=limit, cursor=cursor)


def _wait(
    wait: Annotated[str | None, Query(pattern=r"^\d{1,2}s$", description="Answer when the state is final, or after e.g. `30s` (at most 60s).")] = None,
) -> float:
    return min(60.0, float(wait[:-1])) if wait else 0.0


def check_etag(expected: str | None, actual: str) -> None:
    """Refuse a change of a resource that has another ETag than the caller saw. Raises: PreconditionFailed."""
    if expected and expected != "*" and expected.strip('"') != actual.strip('"'):
        raise PreconditionFailed(expected=expected, actual=actual)


TxDep = Annotated[Tx, Depends(_tx)]
SessionDep = Annotated[Session, Depends(_session)]
PageDep = Annotated[Page, Depends(_page)]
WaitS = Annotated[float, Depends(_wait)]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="ETag that the resource must still have.")]
