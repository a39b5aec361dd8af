"""One request to an ASGI application, answered as soon as its first bytes are there: also for streams that never end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp

Message = MutableMapping[str, Any]


@dataclass
class Answer:
    """What came before the caller hung up."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False


async def ask(
    app: ASGIApp,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    patience_s: float = 10.0,
    until: bytes | None = None,
    socket: bool = False,
) -> Answer:
    """Call the application, as a WebSocket's opening where it is to be a ``socket``; hang up when the answer is whole, a stream's first ``until`` bytes are there, or patience ends."""
    path, _, query = target.partition("?")
    raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"gateway.test"), (b"content-length", str(len(body)).encode()), *raw_headers],
        "client": ("192.0.2.1", 4711), "server": ("gateway.test", 80), "state": {},
    }  # fmt: skip
    prefix = "websocket.http" if socket else "http"
    if socket:
        scope |= {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    answer, enough, sent = Answer(), asyncio.Event(), False

    async def receive() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "websocket.connect"} if socket else {"type": "http.request", "body": body, "more_body": False}
        await enough.wait()
        return {"type": "websocket.disconnect", "code": 1006} if socket else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == f"{prefix}.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            if answer.headers.get("content-type", "").startswith("text/event-stream") and until is None:
                enough.set()
            return
        answer.body += message.get("body", b"")
        answer.whole = not message.get("more_body", False)
        if answer.whole or (until is not None and until in answer.body):
            enough.set()

    call = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]  # a coroutine, as ASGI says
    seen = asyncio.create_task(enough.wait())
    try:
        await asyncio.wait({call, seen}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        enough.set()
        await asyncio.wait({call}, timeout=5)
    finally:
        enough.set()
        call.cancel()
        seen.cancel()
        await asyncio.gather(call, seen, return_exceptions=True)
    return answer
