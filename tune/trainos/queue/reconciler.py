"""The one loop that looks at the queue: a lease makes it one, a transaction makes each look whole."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Protocol

from cluster import leases, telemetry
from cluster.db import Database
from cluster.events import Wakeup
from cluster.host import Host
from tune.trainos.models import Resources
from tune.trainos.queue import service
from tune.trainos.queue.capacity import find_addable, note_capacity
from tune.trainos.queue.forecasts import keep_forecasts, read_outlook
from tune.trainos.queue.models import Decision, Node
from tune.trainos.queue.prediction import predict
from tune.trainos.queue.trace import read_nodes
from tune.trainos.ray_cluster import RayCluster

LEASE, FORECASTS_LEASE = "trainos.queue", "trainos.forecasts"
_LEASE_S = 15.0
_POLL_S = 1.0
_EXPLAIN_S = 2.0
_NOTE_S = 10.0
_FORESEE_S = 10.0

log = telemetry.get_logger(__name__)


class Nodes(Protocol):
    """Where the nodes are counted, and asked for."""

    async def nodes(self) -> list[Node]: ...
    async def request_nodes(self, bundles: Sequence[Resources]) -> None: ...


class Admission:
    """Looks at the queue whenever something happened, and once a second.

    ``most`` are the nodes that an autoscaler may bring the cluster to; where there are none, nobody is asked for nodes.
    """

    def __init__(self, db: Database, ray: Nodes, holder: str, most: Sequence[Node] = ()) -> None:
        self._db, self._ray, self._holder, self._most = db, ray, holder, most
        self._requested: tuple[Resources, ...] | None = None  # not known after a restart: then it is said anew
        self._explained_s = self._noted_s = -math.inf

    async def look(self) -> Decision:
        """One look, fenced by the lease; nothing where another has it. What the cluster has is kept, also while nothing waits."""
        note = time.monotonic() > self._noted_s + _NOTE_S
        async with self._db.platform() as conn:
            if not note and not self._requested and not await service.has_waiting(conn):
                return Decision()
        nodes = await self._ray.nodes()
        addable = find_addable(self._most, nodes)
        explain = time.monotonic() > self._explained_s + _EXPLAIN_S
        async with self._db.platform() as conn:
            lease = await leases.acquire(conn, LEASE, self._holder, ttl_s=_LEASE_S)
            if lease is not None and note:
                await note_capacity(conn, [*nodes, *addable])
            decision = await service.look(conn, nodes, addable, explain) if lease is not None else Decision()
        if self._most and lease is not None:
            await self._request(nodes, decision.wanted)
        if note:
            self._noted_s = time.monotonic()
        if explain:
            self._explained_s = time.monotonic()
        for item in decision.preempted:
            log.info("trainos.preempted", job_id=str(item.id), by=str(item.by), loss=item.loss)
        return decision

    async def _request(self, nodes: Sequence[Node], wanted: Sequence[Resources]) -> None:
        """Ask for what is wanted, until it is not any more. Ray's autoscaler would find it place on the nodes that there are, as if nothing
        ran on them: so these are asked for, too."""
        bundles = (*(node.total for node in nodes if not node.leaving), *wanted) if wanted else ()
        if bundles != self._requested:
            await self._ray.request_nodes(bundles)
            self._requested = bundles

    async def foresee(self) -> int:
        """Say of the first that wait when they start and end; of how many it was said. One does it, where several look."""
        async with self._db.platform() as conn:
            if await leases.acquire(conn, FORECASTS_LEASE, self._holder, ttl_s=_LEASE_S) is None or not await service.has_waiting(conn):
                return 0
        nodes = await self._ray.nodes()
        async with self._db.platform() as conn:
            snapshot, run_times = await read_outlook(conn, nodes)
        forecasts = await asyncio.to_thread(predict, snapshot, run_times)
        async with self._db.platform() as conn:
            await keep_forecasts(conn, forecasts)
        return len(forecasts)


async def foresee_jobs(host: Host) -> None:
    """A loop of the named actor ``trainos``: beside the queue's, which does not wait for it."""
    admission = Admission(host.db, RayCluster(host.settings), host.holder)
    while True:
        began = time.monotonic()
        try:
            await admission.foresee()
        except Exception as error:
            log.warning("trainos.forecasts_paused", error=str(error))
        await asyncio.sleep(max(0.0, began + _FORESEE_S - time.monotonic()))


async def admit_jobs(host: Host) -> None:
    """A loop of the named actor ``trainos``."""
    most = read_nodes(host.settings.autoscaler_nodes) if host.settings.autoscaler_nodes else ()
    await admit_for_ever(Admission(host.db, RayCluster(host.settings), host.holder, most), host.wakeup)


async def admit_for_ever(admission: Admission, wakeup: Wakeup) -> None:
    """Look again at once where something was started, else when something happened."""
    seen = 0
    while True:
        try:
            moved = bool((await admission.look()).admitted)
        except Exception as error:
            log.warning("trainos.queue_paused", error=str(error))
            moved = False
        if not moved:
            seen = await wakeup.wait(_POLL_S, seen, ("trainos.", "deployengine."))
