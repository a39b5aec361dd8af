"""The least that a server of MLflow's protocol can do: it writes the body of each request to a file, waits for the disk, and answers.

It keeps nothing that could be asked for. What MLflow's client reaches against it no server exceeds that answers for durable points:
the rest is the client's own work and the disk's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.I)
_RUN = {"run_id": "0" * 32, "run_uuid": "0" * 32, "run_name": "run", "experiment_id": "1", "status": "RUNNING", "lifecycle_stage": "active"}
_ANSWERS = {b"/experiments/create": {"experiment_id": "1"}, b"/runs/create": {"run": {"info": _RUN, "data": {}}}}


def serve(port: int, journal: Path) -> None:
    """Run for ever. ``journal``: the file on the disk whose speed counts."""
    asyncio.run(_serve(port, os.open(journal, os.O_RDWR | os.O_CREAT)))


async def _serve(port: int, journal: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(journal), "127.0.0.1", port)
    await server.serve_forever()


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, journal: int) -> None:
        self._journal, self._buffer = journal, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, max(head_end, 0) + 2)
        body_end = head_end + 4 + (int(length[1]) if length else 0)
        if head_end < 0 or len(self._buffer) < body_end:
            return
        # At one place, as a server's log is a file that has its size already.
        os.pwrite(self._journal, self._buffer[head_end:body_end], 0)
        os.fdatasync(self._journal)
        path = self._buffer.split(b" ", 2)[1]
        answer = next((found for end, found in _ANSWERS.items() if path.endswith(end)), {})
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._buffer = b""
        self._transport.write(head.encode() + body)  # type: ignore[attr-defined]  # asyncio types it by its base class
