"""The loop that keeps the leases of all modules."""

from __future__ import annotations

from actors.costoptimizer import service
from cluster.events import follow
from cluster.host import Host


async def meter_usage(host: Host) -> None:
    """The loop of the actor ``costoptimizer``: each event once, in the transaction that moves its cursor."""
    await follow(host.db, host.wakeup, service.CONSUMER, service.record_leases)
