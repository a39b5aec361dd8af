"""Leases with epochs: who may write now, and a fence against who wrote before.

A named actor is not a single writer (after a partition two copies run), so every write of an actor or a
reconciler is made in a transaction that first calls ``hold``: a stale epoch is refused, and a takeover waits
until that transaction ends (Kleppmann, "How to do distributed locking", 2016: fencing tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aidos.errors import Conflict
from cluster.db import Connection, load_queries, one

Q = load_queries("cluster")


class StaleEpoch(Conflict):
    title = "Lease was lost"
    detail = "Epoch {epoch} of lease '{name}' is over: another holder has taken it, and this write was refused."


@dataclass(frozen=True)
class Lease:
    """What ``holder`` holds until ``expires_at``, for the ``epoch``-th time it changed hands."""

    name: str
    holder: str
    epoch: int
    expires_at: datetime


async def acquire(conn: Connection, name: str, holder: str, ttl_s: float) -> Lease | None:
    """Take or renew the lease; None while somebody else holds it."""
    row = await (await conn.execute(Q.acquire_lease, {"name": name, "holder": holder, "ttl_s": ttl_s})).fetchone()
    return one(Lease, row)


async def hold(conn: Connection, lease: Lease) -> None:
    """Assert, for the rest of this transaction, that the lease is still ours. Raises: StaleEpoch."""
    row = await (await conn.execute(Q.hold_lease, {"name": lease.name, "epoch": lease.epoch})).fetchone()
    if row is None:
        raise StaleEpoch(name=lease.name, epoch=lease.epoch)


async def release(conn: Connection, lease: Lease) -> None:
    """Give the lease back early, so that the next holder need not wait for its end."""
    await conn.execute(Q.release_lease, {"name": lease.name, "epoch": lease.epoch})


async def list_leases(conn: Connection) -> list[Lease]:
    """Every lease that was ever taken, by name; the platform's own transaction alone sees them."""
    return [Lease(**row) for row in await (await conn.execute(Q.list_leases)).fetchall()]
