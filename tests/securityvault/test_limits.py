"""Limits are exact over replicas, and the common request asks nobody."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from actors.securityvault.limits import Bucket, Limit, RateLimiter
from aidos.errors import TooManyRequests
from cluster.db import Database
from tests.securityvault.conftest import Vault
from tests.support.waiting import wait_until_async

WINDOW_S = 86_400  # a test never meets the end of its window


@pytest.fixture
async def replicas(vault: Vault) -> AsyncIterator[list[RateLimiter]]:
    """Three, each with a pool of its own."""
    databases = [Database(vault.settings) for _ in range(3)]
    for database in databases:
        await database.open()
    yield [RateLimiter(database, WINDOW_S) for database in databases]
    for database in databases:
        await database.__aexit__()


async def ask(replica: RateLimiter, *limits: Limit) -> str:
    try:
        await replica.take(limits)
    except TooManyRequests as refusal:
        right = refusal.fields["retry_after_s"] >= 1 and refusal.fields["limit"] == limits[-1].per_window
        return "refused" if right else str(refusal.fields)
    return "passed"


@pytest.mark.postgres
class TestExactness:
    @pytest.mark.parametrize("attempt", range(3))
    async def test_a_thousand_calls_to_three_replicas_pass_a_hundred(self, replicas: list[RateLimiter], attempt: int) -> None:
        limit = Limit("key", f"burst-{attempt}", 100)
        outcome = Counter(await asyncio.gather(*(ask(replicas[i % 3], limit) for i in range(1000))))
        assert outcome == {"passed": 100, "refused": 900}

    @pytest.mark.parametrize("shares", [(998, 1, 1), (0, 500, 500), (10, 10, 980)])
    async def test_however_the_calls_are_spread(self, replicas: list[RateLimiter], shares: tuple[int, ...]) -> None:
        limit = Limit("key", f"spread-{shares}", 100)
        calls = [ask(replica, limit) for replica, share in zip(replicas, shares, strict=True) for _ in range(share)]
        assert Counter(await asyncio.gather(*calls))["passed"] == 100

    async def test_one_after_the_other_none_is_left_lying(self, replicas: list[RateLimiter]) -> None:
        """Requests come singly and in turns, so what one replica leased ahead, another would lack."""
        limit = Limit("key", "singly", 100)
        outcome = Counter([await ask(replicas[i % 3], limit) for i in range(150)])
        assert outcome["passed"] <= 100
        for replica in replicas:
            await replica.give_back(idle_s=0)
            replica._bucket(limit.subject).exhausted_until = 0
        outcome += Counter([await ask(replicas[0], limit) for _ in range(50)])
        assert outcome["passed"] == 100

    async def test_what_an_idle_replica_holds_comes_back_by_itself(self, replicas: list[RateLimiter]) -> None:
        limit, (first, second, _) = Limit("key", "idle", 10), replicas
        async with first:
            await first.take([limit])
            first._bucket(limit.subject).tokens += 9  # as if it had leased all of them
            async with first._db.platform() as conn:
                await conn.execute("UPDATE securityvault.rate_windows SET used = 10 WHERE subject = %s", (limit.subject,))
            first._bucket(limit.subject).used_ratio = 1.0

            async def passes() -> bool:
                return await ask(second, limit) == "passed"

            assert not await passes()
            await wait_until_async(passes, within_s=10)

    async def test_a_refused_request_spends_nothing_elsewhere(self, replicas: list[RateLimiter]) -> None:
        key, project = Limit("key", "pair", 50), Limit("project", "pair", 5)
        outcome = Counter([await ask(replicas[0], key, project) for _ in range(20)])
        assert outcome == {"passed": 5, "refused": 15}
        assert Counter([await ask(replicas[0], key) for _ in range(60)])["passed"] == 45

    async def test_a_new_window_begins_anew_and_says_when(self, vault: Vault) -> None:
        limiter, limit = RateLimiter(vault.db, window_s=2), Limit("key", "short", 3)
        while [await ask(limiter, limit) for _ in range(4)] != ["passed"] * 3 + ["refused"]:
            pass  # the window ended in between
        with pytest.raises(TooManyRequests) as refusal:
            await limiter.take([limit])
        assert 1 <= refusal.value.fields["retry_after_s"] <= 3

        async def passes() -> bool:
            return await ask(limiter, limit) == "passed"

        await wait_until_async(passes, within_s=5)


@pytest.mark.postgres
class TestWindowEnds:
    async def test_a_lease_that_comes_too_late_refuses_nobody(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        limiter, limit = RateLimiter(vault.db, WINDOW_S), Limit("key", "steady", 100)
        in_time, asked = limiter._ask, 0

        async def too_late_once(bucket: Bucket, limit: Limit) -> None:
            nonlocal asked
            await in_time(bucket, limit)
            asked += 1
            if asked == 1:
                bucket.ends = time.monotonic() - 0.001

        monkeypatch.setattr(limiter, "_ask", too_late_once)
        assert await ask(limiter, limit) == "passed" and asked == 2


class TestCost:
    async def test_the_common_request_touches_nothing_shared(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        limiter, limit = RateLimiter(vault.db, WINDOW_S), Limit("key", "busy", 100_000)
        for _ in range(2000):
            if not limiter.take_local([limit]):
                await limiter.take([limit])
        leases: list[int] = []
        ask_database = limiter._ask

        async def counted(bucket: Bucket, limit: Limit) -> None:
            leases.append(1)
            await ask_database(bucket, limit)

        monkeypatch.setattr(limiter, "_ask", counted)
        started = time.process_time()
        for _ in range(5000):
            if not limiter.take_local([limit]):
                await limiter.take([limit])
        assert len(leases) <= 15, "one question for some hundreds of requests"
        assert (time.process_time() - started) / 5000 < 0.001


class TestBatchSize:
    def test_shrinks_near_the_limit(self) -> None:
        sizes = [Bucket(spent=500, used_ratio=ratio, waiting=1).wanted(1000) for ratio in (0.0, 0.5, 0.9, 0.99, 1.0)]
        assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1 and sizes[0] > 50

    def test_is_what_waits_when_nothing_is_known(self) -> None:
        assert Bucket(waiting=333).wanted(100) == 333
        assert Bucket(waiting=1).wanted(100) == 1
