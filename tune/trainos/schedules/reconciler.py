"""The loop that queues the jobs of schedules when they are due: a row's lock makes each time one job, whoever looks."""

from __future__ import annotations

from aidos.errors import AidosError, Unavailable
from cluster import telemetry
from cluster.db import Database
from cluster.host import Host
from tune.trainos.schedules import service

_POLL_S = 1.0

log = telemetry.get_logger(__name__)


async def run_due(db: Database) -> bool:
    """Queue the job of one schedule that is due; whether there was one."""
    async with db.platform() as conn:
        due = await service.find_due(conn)
    if due is None:
        return False
    try:
        async with db.platform() as conn:
            return await service.run_schedule(conn, due)
    except Unavailable:
        raise
    except AidosError as error:
        async with db.platform() as conn:
            await service.pass_over(conn, due, str(error))
        return True


async def run_schedules(host: Host) -> None:
    """A loop of the named actor ``trainos``."""
    seen = 0
    while True:
        try:
            moved = await run_due(host.db)
        except Exception as error:
            log.warning("trainos.schedules_paused", error=str(error))
            moved = False
        if not moved:
            seen = await host.wakeup.wait(_POLL_S, seen, ("trainos.schedule.",))
