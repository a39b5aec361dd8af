"""The gateway behind a real HTTP server on a real socket, in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import APIRouter

from api.app import build_app, build_edge
from cluster.settings import Settings
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Server:
    """Where it listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def send(self, request: bytes, patience_s: float = 30.0) -> bytes:
        """What a socket gets back for these bytes, until the server closes it or has answered one request whole."""
        with socket.create_connection((self.host, self.port), timeout=patience_s) as connection:
            connection.sendall(request)
            answer = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while part := connection.recv(65_536):
                    answer += part
        return answer


@contextlib.contextmanager
def serve(settings: Settings, *more: APIRouter) -> Iterator[Server]:
    """The whole application, and more routes, opened and closed by its own lifespan."""
    app = build_app(build_edge(settings), open_edge=True)
    for router in more:
        app.include_router(router)
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2, server_header=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, within_s=30)
        yield Server(host, port)
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()
