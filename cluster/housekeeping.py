"""What the substrate forgets by itself: answers kept for ``Idempotency-Key`` after a day."""

from __future__ import annotations

import asyncio

from aidos.errors import Unavailable
from cluster import telemetry
from cluster.db import Database, load_queries
from cluster.host import Host

Q = load_queries(__package__)
SWEEP_EVERY_S = 3600.0
_log = telemetry.get_logger(__name__)


async def sweep(host: Host) -> None:
    """Loop of one actor. A second copy finds nothing left, which does no harm."""
    await sweep_for_ever(host.db)


async def sweep_for_ever(db: Database, every_s: float = SWEEP_EVERY_S) -> None:
    """Sweep at once and then every ``every_s``; a database that is away is tried again the next time."""
    while True:
        try:
            _log.info("housekeeping.swept", answers=await forget_answers(db))
        except Unavailable as error:
            _log.warning("housekeeping.failed", error=str(error))
        await asyncio.sleep(every_s)


async def forget_answers(db: Database) -> int:
    """Delete the answers to requests of more than a day ago; how many."""
    async with db.platform() as conn:
        return (await conn.execute(Q.forget_answers)).rowcount
