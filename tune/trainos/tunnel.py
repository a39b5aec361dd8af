"""The platform's end of a tunnel into a running job: messages (``aidos.schemas.tunnel``) to and from its entry point.

The gateway has the tunnel; the bytes go through an actor on the node of the job (``NodeTunnels``), which alone can reach its socket.
"""

from __future__ import annotations

import asyncio
import contextlib
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
    """A tunnel into a job of this node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, message: bytes) -> None:
        """Returns once it is on its way; what nobody is there to take is lost."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(LENGTH.pack(len(message)) + message)
            await self._writer.drain()

    async def receive(self) -> bytes:
        """The next message; nothing at the end."""
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def close(self) -> None:
        """What it had begun in the job ends, also where it takes no more of what was sent."""
        self._writer.transport.abort()


async def open_node_tunnel(job: Job, asked: bytes) -> NodeTunnel:
    """Into a job whose command runs on this node. Raises: JobUnreachable."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket_path(job.id, job.attempt))
    except OSError as error:
        raise JobUnreachable(job=job.name, retry_after_s=2) from error
    tunnel = NodeTunnel(reader, writer)
    await tunnel.send(asked)
    return tunnel


async def refuse_tunnel(job: Job, _asked: bytes) -> Tunnel:
    """For a gateway without a cluster. Raises: JobUnreachable."""
    raise JobUnreachable(job=job.name, retry_after_s=2)
