"""One holder at a time, and a fence against the one before."""

from __future__ import annotations

import asyncio

import pytest

from cluster import leases
from cluster.db import Database, new_id

pytestmark = pytest.mark.postgres


class TestAcquire:
    async def test_only_one_of_many_gets_it(self, database: Database) -> None:
        name = f"l-{new_id()}"

        async def attempt(holder: str) -> leases.Lease | None:
            async with database.platform() as conn:
                return await leases.acquire(conn, name, holder, 30)

        held = [lease for lease in await asyncio.gather(*(attempt(f"h{n}") for n in range(8))) if lease]
        assert len(held) == 1

    async def test_renewing_keeps_the_epoch(self, database: Database) -> None:
        name = f"l-{new_id()}"
        async with database.platform() as conn:
            first = await leases.acquire(conn, name, "me", 30)
            again = await leases.acquire(conn, name, "me", 30)
        assert first and again and first.epoch == again.epoch == 1


class TestHold:
    async def test_a_thousand_writes_of_a_stale_epoch_are_refused(self, database: Database) -> None:
        name = f"l-{new_id()}"
        async with database.platform() as conn:
            old = await leases.acquire(conn, name, "old", 30)
            assert old
            await leases.release(conn, old)
            new = await leases.acquire(conn, name, "new", 30)
            assert new and new.epoch == old.epoch + 1
        refused = 0
        for _ in range(1000):
            async with database.platform() as conn:
                try:
                    await leases.hold(conn, old)
                except leases.StaleEpoch:
                    refused += 1
        assert refused == 1000
        async with database.platform() as conn:
            await leases.hold(conn, new)

    async def test_a_takeover_waits_for_the_write_that_holds_the_lease(self, database: Database) -> None:
        name = f"l-{new_id()}"
        async with database.platform() as conn:
            mine = await leases.acquire(conn, name, "me", 30)
        assert mine
        order: list[str] = []

        async def take_over() -> None:
            async with database.platform() as conn:
                await conn.execute("UPDATE cluster.leases SET holder = 'other', epoch = epoch + 1 WHERE name = %s", (name,))
                order.append("taken")

        async with database.platform() as conn:
            await leases.hold(conn, mine)
            taking = asyncio.create_task(take_over())
            await conn.execute("SELECT pg_sleep(0.2)")
            order.append("written")
        await taking
        assert order == ["written", "taken"]
