"""Tunnels into running jobs: the one place where the bytes of user code pass the gateway, which does not look at them.

What a tunnel was opened for is on the record before it is opened. It ends with the job, and within ``_LOOK_S`` of the caller's credential
or permission.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket

from actors.securityvault import policy
from actors.securityvault import service as securityvault
from aidos.errors import InvalidPayload
from aidos.schemas.trainos import TunnelAsk
from aidos.schemas.tunnel import MESSAGE_BYTES, WINDOW
from api.deps import Session
from tune.trainos import service
from tune.trainos.errors import JobUnreachable
from tune.trainos.models import Job
from tune.trainos.tunnel import PERMISSION, Tunnel, check_may_enter

_LOOK_S = 15.0
_OPEN_S, _AGAIN_S = 15.0, 0.5
_RECORDED_CHARS = 2000


async def enter_job(socket: WebSocket, session: Session, job: str) -> None:
    """Run a command in a running job, or reach one of its ports. The first message says which; then come those of ``aidos.schemas.tunnel``."""
    async with session.transaction() as conn:
        found = await service.get_job(conn, session.scope, job)
    check_may_enter(session.scope, found)
    await socket.accept()
    asked = _read_ask(await socket.receive())
    await _record(session, socket, found, asked)
    tunnel = await _open(session, found, asked)
    try:
        await _relay(socket, session, tunnel)
    finally:
        await tunnel.close()
    await socket.close()


async def _open(session: Session, job: Job, asked: TunnelAsk) -> Tunnel:
    """The way in is there a moment after Ray calls the job running: it is waited for. Raises: JobUnreachable."""
    deadline = time.monotonic() + _OPEN_S
    while True:
        try:
            return await session.edge.open_tunnel(job, asked.model_dump_json().encode())
        except JobUnreachable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_AGAIN_S)


def _read_ask(message: Mapping[str, Any]) -> TunnelAsk:
    try:
        return TunnelAsk.model_validate_json(str(message.get("text") or "{}"))
    except ValidationError as error:
        raise InvalidPayload(reason=error.errors()[0]["msg"]) from error


async def _record(session: Session, socket: WebSocket, job: Job, asked: TunnelAsk) -> None:
    data = {"port": asked.port} if asked.port else {"command": shlex.join(asked.command)[:_RECORDED_CHARS]}
    client_ip = socket.client.host if socket.client else ""
    entry = securityvault.AuditEntry("enter_job", f"/v1/trainos/jobs/{job.id}", client_ip, socket.scope["state"]["request_id"], data)
    async with session.transaction() as conn:
        await securityvault.write_audit(conn, session.scope, entry)


async def _relay(socket: WebSocket, session: Session, tunnel: Tunnel) -> None:
    """Until one end has gone, or the caller may not any more."""
    ahead: asyncio.Queue[bytes] = asyncio.Queue(2 * WINDOW)
    steps = (_take_in(socket, ahead), _pass_in(ahead, tunnel), _pass_out(socket, tunnel), _watch(session))
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _take_in(socket: WebSocket, ahead: asyncio.Queue[bytes]) -> None:
    """Also while the job takes its time: else nobody would see the caller leave. Who keeps to ``WINDOW`` never fills the queue."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        content = message.get("bytes") or b""
        if not 0 < len(content) <= MESSAGE_BYTES:
            raise InvalidPayload(reason=f"A message is binary and has 1 to {MESSAGE_BYTES} bytes.")
        if ahead.full():
            raise InvalidPayload(reason=f"More than {WINDOW} messages went ahead of what the job has taken.")
        ahead.put_nowait(content)


async def _pass_in(ahead: asyncio.Queue[bytes], tunnel: Tunnel) -> None:
    while True:
        await tunnel.send(await ahead.get())


async def _pass_out(socket: WebSocket, tunnel: Tunnel) -> None:
    while message := await tunnel.receive():
        await socket.send_bytes(message)


async def _watch(session: Session) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        await session.check_credential()
        policy.require(await session.edge.vault.scope(session.scope.principal, str(session.scope.project)), PERMISSION)
