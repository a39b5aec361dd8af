"""The edge of every route: permission, project, transaction, idempotency and audit, once, in the route class.

A route is declared with ``openapi_extra=needs("modelhub:write")``; without it registration fails. ``ApiRoute`` then
resolves the project, checks the permission, opens the transaction as that tenant, answers a repeated
``Idempotency-Key`` from its first answer, and writes the audit record of a change in the same transaction. Whatever a
handler raises leaves here as a problem, and nothing runs longer than ``AIDOS_REQUEST_TIMEOUT_S``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import psycopg
from fastapi import Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from actors.securityvault import policy
from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, Scope
from aidos.errors import PreconditionFailed, Unauthenticated
from api import openapi, problems
from api.errors import MalformedBody, TookTooLong
from api.idempotency import RememberedAnswer
from api.sink import PointSink
from cluster import telemetry
from cluster.db import Connection, Database
from cluster.events import ALL, Topics, Wakeup, changes
from cluster.objects import Objects
from data_pipelines.dataforge.tables.viewer import Viewer
from tune.trainos.tunnel import OpenTunnel, refuse_tunnel

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PUBLIC = "public"
_ATTEMPTS = 4
_READ_GAP_S = 0.05
T = TypeVar("T")

# A JSON string, to be skipped when brackets are counted. One without an end reaches to the end of the body: were it no match, each
# quote in it would be tried in turn, and the time would grow with the square of the body.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.S)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOT_QUOTES = bytes(set(_NOT_BRACKETS) - set(b'"'))


@dataclass(frozen=True)
class Tx:
    """What a handler gets: the open transaction, the caller, and the process's services."""

    conn: Connection
    scope: Scope
    objects: Objects


@dataclass(frozen=True)
class Edge:
    """What the gateway process holds, put on ``app.state.edge`` when the app is built."""

    db: Database
    objects: Objects
    wakeup: Wakeup
    vault: securityvault.Authenticator
    viewer: Viewer
    open_tunnel: OpenTunnel = refuse_tunnel

    @functools.cached_property
    def sink(self) -> PointSink:
        return PointSink(self.db)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Edge]:
        """Open what needs the network, for as long as the process serves."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.viewer.close)
            await stack.enter_async_context(self.db)
            await stack.enter_async_context(self.wakeup)
            await self.vault.start()
            await self.viewer.start()
            stack.push_async_callback(self.vault.stop)
            yield self


def needs(
    permission: str, *, transaction: bool = True, project: bool = True, audit: bool = True, streams: bool = False, limit: str | None = None
) -> dict[str, Any]:
    """Declare a route's permission (``<module>:<action>``, or ``public``).

    ``transaction=False``: the handler opens its own short ones with ``Session`` (long polls, streams). ``project=False``:
    the route is one of the organisation's. ``streams=True``: the body is a file, as long as it takes, and the handler's to read.
    ``limit``: the setting that says how often a minute a credential may do this, beside the limit of all its requests.
    """
    declared = {"x-permission": permission, "x-transaction": transaction, "x-project": project, "x-audit": audit, "x-streams": streams}
    return declared | ({"x-limit": limit} if limit else {})


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
        self.streams: bool = extra.get("x-streams", False)
        self.limit: str | None = extra.get("x-limit")
        declared = openapi.problem_responses(options.get("methods") or {"GET"}, public=self.permission == PUBLIC)
        if _streams(options.get("response_class")):
            declared[200] = openapi.STREAM
        options["responses"] = {**declared, **(options.get("responses") or {})}
        if options.get("operation_id") is None:
            options["operation_id"] = endpoint.__name__
        super().__init__(path, endpoint, **options)
        self._give_own()
        self._handle = self.get_route_handler()
        self.app = self._serve

    def _give_own(self) -> None:
        """Give the handler what is found in the request alone: FastAPI's resolver would spend as much on it as on all the rest."""
        dependant, endpoint = self.dependant, self.endpoint
        own = {str(asked.name): asked.call for asked in dependant.dependencies if asked.call and asked.call in _OWN}
        if not own:
            return
        dependant.dependencies = [asked for asked in dependant.dependencies if asked.call not in _OWN]
        wanted = dependant.request_param_name
        name = dependant.request_param_name = wanted or "request"

        async def call(**values: Any) -> Any:
            request = values[name] if wanted else values.pop(name)
            return await endpoint(**values, **{parameter: find(request) for parameter, find in own.items()})

        dependant.call = call

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Instead of FastAPI's ``request_response``: errors are answered in ``_answer``, and one stack closes what it opens."""
        request = Request(scope, receive, send)
        async with contextlib.AsyncExitStack() as stack:
            scope["fastapi_middleware_astack"] = scope["fastapi_inner_astack"] = scope["fastapi_function_astack"] = stack
            response = await self._answer(request)
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        limit_s = request.app.state.edge.db.settings.request_timeout_s
        try:
            async with asyncio.timeout(None if self.streams else limit_s) as limit:
                return await self._run(request)
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                error = TookTooLong(limit_s=limit_s, retry_after_s=5)
            return problems.answer(error, request)

    async def _run(self, request: Request) -> Response:
        edge: Edge = request.app.state.edge
        scope = await self._authorise(edge, request) if self.permission != PUBLIC else None
        if request.method in MUTATING and not self.streams:
            refuse_deep_nesting(await request.body())
        if scope is None:
            return await self._handle(request)
        request.scope["state"]["scope"] = scope
        with telemetry.bind(project_id=scope.project_id, actor=scope.actor):
            if self.in_transaction:
                return await self._in_transaction(edge, scope, request)
            return await self._in_its_own(Session(edge, scope, request))

    async def _authorise(self, edge: Edge, request: Request) -> Scope:
        principal: Principal | None = request.scope["state"]["principal"]
        if principal is None:
            raise Unauthenticated(reason="none was sent")
        if self.in_project:
            scope = request.scope["state"]["granted"] or await edge.vault.scope(principal, request.headers.get("x-aidos-project"))
        else:
            scope = Scope(principal, principal.org_id, None)
        policy.require(scope, self.permission)
        if self.limit is not None:
            await edge.vault.spend(principal, self.operation_id or "", getattr(edge.db.settings, self.limit))
        return scope

    async def _in_transaction(self, edge: Edge, scope: Scope, request: Request) -> Response:
        """Run the handler in its transaction, again when PostgreSQL chose it as the loser of a race: it then had no effect."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._attempt(edge, scope, request)
            except _Refused as refused:
                return refused.response
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, 0.02 * attempt))
        raise AssertionError("unreachable")

    async def _attempt(self, edge: Edge, scope: Scope, request: Request) -> Response:
        changing = request.method in MUTATING
        async with edge.db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            request.scope["state"]["tx"] = Tx(conn, scope, edge.objects)
            answer = _remembered(edge, scope, request) if changing else None
            if answer and (known := await answer.find(conn)):
                return known
            response = await self._handle(request)
            if response.status_code >= 400:
                raise _Refused(response)
            if answer:
                await answer.keep(conn, response)
            if changing and self.audited:
                await securityvault.write_audit(conn, scope, _audit_entry(request))
            return response

    async def _in_its_own(self, session: Session) -> Response:
        """Run a handler that opens its own transactions. What creates (201) is remembered under its key, in one before and one after it:
        after a crash between them the key can be used again as soon as the request must have ended. All else is the same when done twice.
        """
        request = session.request
        changing = request.method in MUTATING and self.audited
        answer = _remembered(session.edge, session.scope, request) if changing and self.status_code == 201 else None
        if answer:
            async with session.transaction() as conn:
                if known := await answer.find(conn):
                    return known
        done = False
        try:
            response = await self._handle(request)
            if changing and response.status_code < 400:
                await session.ensure_audited()
            done = response.status_code < 400
        finally:
            if answer:
                async with session.transaction() as conn:
                    await (answer.keep(conn, response) if done else answer.forget(conn))
        return response


def _remembered(edge: Edge, scope: Scope, request: Request) -> RememberedAnswer | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else RememberedAnswer(scope, key, request, edge.vault.pepper, edge.db.settings.request_timeout_s)


def _audit_entry(request: Request, **data: Any) -> securityvault.AuditEntry:
    route: ApiRoute = request.scope["route"]
    return securityvault.AuditEntry(
        action=str(route.operation_id),
        resource=request.scope["path"],
        client_ip=request.client.host if request.client else "",
        request_id=request.state.request_id,
        data={"status": route.status_code or 200, **data},
    )


def _streams(response_class: Any) -> bool:
    return isinstance(response_class, type) and issubclass(response_class, EventSourceResponse)


class _Refused(Exception):
    """Takes a refusal that the handler returned, not raised, out of the transaction, so that nothing of it is kept."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def refuse_deep_nesting(body: bytes) -> None:
    """Refuse JSON that nests deeper than its reader and PostgreSQL's can follow. Raises: MalformedBody."""
    if body.count(b"[") + body.count(b"{") <= problems.NESTING_LIMIT:
        return
    if b"\\" not in body:  # then strings without brackets are pairs of quotes, and what lies in another still does without them
        body = body.translate(None, _NOT_QUOTES).replace(b'""', b"")
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    for _ in range(problems.NESTING_LIMIT):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if inner == brackets:
            return
        brackets = inner
    if brackets:
        raise MalformedBody(most=problems.NESTING_LIMIT, reason="it is nested deeper")


def _tx(request: Request) -> Tx:
    return request.scope["state"]["tx"]


def _session(request: Request) -> Session:
    return Session(request.app.state.edge, request.state.scope, request)


def _edge(request: Request) -> Edge:
    return request.app.state.edge


_OWN: frozenset[Callable[..., Any]] = frozenset({_tx, _session, _edge})


@dataclass(frozen=True)
class Session:
    """For routes without a transaction of their own: short ones, one after the other."""

    edge: Edge
    scope: Scope
    request: Request

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.edge.db.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id) as conn:
            yield conn

    @contextlib.asynccontextmanager
    async def change(self) -> AsyncIterator[Connection]:
        """A transaction that changes something, with the audit record of it."""
        async with self.transaction() as conn:
            yield conn
            await self.audit(conn)

    async def audit(self, conn: Connection, **data: Any) -> None:
        """Put the request on the record in this transaction, with what else is to be known of it."""
        await securityvault.write_audit(conn, self.scope, _audit_entry(self.request, **data))
        self.request.state.audited = True

    async def ensure_audited(self) -> None:
        """Put a request on the record that changed nothing in the database itself, such as one for a presigned URL."""
        if not getattr(self.request.state, "audited", False):
            async with self.change():
                pass

    async def check_credential(self) -> None:
        """Look again at the caller's credential, for what outlives one answer. Raises: Unauthenticated once it is revoked or expired."""
        await self.edge.vault.authenticate(self.request.headers)

    async def wait_until(
        self, read: Callable[[Connection], Awaitable[T]], done: Callable[[T], bool], wait_s: float, topics: Topics = ALL
    ) -> T:
        """Read now and after each event of ``topics`` until ``done`` or ``wait_s`` has passed; the last state read.

        No connection is held between reads, a burst of events costs one read, and a caller who has left costs none.
        """
        async for _ in changes(self.edge.wakeup, wait_s, topics):
            async with self.transaction() as conn:
                found = await read(conn)
            if wait_s <= 0 or done(found) or await self.request.is_disconnected():
                break
            await asyncio.sleep(_READ_GAP_S)
        return found


class Page(BaseModel):
    """Keyset pagination: ``limit`` rows after ``cursor``."""

    limit: int = 50
    cursor: str | None = None


async def _page(
    limit: Annotated[int, Query(ge=1, le=500, description="Rows a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
) -> Page:
    return Page(limit=limit, cursor=cursor)


async def _wait(
    wait: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,2}s$", description="Answer when the state is final, or after e.g. `30s` (at most 60s).")
    ] = None,
) -> float:
    return min(60.0, float(wait[:-1])) if wait else 0.0


def check_etag(expected: str | None, actual: str) -> None:
    """Refuse a change of a resource that has another ETag than the caller saw (RFC 9110 §13.1.1). Raises: PreconditionFailed."""
    if expected is not None and "*" not in (tags := _tags(expected)) and actual.strip('"') not in tags:
        raise PreconditionFailed(expected=expected, actual=actual)


def is_current(known: str | None, actual: str) -> bool:
    """Whether the caller's ``If-None-Match`` has this ETag, so that 304 is enough."""
    return known is not None and bool({"*", actual.strip('"')} & _tags(known))


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}


TxDep = Annotated[Tx, Depends(_tx)]
SessionDep = Annotated[Session, Depends(_session)]
EdgeDep = Annotated[Edge, Depends(_edge)]
PageDep = Annotated[Page, Depends(_page)]
WaitS = Annotated[float, Depends(_wait)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=500, description="ETag that the resource must still have.")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=500, description="ETag that the caller has already.")]
