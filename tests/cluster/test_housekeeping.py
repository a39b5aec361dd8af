"""Answers to repeated requests are kept for a day and no longer."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from cluster import boot
from cluster.db import Database, new_id
from cluster.housekeeping import forget_answers, sweep, sweep_for_ever
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.postgres


async def keep(db: Database, key: str, age: str) -> None:
    async with db.platform() as conn:
        await conn.execute(
            "INSERT INTO cluster.idempotency (org_id, principal, key, request_sha256, created_at)"
            " VALUES (%s, 'user:ada', %s, 'x', now() - %s::interval)",
            (new_id(), key, age),
        )


async def kept(db: Database) -> set[str]:
    async with db.platform() as conn:
        return {row["key"] for row in await (await conn.execute("SELECT key FROM cluster.idempotency")).fetchall()}


class TestForgetAnswers:
    async def test_takes_those_of_more_than_a_day_ago(self, database: Database) -> None:
        await keep(database, "old", "24 hours 1 minute")
        await keep(database, "young", "23 hours 59 minutes")
        assert await forget_answers(database) == 1
        assert await kept(database) == {"young"}
        assert await forget_answers(database) == 0


class TestSweep:
    async def test_begins_at_once_and_goes_on(self, database: Database) -> None:
        await keep(database, "first", "2 days")
        task = asyncio.create_task(sweep_for_ever(database, every_s=0.02))
        await wait_until_async(lambda: _is_empty(database))
        await keep(database, "second", "2 days")
        await wait_until_async(lambda: _is_empty(database))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def test_is_a_loop_of_the_platform(self) -> None:
        assert sweep in dict(boot.HOSTS)["securityvault"]


async def _is_empty(database: Database) -> bool:
    return not await kept(database)
