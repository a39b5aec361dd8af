"""The one middleware in front of every Serve application, the gateway's and each endpoint's.

Pure ASGI: a request id, a body limit, the caller, its limits, hardened answers, one log line and one span. It reads
credentials from ``Authorization: Bearer`` and ``X-API-Key`` (below paths that it is told, from Basic ones too) and from nowhere
else, and it is closed: what is not said to be public needs a caller.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from uuid import UUID

import uuid_utils

from actors.securityvault import policy
from actors.securityvault.authenticator import Admission, Authenticator
from actors.securityvault.errors import CredentialMissing, HostUnknown
from aidos.errors import AidosError, PayloadTooLarge
from aidos.http.problems import to_problem
from cluster import metrics, telemetry
from cluster.db import Database
from cluster.settings import Settings, get_settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = telemetry.get_logger("http")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_HARDENED: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_WANTED = frozenset(
    {b"authorization", b"x-api-key", b"x-request-id", b"content-length", b"traceparent", b"x-aidos-project", b"host"}
)  # fmt: skip


class VaultMiddleware:
    """Wraps an ASGI application.

    In front of the gateway it uses the gateway's authenticator, ``vault``, and takes the routes that declare the permission
    ``public`` as public. Elsewhere it opens a database and an authenticator of its own, with the lifespan or the first
    request, and ``permission`` in ``project_id`` is what every request needs. ``public`` adds
    exact paths that need no caller; below ``basic`` an API key may also come as the password of Basic credentials, for clients that
    have no other way; bodies of PUT below ``uploads`` are files, with a limit of their own; ``hosts``, if any, are the only names
    that the Host header may have. Ray Serve names each request itself and says so in the answer: there, ``echo_request_id`` is False.
    """

    def __init__(
        self,
        app: Asgi,
        vault: Authenticator | None = None,
        *,
        permission: str | None = None,
        project_id: UUID | None = None,
        public: Iterable[str] = (),
        basic: tuple[str, ...] = (),
        uploads: tuple[str, ...] = (),
        hosts: Iterable[str] = (),
        body_limit_bytes: int | None = None,
        settings: Settings | None = None,
        echo_request_id: bool = True,
    ) -> None:
        self.app, self._vault = app, vault
        self._permission, self._project = permission, str(project_id) if project_id else None
        self._basic, self._uploads = basic, uploads
        self._public, self._hosts = frozenset(public), frozenset(host.lower().encode() for host in hosts)
        self._body_limit_bytes, self._settings, self._echo_request_id = body_limit_bytes, settings, echo_request_id
        self._own: Database | None = None
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            vault = self._vault or await self._open_vault()
            await _Exchange(self, vault, scope, receive, send).run()
        else:
            await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_opened() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._open_vault()
            return message

        try:
            await self.app(scope, receive_opened, send)
        finally:
            await self._close()

    async def _open_vault(self) -> Authenticator:
        """The authenticator that was given, else one of this middleware's own."""
        async with self._opening:
            if self._vault is None:
                settings = self._settings or get_settings()
                self._own = Database(settings)
                await self._own.open()
                vault = Authenticator(self._own, settings)
                await vault.start()
                self._vault = vault
            return self._vault

    async def _close(self) -> None:
        if self._own is not None and self._vault is not None:
            await self._vault.stop()
            await self._own.__aexit__()
            self._own = self._vault = None

    def is_public(self, scope: Scope, vault: Authenticator) -> bool:
        """Whether the request needs no caller."""
        if scope["path"] in self._public:
            return True
        app = scope.get("app")
        if self._permission is not None or app is None:
            return False
        return any(
            getattr(route, "permission", None) == "public"
            and scope.get("method") in route.methods
            and route.path_regex.match(scope["path"])
            for route in app.router.routes
        )


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_body_bytes", "_limit_bytes", "edge", "headers", "receive", "request_id", "scope", "send", "status", "too_large", "vault")

    def __init__(self, edge: VaultMiddleware, vault: Authenticator, scope: Scope, receive: Receive, send: Send) -> None:
        self.edge, self.vault, self.scope, self.receive, self.send = edge, vault, scope, receive, send
        self.headers: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _WANTED}
        given = self.headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else str(uuid_utils.uuid7())
        self.status, self.too_large, self._body_bytes = 0, False, 0
        self._limit_bytes = edge._body_limit_bytes or vault.settings.request_body_limit_bytes
        if scope.get("method") == "PUT" and scope["path"].startswith(edge._uploads):
            self._limit_bytes = vault.settings.upload_limit_bytes

    async def run(self) -> None:
        scope, started = self.scope, time.perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"], state["principal"] = self.request_id, None
        traceparent = self.headers.get(b"traceparent", b"").decode("latin-1") or None
        with telemetry.bind(request_id=self.request_id), telemetry.span("HTTP", traceparent, telemetry.SERVER) as span:
            try:
                await self._admit(state)
                await self.edge.app(scope, self._receive, self._send)
            except Exception as error:
                await self._refuse(error)
            finally:
                self._tell(span, time.perf_counter() - started)

    def _tell(self, span: telemetry.span, seconds: float) -> None:
        """The request's span, numbers and log line."""
        scope, state = self.scope, self.scope["state"]
        method, path, route = scope.get("method", "WEBSOCKET"), scope["path"], _route_of(scope)
        caller, tenant = state["principal"], state.get("scope")
        project_id = str(tenant.project_id) if tenant is not None and tenant.project_id else None
        if span.recording:
            span.name(f"{method} {route}", failed=self.status >= 500)
            span.set(http__request__method=method, http__route=route, http__response__status_code=self.status, url__path=path)
            span.set(aidos__request_id=self.request_id, aidos__project_id=project_id)
        actor = caller.actor if caller else None
        telemetry.later(_note, method, path, route, self.status, seconds, project_id, actor)

    async def _admit(self, state: dict[str, Any]) -> None:
        """Raises what the request is refused for."""
        if self.edge._hosts and self.headers.get(b"host", b"").rsplit(b":", 1)[0].lower() not in self.edge._hosts:
            raise HostUnknown(host=self.headers.get(b"host", b"").decode("latin-1")[:100])
        length = self.headers.get(b"content-length")
        if length is not None and length.isdigit() and (len(length) > 18 or int(length) > self._limit_bytes):
            raise PayloadTooLarge(limit_bytes=self._limit_bytes)
        vault, edge = self.vault, self.edge
        project = edge._project or self.headers.get(b"x-aidos-project", b"").decode("latin-1") or None
        admission = await self._authenticate(project)
        if admission is None:
            return
        state["principal"], state["granted"] = principal, scope = admission.principal, admission.scope
        if not vault.limiter.take_local(admission.limits):
            await vault.limiter.take(admission.limits)
        if edge._permission is not None:
            state["scope"] = scope = scope or await vault.scope(principal, project)
            policy.require(scope, edge._permission)

    async def _authenticate(self, project: str | None) -> Admission | None:
        """The caller in the project it names; None where none is needed."""
        authorization = self.headers.get(b"authorization", b"")
        if authorization[:7].lower() == b"bearer ":
            credential = authorization[7:].strip().decode("latin-1")
        elif authorization[:6].lower() == b"basic " and self.scope["path"].startswith(self.edge._basic):
            credential = _password(authorization[6:])
        elif authorization:
            credential = ""
        else:
            credential = self.headers.get(b"x-api-key", b"").decode("latin-1")
        try:
            if not credential:
                raise CredentialMissing
            return await self.vault.admit(credential, project)
        except AidosError:
            # Asked only now: a public route is the rare case, and a stale credential must not close it.
            if self.edge.is_public(self.scope, self.vault):
                return None
            raise

    async def _receive(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.request":
            self._body_bytes += len(message.get("body", b""))
            if self._body_bytes > self._limit_bytes:
                self.too_large = True
                raise PayloadTooLarge(limit_bytes=self._limit_bytes)
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.too_large:
                # The framework may have taken the cut for a broken body; what it says of that is not the truth.
                await self._refuse(PayloadTooLarge(limit_bytes=self._limit_bytes))
                return
            self.status = message["status"]
            headers = message["headers"] = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [pair for pair in _HARDENED if pair[0] not in present]
            headers += self._echo()
        elif message["type"] == "websocket.accept":
            self.status = 101
        elif self.too_large and message["type"] == "http.response.body" and self.status == 413:
            return
        await self.send(message)

    def _echo(self) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", self.request_id.encode())] if self.edge._echo_request_id else []

    async def _refuse(self, error: Exception) -> None:
        """Answer with a problem, unless an answer has begun: then the connection is the server's to cut."""
        if self.status:
            if not self.too_large:
                raise error
            return
        status, headers, body = to_problem(PayloadTooLarge(limit_bytes=self._limit_bytes) if self.too_large else error, self.request_id)
        if not isinstance(error, AidosError):
            _log.exception("request failed", path=self.scope["path"])
        self.status = status
        headers += [pair for pair in _HARDENED if pair[0] != b"cache-control"]
        headers += self._echo()
        if self.scope["type"] == "websocket" and "websocket.http.response" not in self.scope.get("extensions", {}):
            await self.receive()
            await self.send({"type": "websocket.close", "code": 1008, "reason": body[:100].decode("utf-8", "ignore")})
            return
        kind = "websocket.http.response" if self.scope["type"] == "websocket" else "http.response"
        await self.send({"type": f"{kind}.start", "status": status, "headers": headers})
        await self.send({"type": f"{kind}.body", "body": body if self.scope.get("method") != "HEAD" else b""})


def _note(
    moment: telemetry.Moment, method: str, path: str, route: str, status: int, seconds: float, project_id: str | None, actor: str | None
) -> None:
    metrics.count_request(route, method, status, seconds)
    duration_ms = round(seconds * 1000, 2)
    _log.info("request", moment=moment, method=method, path=path, route=route, status=status, duration_ms=duration_ms,
              project_id=project_id, actor=actor)  # fmt: skip


def _password(credentials: bytes) -> str:
    """Of ``user:password`` in Base64 (RFC 7617); empty when it is not."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _route_of(scope: Scope) -> str:
    """The template of the route that was found, so that its name is one of few; else the endpoint's name, or ``none``."""
    found = getattr(scope.get("route"), "path", None) or getattr(scope.get("endpoint"), "__name__", None)
    return str(found or "none")
