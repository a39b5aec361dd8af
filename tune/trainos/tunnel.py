"""The platform's end of a tunnel into a running job: messages (``aidos.schemas.tunnel``) to and from its entry point.

The gateway has the tunnel; the bytes go through an actor on the node of the job (``NodeTunnels``), which alone can reach its socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.securityvault.models import Scope
from aidos.errors import Forbidden
from tune.trainos.errors import JobNotFound, JobNotRunning, JobSandboxed, JobUnreachable
from tune.trainos.models import Job, JobState, Origin, Trust
from tune.trainos.tunnel_end import LENGTH, socket_path

PERMISSION = "trainos:write"
_ENTERABLE = frozenset({JobState.RUNNING, JobState.PREEMPTING})


class Tunnel(Protocol):
    """The end that the gateway holds."""

    async def send(self, message: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    async def close(self) -> None: ...


OpenTunnel = Callable[[Job, bytes], Awaitable[Tunnel]]
"""Reach the job's present attempt and say what is asked for. Raises: JobUnreachable."""


def check_may_enter(scope: Scope, job: Job) -> None:
    """That it runs, and that its token would let nobody do more than they may: who has a key of few scopes enters jobs of as few, and a
    job's own code no other job.

    Raises: JobNotRunning, JobSandboxed, JobNotFound, Forbidden.
    """
    if scope.principal.job_id not in (None, job.id):
        raise JobNotFound(name=job.name)
    if job.state not in _ENTERABLE or job.origin is not Origin.AIDOS:
        raise JobNotRunning(job=job.name, state=job.state if job.origin is Origin.AIDOS else "one of Ray itself")
    if job.spec.trust is Trust.UNTRUSTED:
        raise JobSandboxed(job=job.name)
    own, jobs = scope.principal.scopes, job.submitter.scopes
    if own is not None and (jobs is None or not set(jobs) <= own):
        raise Forbidden(permission="all that the job may", role="a key of fewer scopes")


class NodeTunnel:
    """A tunnel into a job of this node.

    Over the socket itself: a job's end that takes no more input has still an outcome to say, and asyncio's streams give nothing of what
    came once a write has failed.
    """

    def __init__(self, connection: socket.socket) -> None:
        """``connection`` is one that does not block."""
        self._connection = connection
        self._sending, self._receiving = asyncio.Lock(), asyncio.Lock()

    async def send(self, message: bytes) -> None:
        """Returns once it is on its way; what nobody is there to take is lost."""
        async with self._sending:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(self._connection, LENGTH.pack(len(message)) + message)

    async def receive(self) -> bytes:
        """The next message; nothing at the end."""
        async with self._receiving:
            head = await self._read(LENGTH.size)
            return await self._read(LENGTH.unpack(head)[0]) if head else b""

    async def _read(self, count: int) -> bytes:
        found = bytearray()
        with contextlib.suppress(OSError):
            while len(found) < count and (part := await asyncio.get_running_loop().sock_recv(self._connection, count - len(found))):
                found += part
        return bytes(found) if len(found) == count else b""

    async def close(self) -> None:
        """What it had begun in the job ends, also where it takes no more of what was sent."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        async with self._sending, self._receiving:
            self._connection.close()


async def open_node_tunnel(job: Job, asked: bytes) -> NodeTunnel:
    """Into a job whose command runs on this node. Raises: JobUnreachable."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(str(socket_path(job.id, job.attempt)))
    except OSError as error:
        connection.close()
        raise JobUnreachable(job=job.name, retry_after_s=2) from error
    tunnel = NodeTunnel(connection)
    await tunnel.send(asked)
    return tunnel


async def refuse_tunnel(job: Job, _asked: bytes) -> Tunnel:
    """For a gateway without a cluster. Raises: JobUnreachable."""
    raise JobUnreachable(job=job.name, retry_after_s=2)
