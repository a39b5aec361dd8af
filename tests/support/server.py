"""The whole API over real HTTP, PostgreSQL and S3, without Ray."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import uvicorn

from api.app import build_app, build_edge
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until
from tune.trainos.tunnel import OpenTunnel, refuse_tunnel


@contextlib.contextmanager
def serve(settings: Settings, port: int | None = None, open_tunnel: OpenTunnel = refuse_tunnel) -> Iterator[str]:
    """Run the API in a thread of its own; its address."""
    port = port or find_free_ports(1)
    app = build_app(build_edge(settings, open_tunnel), open_edge=True)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, within_s=20)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
