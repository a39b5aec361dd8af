"""The edge of a WebSocket: permission and project, as ``ApiRoute`` has them for a request. What is refused before it is accepted is a problem."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketState

from actors.securityvault import policy
from actors.securityvault.models import Principal
from aidos.errors import AidosError, Unauthenticated
from api import problems
from api.deps import Edge, Session
from cluster.telemetry import get_logger

Handle = Callable[..., Awaitable[None]]
_REFUSED, _FAILED = 1008, 1011
_REASON_BYTES = 120  # a close frame has 125 (RFC 6455, 5.5)
_log = get_logger("api")


def add_socket(router: APIRouter, path: str, permission: str, handle: Handle) -> None:
    """Let ``handle(socket, session, **path_parameters)`` serve the WebSockets at ``path`` of who has the permission."""
    router.routes.append(WebSocketRoute(router.prefix + path, SocketApp(permission, handle), name=handle.__name__))


class SocketApp:
    """A handler of WebSockets as an ASGI application: FastAPI's routers keep it as it is."""

    def __init__(self, permission: str, handle: Handle) -> None:
        self.permission, self._handle = permission, handle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        try:
            session = await self._authorise(scope["app"].state.edge, socket)
            await self._handle(socket, session, **scope["path_params"])
        except Exception as error:
            await _refuse(socket, error)

    async def _authorise(self, edge: Edge, socket: WebSocket) -> Session:
        state = socket.scope["state"]
        principal: Principal | None = state["principal"]
        if principal is None:
            raise Unauthenticated(reason="none was sent")
        scope = state["scope"] = state["granted"] or await edge.vault.scope(principal, socket.headers.get("x-aidos-project"))
        policy.require(scope, self.permission)
        # What a session needs of a request, a WebSocket has too.
        return Session(edge, scope, cast(Request, socket))


async def _refuse(socket: WebSocket, error: Exception) -> None:
    request = cast(Request, socket)
    if socket.application_state is WebSocketState.CONNECTING and "websocket.http.response" in socket.scope.get("extensions", {}):
        await problems.answer(error, request)(socket.scope, socket.receive, socket.send)
        return
    declared = problems.to_declared(error, request)
    if type(declared) is AidosError:
        _log.error("socket failed", exc_info=error, path=socket.scope["path"])
    code = _FAILED if declared.status >= 500 else _REFUSED
    with contextlib.suppress(RuntimeError):  # the other end was quicker
        await socket.close(code, str(declared).encode()[:_REASON_BYTES].decode(errors="ignore"))
