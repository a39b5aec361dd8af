"""claim → process → apply: eligibility and order, unlock, stale token, contention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest

from cluster import leases
from cluster.db import Connection, Database, new_id
from cluster.reconciler import Reconciler

pytestmark = pytest.mark.postgres

TABLE = """
CREATE SCHEMA IF NOT EXISTS probe;
CREATE TABLE IF NOT EXISTS probe.chores (
    id uuid PRIMARY KEY, state text NOT NULL DEFAULT 'wanted', done_by text, lock_token uuid, locked_until timestamptz,
    attempts int NOT NULL DEFAULT 0, next_attempt_at timestamptz NOT NULL DEFAULT now(), last_error text
);
GRANT USAGE ON SCHEMA probe TO aidos_platform;
GRANT ALL ON probe.chores TO aidos_platform;
TRUNCATE probe.chores;
"""


@dataclass(frozen=True)
class Chore:
    id: UUID
    attempts: int


class Chores(Reconciler[Chore]):
    name: ClassVar[str] = "chores"
    table: ClassVar[tuple[str, str]] = ("probe", "chores")
    concurrency: ClassVar[int] = 10

    def __init__(self, db: Database, who: str = "a", error: Exception | None = None) -> None:
        super().__init__(db)
        self.who, self.error, self.processed = who, error, []
        self.gate: asyncio.Event | None = None
        self.all_started = asyncio.Event()

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Chore]:
        rows = await conn.execute(
            "UPDATE probe.chores SET lock_token = %s, locked_until = clock_timestamp() + make_interval(secs => %s) WHERE id IN"
            " (SELECT id FROM probe.chores WHERE state = 'wanted' AND next_attempt_at <= clock_timestamp()"
            "  AND (locked_until IS NULL OR locked_until < clock_timestamp()) ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)"
            " RETURNING id, attempts",
            (token, lock_s, limit),
        )
        return sorted([Chore(**row) for row in await rows.fetchall()], key=lambda chore: chore.id)

    async def process(self, item: Chore) -> str:
        self.processed.append(item.id)
        if len(self.processed) == 6:
            self.all_started.set()
        if self.gate:
            await self.gate.wait()
        if self.error:
            raise self.error
        return self.who

    async def apply(self, conn: Connection, item: Chore, token: UUID, outcome: str) -> bool:
        done = await conn.execute(
            "UPDATE probe.chores SET state = 'done', done_by = %s, lock_token = NULL, locked_until = NULL WHERE id = %s AND lock_token = %s",
            (outcome, item.id, token),
        )
        return done.rowcount == 1


@pytest.fixture
async def chores(database: Database) -> AsyncIterator[list[UUID]]:
    url = database.settings.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute(TABLE)
        ids = [new_id() for _ in range(6)]
        for chore in ids:
            await conn.execute("INSERT INTO probe.chores (id) VALUES (%s)", (chore,))
        yield ids
        await conn.execute("DROP SCHEMA probe CASCADE")


async def rows(db: Database) -> list[dict[str, Any]]:
    async with db.platform() as conn:
        return await (await conn.execute("SELECT * FROM probe.chores ORDER BY id")).fetchall()


class TestReconciler:
    async def test_works_off_what_is_wanted_oldest_first(self, database: Database, chores: list[UUID]) -> None:
        worker = Chores(database)
        assert await worker.run_once("one") == 6
        assert worker.processed == chores
        assert {row["state"] for row in await rows(database)} == {"done"}

    async def test_what_failed_is_unlocked_with_its_reason_and_comes_back_later(self, database: Database, chores: list[UUID]) -> None:
        await Chores(database, error=RuntimeError("disk on fire")).run_once("one")
        found = await rows(database)
        assert {row["lock_token"] for row in found} == {None}
        assert {row["last_error"] for row in found} == {"disk on fire"}
        assert {row["attempts"] for row in found} == {1}
        assert await Chores(database).run_once("one") == 0, "it pauses before the next attempt"
        async with database.platform() as conn:
            await conn.execute("UPDATE probe.chores SET next_attempt_at = now()")
        assert await Chores(database).run_once("one") == 6

    async def test_a_worker_whose_lock_ran_out_cannot_overwrite_its_successor(self, database: Database, chores: list[UUID]) -> None:
        slow = Chores(database, "slow")
        slow.gate = asyncio.Event()
        running = asyncio.create_task(slow.run_once("same"))
        await slow.all_started.wait()
        async with database.platform() as conn:
            await conn.execute("UPDATE probe.chores SET locked_until = now() - interval '1 s'")
        assert await Chores(database, "quick").run_once("same") == 6
        slow.gate.set()
        await running
        assert {row["done_by"] for row in await rows(database)} == {"quick"}

    async def test_two_replicas_never_work_on_the_same_row(self, database: Database, chores: list[UUID]) -> None:
        one, two = Chores(database, "one"), Chores(database, "two")
        await asyncio.gather(one.run_once("same"), two.run_once("same"))
        assert sorted(one.processed + two.processed) == chores

    async def test_work_that_outlasts_the_lease_is_written_once(self, database: Database, chores: list[UUID]) -> None:
        class Slow(Chores):
            lease_s: ClassVar[float] = 0.6

            async def process(self, item: Chore) -> str:
                """Until the lease under which it was claimed is over, by the database's clock."""
                over = False
                while not over:
                    await asyncio.sleep(0.02)
                    async with self.db.platform() as conn:
                        now = await (await conn.execute("SELECT clock_timestamp() AS at")).fetchone()
                    over = bool(now and now["at"] > claimed_until)
                return await super().process(item)

        async with database.platform() as conn:
            lease = await leases.acquire(conn, "reconciler:chores", "once", ttl_s=Slow.lease_s)
        assert lease
        claimed_until = lease.expires_at + timedelta(seconds=Slow.lease_s)
        assert await Slow(database).run_once() == 6
        assert {row["state"] for row in await rows(database)} == {"done"}

    async def test_who_does_not_hold_the_lease_does_nothing(self, database: Database, chores: list[UUID]) -> None:
        assert await Chores(database).run_once("first") == 6
        async with database.platform() as conn:
            await conn.execute("UPDATE probe.chores SET state = 'wanted'")
        assert await Chores(database).run_once("second") == 0
        assert await Chores(database).run_once("first") == 6
