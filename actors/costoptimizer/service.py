"""CostOptimizer's verbs: what leases cost by the organisation's price book.

Modules announce the two ends of each lease as events; ``record_leases`` keeps them, once each, in whatever order they come.
A cost is computed when it is asked for, from leases and prices, so it never drifts from either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from actors.costoptimizer import policy, store
from actors.costoptimizer.errors import BudgetNotSet
from actors.costoptimizer.models import Bill, Budget, Estimate, GroupBy, LeaseCost, Price
from actors.securityvault.models import Scope
from cluster import telemetry
from cluster.db import Connection, new_id
from cluster.events import Event, publish
from tune.trainos.queue import service as queue

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


async def set_budget(conn: Connection, scope: Scope, micro_usd: int, period: str) -> Budget:
    """What the project may cost a period from now on; what it spent in this one counts."""
    await store.set_budget(conn, scope.org_id, scope.project, micro_usd, period, scope.actor)
    data = {"micro_usd": micro_usd, "period": period}
    await publish(conn, Event("costoptimizer.budget.set", str(scope.project), scope.org_id, scope.project, scope.actor, data))
    budget = await get_budget(conn, scope)
    if budget.reached < 100:
        await queue.open_project(conn, scope.org_id, scope.project, scope.actor)
    await review_budgets(conn, scope.project)
    return budget


async def get_budget(conn: Connection, scope: Scope) -> Budget:
    """The project's budget, and what is spent of it by now. Raises: BudgetNotSet."""
    budget = await store.find_budget(conn, scope.project)
    if budget is None:
        raise BudgetNotSet()
    return budget


async def delete_budget(conn: Connection, scope: Scope) -> None:
    """Let nothing bound what the project costs. Raises: BudgetNotSet."""
    if not await store.delete_budget(conn, scope.project):
        raise BudgetNotSet()
    await publish(conn, Event("costoptimizer.budget.deleted", str(scope.project), scope.org_id, scope.project, scope.actor, {}))
    await queue.open_project(conn, scope.org_id, scope.project, scope.actor)


async def review_budgets(conn: Connection, project_id: UUID | None = None) -> None:
    """Look at every budget, or one project's: at 50, 80 and 100 per cent an event says so; at 100 the queue is closed to the project."""
    for budget in await store.review_budgets(conn, project_id):
        about = (budget.org_id, budget.project_id)
        if budget.news:
            data = {"percent": budget.reached, "micro_usd": budget.micro_usd, "spent_micro_usd": budget.spent_micro_usd}
            await publish(conn, Event("costoptimizer.budget.reached", str(budget.project_id), *about, CONSUMER, data))
        if budget.reached == 100:
            await queue.close_project(conn, *about, policy.closing_reason(budget), CONSUMER)
        elif budget.reached_before == 100:
            await queue.open_project(conn, *about, CONSUMER)
