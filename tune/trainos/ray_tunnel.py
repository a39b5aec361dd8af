"""Tunnels into jobs on any node of the Ray cluster: an actor on the node passes the messages on, for the gateway that asked for it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.settings import Settings
from tune.trainos.errors import JobUnreachable
from tune.trainos.models import Job
from tune.trainos.ray_cluster import RayCluster
from tune.trainos.tunnel import NodeTunnel, OpenTunnel, Tunnel, open_node_tunnel


class NodeTunnels:
    """The tunnels into the jobs of the node that it was put on, by a name that the gateway gave them."""

    def __init__(self) -> None:
        self._open: dict[UUID, NodeTunnel] = {}

    async def open(self, name: UUID, job: Job, asked: bytes) -> None:
        """Raises: JobUnreachable."""
        self._open[name] = await open_node_tunnel(job, asked)

    async def send(self, name: UUID, message: bytes) -> None:
        await self._open[name].send(message)

    async def receive(self, name: UUID) -> bytes:
        return await self._open[name].receive()

    async def close(self, name: UUID) -> None:
        await self._open.pop(name).close()


def get_or_create_node_tunnels(node_id: str) -> Any:
    """Those of this process on that node; they end with this process, and with them what they began."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    name = f"trainos-tunnels-{node_id}-{ray.get_runtime_context().get_worker_id()}"
    return ray.remote(NodeTunnels).options(name=name, get_if_exists=True, num_cpus=0, scheduling_strategy=strategy).remote()


class RayTunnel:
    """A tunnel through the actor of the job's node."""

    def __init__(self, actor: Any, name: UUID) -> None:
        self._actor, self._name = actor, name

    async def send(self, message: bytes) -> None:
        await self._actor.send.remote(self._name, message)

    async def receive(self) -> bytes:
        """The next message; nothing at the end, which is also the node's."""
        try:
            return await self._actor.receive.remote(self._name)
        except RayActorError:
            return b""

    async def close(self) -> None:
        self._actor.close.remote(self._name)


def build_open_tunnel(settings: Settings) -> OpenTunnel:
    """For a gateway's process that is connected to Ray."""
    cluster = RayCluster(settings)
    held: dict[str, Any] = {}  # an actor ends with the handle that it was made with: of two made at once, one is not held
    making = asyncio.Lock()

    async def open_tunnel(job: Job, asked: bytes) -> Tunnel:
        found = await cluster.find(job.submission_id or "")
        if found is None or found.node_id is None:
            raise JobUnreachable(job=job.name, retry_after_s=2)
        async with making:
            if found.node_id not in held:
                held[found.node_id] = await asyncio.to_thread(get_or_create_node_tunnels, found.node_id)
        actor, name = held[found.node_id], uuid4()
        try:
            await actor.open.remote(name, job, asked)
        except RayActorError as error:
            held.pop(found.node_id, None)
            raise JobUnreachable(job=job.name, retry_after_s=2) from error
        return RayTunnel(actor, name)

    return open_tunnel
