"""A small real HTTP server that behaves badly on demand: what the client's transports are tried against."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.waiting import wait_until

Answer = Response | Callable[[Request], Awaitable[Response]]


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Counterpart:
    """Gives the planned answers one after the other, then 200 with ``{"name": "digits"}``."""

    url: str = ""
    planned: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def plan(self, *answers: Answer) -> None:
        self.planned.extend(answers)

    async def answer(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw) if raw and request.headers.get("content-type") == "application/json" else raw
        self.seen.append(Seen(request.method, request.scope["path"], dict(request.query_params), dict(request.headers), body))
        planned = self.planned.pop(0) if self.planned else JSONResponse({"name": "digits"})
        return planned if isinstance(planned, Response) else await planned(request)


def problem(status: int, type: str = "urn:aidos:errors:unavailable", headers: dict[str, str] | None = None, **members: Any) -> Response:
    """A problem as the gateway sends it."""
    body = {"type": type, "title": "A problem", "status": status, "detail": "It did not work.", "instance": "req-1", **members}
    return Response(json.dumps(body), status, {"x-request-id": "req-1", **(headers or {})}, media_type="application/problem+json")


async def hang_up(request: Request) -> Response:
    """Take the request and close the connection without an answer."""

    async def nothing() -> AsyncIterator[bytes]:
        raise ConnectionResetError("hang up")
        yield b""

    return StreamingResponse(nothing(), headers={"content-length": "10"})


def events(*texts: str, broken: bool = False, until: threading.Event | None = None) -> Response:
    """A stream of server-sent events; ``broken``: cut off without its last chunk; ``until``: open so long."""

    async def body() -> AsyncIterator[bytes]:
        for text in texts:
            yield text.encode()
        if until:
            await asyncio.to_thread(until.wait, 30)
        if broken:
            raise ConnectionResetError("cut")

    return StreamingResponse(body(), media_type="text/event-stream")


@contextmanager
def serve(counterpart: Counterpart, port: int = 0) -> Iterator[Counterpart]:
    """Run it in a thread; ``port`` 0 takes a free one."""
    routes = [Route("/{path:path}", counterpart.answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])]
    config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    counterpart.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield counterpart
    finally:
        server.should_exit = True
        thread.join(10)
