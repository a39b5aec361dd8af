"""Limits of requests a minute, exact over all replicas, with no shared state in the common request.

A replica leases requests of the current window from one row a subject and spends them locally. What it asks for is what
waits at that moment plus what it spent lately, and less the nearer the limit is, so that few stay unused elsewhere; an
idle replica returns what it holds. The row never grants more than the limit: that many pass, whoever asked.
Windows are those of the database's clock, so replicas need not agree on the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from actors.securityvault import store
from aidos.errors import TooManyRequests, Unavailable
from cluster.db import Database

_IDLE_S = 2.0
_EXHAUSTED_FOR_S = 1.0
_MOST_BUCKETS = 50_000


@dataclass(frozen=True)
class Limit:
    """At most ``per_window`` requests of ``kind`` ``name`` in a window."""

    kind: str
    name: str
    per_window: int

    @functools.cached_property
    def subject(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass
class Bucket:
    """What this replica holds of one subject's window. Times are ``time.monotonic()``."""

    tokens: int = 0
    ends: float = 0.0
    window_start: int = 0
    used_ratio: float = 0.0
    exhausted_until: float = 0.0
    spent: int = 0
    waiting: int = 0
    last_taken: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, now: float) -> bool:
        """Spend one request of the lease, if there is one."""
        if self.tokens <= 0 or now >= self.ends:
            return False
        self.tokens -= 1
        self.spent += 1
        self.last_taken = now
        return True

    def wanted(self, limit: int) -> int:
        """How many to lease: those that wait, and ahead of them what is likely to be used, less the nearer the limit is."""
        left = max(0, round(limit * (1 - self.used_ratio)))
        ahead = min(max(self.spent, limit // 200), left // 16)
        return max(1, self.waiting + ahead)


class RateLimiter:
    """Of one process. ``window_s`` is a minute; tests may choose another."""

    def __init__(self, db: Database, window_s: int = 60) -> None:
        self._db, self._window_s = db, window_s
        self._buckets: dict[str, Bucket] = {}
        self._returning: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RateLimiter:
        self._returning = asyncio.create_task(self._return_idle())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._returning:
            self._returning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._returning
        with contextlib.suppress(Unavailable):
            await self.give_back(idle_s=0.0)

    def take_local(self, limits: Iterable[Limit]) -> bool:
        """Spend one request of each limit, if leases for all are at hand; touches nothing shared."""
        now = time.monotonic()
        taken: list[Bucket] = []
        for limit in limits:
            bucket = self._buckets.get(limit.subject)
            if bucket is None or not bucket.take(now):
                self._untake(taken)
                return False
            taken.append(bucket)
        return True

    async def take(self, limits: Iterable[Limit]) -> None:
        """Spend one request of each limit. Raises: TooManyRequests (and then none is spent), Unavailable."""
        taken: list[Bucket] = []
        for limit in limits:
            bucket = self._bucket(limit.subject)
            if not bucket.take(time.monotonic()):
                try:
                    await self._lease(bucket, limit)
                except BaseException:
                    self._untake(taken)
                    raise
            taken.append(bucket)

    def _bucket(self, subject: str) -> Bucket:
        bucket = self._buckets.get(subject)
        if bucket is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._forget()
            bucket = self._buckets[subject] = Bucket()
        return bucket

    def _forget(self) -> None:
        now = time.monotonic()
        self._buckets = {subject: bucket for subject, bucket in self._buckets.items() if bucket.waiting or now < bucket.ends}

    async def _lease(self, bucket: Bucket, limit: Limit) -> None:
        bucket.waiting += 1
        try:
            async with bucket.lock:
                now = time.monotonic()
                if bucket.take(now):
                    return
                if now < bucket.exhausted_until:
                    raise _refusal(bucket, limit, now)
                await self._ask(bucket, limit)
                while not bucket.take(time.monotonic()):
                    if bucket.tokens <= 0:
                        raise _refusal(bucket, limit, time.monotonic())
                    # The window ended while the lease was on its way: that is no reason to refuse, the next one has begun.
                    await self._ask(bucket, limit)
        finally:
            bucket.waiting -= 1

    async def _ask(self, bucket: Bucket, limit: Limit) -> None:
        asked = time.monotonic()
        async with self._db.platform() as conn:
            row = await store.lease_requests(conn, limit.subject, self._window_s, limit.per_window, bucket.wanted(limit.per_window))
        if row["window_start"] != bucket.window_start:
            bucket.window_start, bucket.tokens, bucket.spent = row["window_start"], 0, 0
        bucket.tokens += row["granted"]
        bucket.spent //= 2
        bucket.used_ratio = row["used"] / max(1, limit.per_window)
        # The lease ends a little before the window does: what is spent late would count into the next one.
        bucket.ends = asked + row["left_s"]
        bucket.exhausted_until = 0.0 if row["granted"] else min(bucket.ends, time.monotonic() + _EXHAUSTED_FOR_S)

    def _untake(self, taken: list[Bucket]) -> None:
        for bucket in taken:
            bucket.tokens += 1
            bucket.spent -= 1

    async def _return_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_S / 2)
            with contextlib.suppress(Unavailable):
                await self.give_back(_IDLE_S)

    async def give_back(self, idle_s: float) -> None:
        """Return the unused requests of subjects that nobody has asked for in ``idle_s``, where others may need them."""
        now = time.monotonic()
        async for subject, bucket in self._idle(now - idle_s, everything=idle_s == 0):
            count, bucket.tokens = bucket.tokens, 0
            async with self._db.platform() as conn:
                await store.return_requests(conn, subject, bucket.window_start, count)

    async def _idle(self, before: float, everything: bool) -> AsyncIterator[tuple[str, Bucket]]:
        for subject, bucket in list(self._buckets.items()):
            unused = bucket.tokens > 0 and time.monotonic() < bucket.ends and bucket.last_taken <= before
            if unused and (everything or bucket.used_ratio > 0.5):
                yield subject, bucket


def _refusal(bucket: Bucket, limit: Limit, now: float) -> TooManyRequests:
    retry_after_s = max(1, round(bucket.ends - now + 0.5))
    return TooManyRequests(limit=limit.per_window, subject=limit.kind, retry_after_s=retry_after_s)
