"""CostOptimizer's verbs: what leases cost by the organisation's price book.

Modules announce the two ends of each lease as events; ``record_leases`` keeps them, once each, in whatever order they come.
A cost is computed when it is asked for, from leases and prices, so it never drifts from either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from actors.costoptimizer import policy, store
from actors.costoptimizer.models import Bill, Estimate, GroupBy, LeaseCost, Price
from actors.securityvault.models import Scope
from cluster import telemetry
from cluster.db import Connection, new_id
from cluster.events import Event, publish

CONSUMER = "costoptimizer.leases"
_UNITS = {"cpu": "vCPU hour", "memory_gib": "GiB hour", "storage_gib": "GiB month"}
log = telemetry.get_logger(__name__)


async def record_leases(conn: Connection, events: list[Event]) -> None:
    """Keep what a batch of events says of leases. One that says it badly is logged and passed over, so that it stops no other."""
    for event in events:
        try:
            usage = policy.to_usage(event)
        except policy.NotALease as reason:
            log.warning("costoptimizer.lease_ignored", event_id=str(event.id), event_type=event.type, reason=str(reason))
            continue
        if usage:
            await store.record_usage(conn, usage)


async def get_bill(conn: Connection, scope: Scope, since: datetime | None, until: datetime | None, group_by: GroupBy, limit: int) -> Bill:
    """The project's costs in a period (the last 30 days where none is said). Raises: InvalidPeriod."""
    since, until = policy.choose_period(since, until, datetime.now(UTC))
    return await store.sum_costs(conn, scope.org_id, scope.project, since, until, group_by, limit)


async def get_owner_bill(
    conn: Connection, scope: Scope, owner: tuple[str, str], since: datetime | None, until: datetime | None, limit: int
) -> tuple[Bill, list[LeaseCost]]:
    """What one job, endpoint … ``(kind, id)`` cost, with its leases; nothing for who leased nothing. Raises: InvalidPeriod."""
    since, until = policy.choose_period(since or datetime.fromtimestamp(0, UTC), until, datetime.now(UTC))
    bill = await store.sum_costs(conn, scope.org_id, scope.project, since, until, GroupBy.OWNER, 1, owner)
    return bill, await store.list_lease_costs(conn, scope.org_id, scope.project, since, until, owner, limit)


async def sum_owner_costs(conn: Connection, scope: Scope, kind: str, ids: Sequence[str]) -> int:
    """Millionths of a dollar that these owners of one kind, such as jobs, have cost together up to now."""
    since, until = policy.choose_period(datetime.fromtimestamp(0, UTC), None, datetime.now(UTC))
    return await store.sum_owner_costs(conn, scope.org_id, scope.project, since, until, kind, ids)


async def estimate(conn: Connection, scope: Scope, amounts: Mapping[str, float], seconds: float) -> Estimate:
    """What so much of each resource would cost for so long, by the organisation's prices of now. GPUs are of no known type."""
    return policy.estimate(await store.list_prices(conn, scope.org_id), amounts, seconds, datetime.now(UTC))


async def list_prices(conn: Connection, scope: Scope) -> list[Price]:
    """The price book: every price that was, is or will be in force, by resource."""
    return await store.list_prices(conn, scope.org_id)


async def set_price(conn: Connection, scope: Scope, resource: str, micro_usd: int, source: str, effective_from: datetime | None) -> Price:
    """A price from now on, or from a later moment. What was used before keeps its price. Raises: PriceInThePast."""
    now = datetime.now(UTC)
    if effective_from is not None:
        policy.check_effective(effective_from, now)
    price = await store.insert_price(
        conn,
        {
            "id": new_id(),
            "org_id": scope.org_id,
            "resource": resource,
            "unit": _UNITS.get(resource, "GPU hour"),
            "micro_usd": micro_usd,
            "source": source,
            "effective_from": max(effective_from or now, now),
            "created_by": scope.actor,
        },
    )
    data = {"resource": resource, "micro_usd": micro_usd, "effective_from": str(price.effective_from)}
    await publish(conn, Event("costoptimizer.price.set", resource, scope.org_id, scope.project_id, scope.actor, data))
    return price
