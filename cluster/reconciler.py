"""The one way in which AI-DOS does anything that takes time: claim → process → apply.

``claim`` and ``apply`` are transactions, ``process`` works on Ray or S3 outside any. A row is claimed with
``FOR UPDATE SKIP LOCKED``, a lock token and a deadline that a heartbeat moves on; ``apply`` must repeat the token in its
WHERE clause, so a worker that was slow or partitioned away cannot overwrite its successor. What fails comes back after
an exponential pause with jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID, uuid4

from psycopg import sql

from cluster import leases, metrics, telemetry
from cluster.db import Connection, Database
from cluster.events import ALL, Topics, Wakeup

log = telemetry.get_logger(__name__)


class Lockable(Protocol):
    """A row with the columns ``id, lock_token, locked_until, attempts, next_attempt_at, last_error``."""

    @property
    def id(self) -> UUID: ...
    @property
    def attempts(self) -> int: ...


Item = TypeVar("Item", bound=Lockable)


class LostClaim(Exception):
    """The row's lock token is no longer ours."""


class Reconciler(Generic[Item]):
    """Subclass it: a ``table``, a ``claim`` and a ``process`` whose outcome ``apply`` writes."""

    name: ClassVar[str]
    table: ClassVar[tuple[str, str]]
    topics: ClassVar[Topics] = ALL
    """Events at which there may be a row that wants work; what is due without one is found within ``poll_s``."""
    concurrency: ClassVar[int] = 4
    lock_s: ClassVar[float] = 30.0
    lease_s: ClassVar[float] = 15.0
    poll_s: ClassVar[float] = 5.0
    backoff_base_s: ClassVar[float] = 1.0
    backoff_cap_s: ClassVar[float] = 60.0

    def __init__(self, db: Database) -> None:
        self.db = db

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Item]:
        """Up to ``limit`` rows that want work, now locked with ``token`` until ``lock_s`` from now."""
        raise NotImplementedError

    async def process(self, item: Item) -> Any:
        """Do the work, outside any transaction. Must be idempotent: it may run twice."""
        raise NotImplementedError

    async def apply(self, conn: Connection, item: Item, token: UUID, outcome: Any) -> bool:
        """Write the outcome where id and token still match, and unlock; False if they do not."""
        raise NotImplementedError

    def is_news(self, item: Item, outcome: Any) -> bool:
        """Whether the step belongs in the trace of the work: looking again and again at what has not changed would fill it."""
        return getattr(outcome, "state", None) is not getattr(item, "state", self)

    async def give_up(self, conn: Connection, item: Item, token: UUID, error: BaseException) -> bool:
        """Called when ``process`` raised. Return True if the row was brought to a final state; False retries it later."""
        return False

    async def run(self, holder: str, wakeup: Wakeup) -> None:
        """Reconcile for ever while holding the lease of this reconciler."""
        slots = asyncio.Semaphore(self.concurrency)
        seen = 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    worked = await self._claim_and_start(holder, slots, tasks)
                except Exception as error:
                    log.warning("reconciler.paused", reconciler=self.name, error=str(error))
                    worked = False
                if not worked:
                    seen = await wakeup.wait(self.poll_s, seen, self.topics)

    async def run_once(self, holder: str = "once") -> int:
        """Claim one batch and work it off; the number of rows. For tests and for drains."""
        claimed = await self._claim(holder, self.concurrency)
        await asyncio.gather(*(self._work(*each) for each in claimed))
        return len(claimed)

    async def _claim(self, holder: str, limit: int) -> list[tuple[Item, UUID, leases.Lease]]:
        """Rows with the token and the lease that they are claimed under; none while another holds the lease."""
        token = uuid4()
        async with self.db.platform() as conn:
            lease = await leases.acquire(conn, f"reconciler:{self.name}", holder, ttl_s=self.lease_s)
            return [(item, token, lease) for item in await self.claim(conn, token, self.lock_s, limit)] if lease else []

    async def _claim_and_start(self, holder: str, slots: asyncio.Semaphore, tasks: asyncio.TaskGroup) -> bool:
        await slots.acquire()
        slots.release()
        claimed = await self._claim(holder, 1)
        for each in claimed:
            await slots.acquire()
            tasks.create_task(self._work(*each)).add_done_callback(lambda _: slots.release())
        return bool(claimed)

    async def _work(self, item: Item, token: UUID, lease: leases.Lease) -> None:
        """One step of one row, in the trace of the request that asked for it."""
        started = time.perf_counter()
        state, traceparent = getattr(item, "state", None), getattr(item, "traceparent", None)
        with (
            telemetry.bind(project_id=getattr(item, "project_id", None)),
            telemetry.span(self.name, traceparent, telemetry.CONSUMER, aidos__item=item.id, aidos__state=state) as span,
        ):
            outcome = await self._process_and_apply(item, token, lease, span)
            span.set(aidos__outcome=outcome)
            if span.kept:
                log.info("reconciler.step", reconciler=self.name, item=str(item.id), state=state, outcome=outcome)
        metrics.RECONCILED.record(1, self.name, outcome)
        metrics.RECONCILE_SECONDS.record(time.perf_counter() - started, self.name)

    async def _process_and_apply(self, item: Item, token: UUID, lease: leases.Lease, span: telemetry.span) -> str:
        worker = asyncio.create_task(self.process(item))
        beat = asyncio.create_task(self._heartbeat(item, token, worker, lease))
        try:
            outcome = await worker
        except asyncio.CancelledError:
            if beat.done():
                return "lost"  # whoever has the claim now does the work
            worker.cancel()
            raise
        except Exception as error:
            span.name(self.name, failed=True)
            return await self._after_failure(item, token, lease, error)
        finally:
            beat.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await beat
        span.kept = self.is_news(item, outcome)
        try:
            async with self.db.platform() as conn:
                await leases.hold(conn, lease)
                if not await self.apply(conn, item, token, outcome):
                    log.info("reconciler.claim_lost", reconciler=self.name, item=str(item.id))
                    return "lost"
        except Exception as error:
            log.warning("reconciler.apply_failed", reconciler=self.name, item=str(item.id), error=str(error))
            return "failed"
        return "applied"

    async def _heartbeat(self, item: Item, token: UUID, worker: asyncio.Task[Any], lease: leases.Lease) -> None:
        """Move the claim's deadline on, and the lease's: while all slots are at work nobody else renews it."""
        statement = sql.SQL(
            "UPDATE {} SET locked_until = clock_timestamp() + make_interval(secs => %s) WHERE id = %s AND lock_token = %s RETURNING 1"
        ).format(sql.Identifier(*self.table))
        while True:
            await asyncio.sleep(min(self.lock_s, self.lease_s) / 3)
            with contextlib.suppress(Exception):  # an unreachable database ends the claim by its deadline, not here
                async with self.db.platform() as conn:
                    await leases.acquire(conn, lease.name, lease.holder, ttl_s=self.lease_s)
                    row = await (await conn.execute(statement, (self.lock_s, item.id, token))).fetchone()
                if row is None:
                    worker.cancel()
                    return

    async def _after_failure(self, item: Item, token: UUID, lease: leases.Lease, error: Exception) -> str:
        pause_s = min(self.backoff_cap_s, self.backoff_base_s * 2 ** min(item.attempts, 10)) * random.uniform(0.5, 1.0)
        log.warning(
            "reconciler.failed", reconciler=self.name, item=str(item.id), error=str(error), retry_s=round(pause_s, 1), exc_info=error
        )
        statement = sql.SQL(
            "UPDATE {} SET lock_token = NULL, locked_until = NULL, attempts = attempts + 1, last_error = %s,"
            " next_attempt_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s AND lock_token = %s"
        ).format(sql.Identifier(*self.table))
        with contextlib.suppress(Exception):  # the claim's deadline frees the row when even this write fails
            async with self.db.platform() as conn:
                await leases.hold(conn, lease)
                if await self.give_up(conn, item, token, error):
                    return "gave_up"
                await conn.execute(statement, (str(error)[:2000], pause_s, item.id, token))
        return "failed"
