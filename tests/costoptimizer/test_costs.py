"""Costs are exact: hand-computed, replayed, out of order, over days and price changes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest

from actors.costoptimizer import service, store
from actors.costoptimizer.errors import PriceInThePast
from actors.costoptimizer.models import Bill, GroupBy
from actors.securityvault.models import Scope
from cluster.db import Database, new_id
from cluster.events import Event, consume_batch
from tests.costoptimizer.conftest import CPU, GPU, H100, MEMORY, START, announce, lease_event

pytestmark = pytest.mark.postgres
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def consume(database: Database) -> int:
    """Work off all events; how many there were."""
    total = 0
    while handled := await consume_batch(database, service.CONSUMER, service.record_leases, limit=50):
        total += handled
    return total


async def bill(
    database: Database,
    scope: Scope,
    since: datetime = START - DAY,
    until: datetime = START + 30 * DAY,
    by: GroupBy = GroupBy.OWNER,
    limit: int = 100,
) -> Bill:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await service.get_bill(conn, scope, since, until, by, limit)


async def add_price(database: Database, scope: Scope, resource: str, micro_usd: int, effective_from: datetime) -> None:
    """As ``set_price`` once did, in a past that it cannot reach now."""
    row = {"id": new_id(), "org_id": scope.org_id, "resource": resource, "unit": "hour", "micro_usd": micro_usd, "source": "test"}
    async with database.platform() as conn:
        await store.insert_price(conn, row | {"effective_from": effective_from, "created_by": "test"})


class TestCost:
    async def test_is_amount_times_price_times_time(self, database: Database, scope: Scope) -> None:
        lease = new_id()
        await announce(database, lease_event(scope, lease, "opened", START), lease_event(scope, lease, "closed", START + HOUR))
        await consume(database)
        found = await bill(database, scope)
        assert found.micro_usd == 2 * CPU + 4 * MEMORY
        (cost,) = found.costs
        assert (cost.owner_kind, cost.owner_id, cost.owner_name, cost.running) == ("job", "j1", "name of j1", False)
        assert (cost.cpu_hours, cost.memory_gib_hours, cost.gpu_hours) == (2, 4, 0)

    async def test_a_gpu_has_the_price_of_its_type(self, database: Database, scope: Scope) -> None:
        for kind in ("H100", "abacus"):
            lease = new_id()
            opened = lease_event(scope, lease, "opened", START, ("job", kind), gpu=0.5, gpu_type=kind)
            await announce(database, opened, lease_event(scope, lease, "closed", START + HOUR, ("job", kind), gpu=0.5, gpu_type=kind))
        await consume(database)
        assert {cost.owner_id: cost.micro_usd for cost in (await bill(database, scope)).costs} == {"H100": H100 // 2, "abacus": GPU // 2}

    async def test_equals_the_sum_over_leases_by_hand_whatever_it_is_grouped_by(self, database: Database, scope: Scope) -> None:
        dice = random.Random(7)
        expected = 0
        for number in range(40):
            lease, begin = new_id(), START + timedelta(seconds=dice.randrange(0, 200_000))
            end = begin + timedelta(microseconds=dice.randrange(1, 300_000_000_000))
            cpu, memory = round(dice.uniform(0.1, 8), 2), round(dice.uniform(0.5, 64), 1)
            owner = ("job", f"j{number % 7}")
            events = [
                lease_event(scope, lease, what, at, owner, cpu=cpu, memory_gib=memory) for what, at in (("opened", begin), ("closed", end))
            ]
            await announce(database, *events)
            expected += by_hand(begin, end, Decimal(str(cpu)), CPU) + by_hand(begin, end, Decimal(str(memory)), MEMORY)
        await consume(database)
        for by in GroupBy:
            found = await bill(database, scope, by=by)
            assert found.micro_usd == expected == sum(cost.micro_usd for cost in found.costs), by

    async def test_only_the_asked_period_counts(self, database: Database, scope: Scope) -> None:
        lease = new_id()
        await announce(
            database, lease_event(scope, lease, "opened", START, cpu=1), lease_event(scope, lease, "closed", START + 10 * HOUR, cpu=1)
        )
        await consume(database)
        assert (await bill(database, scope, START + HOUR, START + 3 * HOUR)).micro_usd == 2 * CPU
        days = (await bill(database, scope, by=GroupBy.DAY)).costs
        assert [(str(cost.day), cost.micro_usd) for cost in days] == [("2026-11-11", 8 * CPU), ("2026-11-10", 2 * CPU)]

    async def test_the_total_counts_groups_beyond_the_limit(self, database: Database, scope: Scope) -> None:
        for number in range(3):
            lease, owner = new_id(), ("job", f"j{number}")
            opened = lease_event(scope, lease, "opened", START, owner, cpu=number + 1)
            await announce(database, opened, lease_event(scope, lease, "closed", START + HOUR, owner, cpu=1))
        await consume(database)
        found = await bill(database, scope, limit=1)
        assert (found.groups, found.micro_usd, [cost.owner_id for cost in found.costs]) == (3, 6 * CPU, ["j2"])

    async def test_a_running_lease_counts_up_to_now(self, database: Database, scope: Scope) -> None:
        opened_at = datetime.now(UTC) - 2 * HOUR
        await announce(database, lease_event(scope, new_id(), "opened", opened_at, cpu=1))
        await consume(database)
        found = await bill(database, scope, opened_at - HOUR, datetime.now(UTC) + HOUR)
        assert found.costs[0].running and 2 * CPU <= found.micro_usd < 2 * CPU + CPU // 60

    async def test_another_project_sees_and_pays_nothing(self, database: Database, scope: Scope, other_scope: Scope) -> None:
        await announce(database, lease_event(scope, new_id(), "opened", START))
        await consume(database)
        found = await bill(database, other_scope)
        assert (found.micro_usd, found.costs) == (0, ())

    async def test_of_one_owner_comes_with_its_leases(self, database: Database, scope: Scope) -> None:
        for begin in (START, START + 5 * HOUR):
            lease = new_id()
            await announce(
                database, lease_event(scope, lease, "opened", begin, cpu=1), lease_event(scope, lease, "closed", begin + HOUR, cpu=1)
            )
        await announce(database, lease_event(scope, new_id(), "opened", START, ("endpoint", "e1"), cpu=1))
        await consume(database)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            found, leases = await service.get_owner_bill(conn, scope, ("job", "j1"), None, None, 10)
            nobody, none = await service.get_owner_bill(conn, scope, ("job", "nobody"), None, None, 10)
        assert found.micro_usd == 2 * CPU and [lease.micro_usd for lease in leases] == [CPU, CPU]
        assert (nobody.micro_usd, none) == (0, [])


class TestConsumer:
    async def test_a_replay_from_the_beginning_doubles_nothing(self, database: Database, scope: Scope) -> None:
        lease = new_id()
        await announce(database, lease_event(scope, lease, "opened", START), lease_event(scope, lease, "closed", START + HOUR))
        assert await consume(database) == 2 and await consume(database) == 0
        before = await bill(database, scope)
        async with database.platform() as conn:
            await conn.execute("DELETE FROM cluster.event_cursors")
        assert await consume(database) == 2
        assert (await bill(database, scope)).micro_usd == before.micro_usd

    async def test_a_crash_before_the_commit_loses_and_doubles_nothing(self, database: Database, scope: Scope) -> None:
        lease = new_id()
        await announce(database, lease_event(scope, lease, "opened", START), lease_event(scope, lease, "closed", START + HOUR))

        async def crash(conn, events: list[Event]) -> None:  # type: ignore[no-untyped-def]  # a handler that dies after its work
            await service.record_leases(conn, events)
            raise ConnectionResetError("killed")

        with pytest.raises(ConnectionResetError):
            await consume_batch(database, service.CONSUMER, crash)
        assert (await bill(database, scope)).micro_usd == 0
        await consume(database)
        assert (await bill(database, scope)).micro_usd == 2 * CPU + 4 * MEMORY

    async def test_the_end_may_come_before_the_beginning_and_either_twice(self, database: Database, scope: Scope) -> None:
        lease = new_id()
        opened, closed = lease_event(scope, lease, "opened", START), lease_event(scope, lease, "closed", START + HOUR)
        await announce(database, closed)
        await consume(database)
        assert (await bill(database, scope)).micro_usd == 0
        again = lease_event(scope, lease, "closed", START + 9 * HOUR)
        await announce(database, opened, again, lease_event(scope, lease, "opened", START - 9 * HOUR))
        await consume(database)
        assert (await bill(database, scope)).micro_usd == 2 * CPU + 4 * MEMORY

    async def test_a_lease_of_another_project_cannot_be_ended(self, database: Database, scope: Scope, other_scope: Scope) -> None:
        lease = new_id()
        await announce(database, lease_event(scope, lease, "opened", START), lease_event(other_scope, lease, "closed", START + HOUR))
        await consume(database)
        assert (await bill(database, scope)).costs[0].running

    async def test_an_event_that_says_nothing_stops_no_other(self, database: Database, scope: Scope) -> None:
        bad, lease = lease_event(scope, new_id(), "opened", START), new_id()
        bad.data["at"] = "soon"
        await announce(database, bad, lease_event(scope, lease, "opened", START), lease_event(scope, lease, "closed", START + HOUR))
        assert await consume(database) == 3
        assert (await bill(database, scope)).micro_usd == 2 * CPU + 4 * MEMORY


class TestPrices:
    async def test_a_new_price_leaves_the_past_alone(self, database: Database, scope: Scope, other_scope: Scope) -> None:
        for tenant in (scope, other_scope):
            lease = new_id()
            await announce(
                database, lease_event(tenant, lease, "opened", START, cpu=1), lease_event(tenant, lease, "closed", START + 3 * HOUR, cpu=1)
            )
        await consume(database)
        await add_price(database, scope, "cpu", 100_000, START + HOUR)
        await add_price(database, scope, "cpu", 7, START + 2 * HOUR)
        assert (await bill(database, scope)).micro_usd == CPU + 100_000 + 7
        assert (await bill(database, other_scope)).micro_usd == 3 * CPU

    async def test_is_set_from_now_on(self, database: Database, scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=None) as conn:
            price = await service.set_price(conn, scope, "gpu:h100", 3_500_000, "contract 2026-7", None)
            with pytest.raises(PriceInThePast):
                await service.set_price(conn, scope, "cpu", 1, "backdated", START - 900 * DAY)
            book = await service.list_prices(conn, scope)
        assert (price.unit, price.micro_usd) == ("GPU hour", 3_500_000)
        assert [entry.micro_usd for entry in book if entry.resource == "gpu:h100"] == [3_500_000, H100]

    async def test_the_platforms_own_cannot_be_written(self, database: Database, scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(Exception, match="permission denied"):
                await conn.execute("UPDATE costoptimizer.default_prices SET micro_usd = 0")


def by_hand(begin: datetime, end: datetime, amount: Decimal, price: int) -> int:
    """Whole micro-dollars a UTC day, added up."""
    total, moment = 0, begin
    while moment < end:
        midnight = (moment + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
        seconds = Decimal((min(end, midnight) - moment) // timedelta(microseconds=1)) / 1_000_000
        total += int((amount * price * seconds / 3600).quantize(Decimal(1), ROUND_HALF_UP))
        moment = midnight
    return total
