"""A budget is told about before it is spent, closes the queue when it is, and opens it again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from actors.costoptimizer import service
from actors.costoptimizer.errors import BudgetNotSet
from actors.costoptimizer.models import Budget
from actors.securityvault.models import Scope
from cluster.db import Database, new_id
from cluster.events import consume_batch, list_events
from tests.costoptimizer.conftest import announce, lease_event
from tune.trainos.queue import store as queue

pytestmark = pytest.mark.postgres


@pytest.fixture
async def spent(database: Database, scope: Scope) -> int:
    """An hour of a job that has just ended; what it cost in this month."""
    now, lease = datetime.now(UTC), new_id()
    await announce(
        database, *(lease_event(scope, lease, change, at) for change, at in (("opened", now - timedelta(hours=1)), ("closed", now)))
    )
    await consume_batch(database, service.CONSUMER, service.record_leases, limit=50)
    found = (await give(database, scope, 10**12)).spent_micro_usd
    assert found > 0
    return found


async def give(database: Database, scope: Scope, micro_usd: int) -> Budget:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await service.set_budget(conn, scope, micro_usd, "month")


async def review(database: Database) -> None:
    async with database.platform() as conn:
        await service.review_budgets(conn)


async def told(database: Database, scope: Scope) -> list[int]:
    """The percentages that events spoke of."""
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return [each.data["percent"] for each in await list_events(conn, after_seq=0) if each.type == "costoptimizer.budget.reached"]


async def closed(database: Database, scope: Scope) -> str:
    """Why the queue is closed to the project; empty where it is open."""
    async with database.platform() as conn:
        return (await queue.list_closures(conn, [scope.project])).get(scope.project, "")


async def test_half_and_four_fifths_are_told_and_the_whole_closes_the_queue(database: Database, scope: Scope, spent: int) -> None:
    for micro_usd in (spent * 3, spent * 3 // 2, spent * 11 // 10):
        await give(database, scope, micro_usd)
        await review(database)
        assert not await closed(database, scope)
    assert await told(database, scope) == [50, 80]
    made = await give(database, scope, spent)
    assert (made.reached, made.spent_micro_usd, made.since.day, made.until.day) == (100, spent, 1, 1)
    assert await told(database, scope) == [50, 80, 100]
    assert (await closed(database, scope)).startswith(
        f"the project's budget of ${spent / 1e6:.2f} a month is spent; the next month begins 01 "
    )


async def test_it_is_told_once_however_often_and_by_how_many_it_is_reviewed(database: Database, scope: Scope, spent: int) -> None:
    await give(database, scope, spent)
    async with database.platform() as conn:
        await conn.execute("UPDATE costoptimizer.budgets SET reached = 80")
    await asyncio.gather(*(review(database) for _ in range(5)))
    assert await told(database, scope) == [100, 100]


async def test_more_money_opens_the_queue(database: Database, scope: Scope, spent: int) -> None:
    await give(database, scope, spent)
    await give(database, scope, spent * 3)
    assert not await closed(database, scope)


async def test_the_next_period_opens_the_queue(database: Database, scope: Scope, spent: int) -> None:
    await give(database, scope, spent)
    async with database.platform() as conn:
        await conn.execute("UPDATE costoptimizer.budgets SET since = since - interval '1 month', micro_usd = micro_usd * 10")
    await review(database)
    assert not await closed(database, scope)


async def test_without_a_budget_nothing_is_bound(database: Database, scope: Scope, spent: int) -> None:
    await give(database, scope, spent)
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        await service.delete_budget(conn, scope)
        with pytest.raises(BudgetNotSet):
            await service.get_budget(conn, scope)
        with pytest.raises(BudgetNotSet):
            await service.delete_budget(conn, scope)
    assert not await closed(database, scope)
