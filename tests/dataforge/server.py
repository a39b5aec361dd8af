"""DataForge's API over real HTTP, PostgreSQL and S3; only the sign-in is left out: every caller is the given scope."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from actors.securityvault.models import Principal, Scope
from api import problems
from api.deps import Edge
from api.routers.dataforge import router
from cluster.db import Database
from cluster.events import Wakeup
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until


class OpenDoor:
    """Stands for SecurityVault: whoever calls acts in one scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def scope(self, _principal: Principal, _wanted: str | None) -> Scope:
        return self._scope


class SignedIn:
    """Middleware that puts the caller where SecurityVault's puts it."""

    def __init__(self, app: ASGIApp, principal: Principal) -> None:
        self._app, self._principal = app, principal

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {}).update(principal=self._principal, request_id=str(uuid4()))
        await self._app(scope, receive, send)


@contextlib.contextmanager
def serve(settings: Settings, scope: Scope) -> Iterator[str]:
    """Run the API in a thread of its own; its address."""
    db = Database(settings)
    vault: Any = OpenDoor(scope)
    edge = Edge(db, Objects(settings), Wakeup(db), vault)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with edge.running():
            yield

    app = FastAPI(lifespan=lifespan)
    app.state.edge = edge
    problems.install(app)
    app.include_router(router)
    app.add_middleware(SignedIn, principal=scope.principal)
    port = find_free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, within_s=20)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
