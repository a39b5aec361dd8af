"""The loops that keep the leases of all modules, and watch what projects may spend."""

from __future__ import annotations

import asyncio

from actors.costoptimizer import service
from aidos.errors import Unavailable
from cluster import telemetry
from cluster.events import Topics, follow
from cluster.host import Host

REVIEW_EVERY_S = 10.0
LEASES: Topics = ("trainos.lease.", "deployengine.lease.")

log = telemetry.get_logger(__name__)


async def meter_usage(host: Host) -> None:
    """The loop of the actor ``costoptimizer``: each event once, in the transaction that moves its cursor."""
    await follow(host.db, host.wakeup, service.CONSUMER, service.record_leases, LEASES)


async def watch_budgets(host: Host) -> None:
    """Review every budget each ``REVIEW_EVERY_S``: by so much at most a project passes its own. A second copy changes nothing."""
    while True:
        try:
            async with host.db.platform() as conn:
                await service.review_budgets(conn)
        except Unavailable as error:
            log.warning("costoptimizer.budgets_not_reviewed", error=str(error))
        await asyncio.sleep(REVIEW_EVERY_S)
