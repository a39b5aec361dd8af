"""The outbox: a state change and its event are one transaction; consumers read with a cursor of their own.

At least once, in order per subject, idempotent by event id. ``NOTIFY aidos_events`` says its type and wakes who waits for such; the
wire form is CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from cloudevents.core.v1.event import CloudEvent
from psycopg.types.json import Jsonb

from cluster.db import Connection, Database, load_queries, new_id
from cluster.metrics import EVENTS_CONSUMED
from cluster.telemetry import current_traceparent

CHANNEL = "aidos_events"
Q = load_queries("cluster")


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``type`` is ``<module>.<noun>.<past tense>``; ``subject`` the id it happened to."""

    type: str
    subject: str
    org_id: UUID
    project_id: UUID | None
    actor: str
    data: dict[str, Any]
    id: UUID = field(default_factory=new_id)
    time: datetime | None = None
    traceparent: str | None = None
    seq: int = 0

    def to_cloudevent(self) -> CloudEvent:
        """The event as CloudEvents 1.0, with the project as an extension attribute."""
        attributes: dict[str, Any] = {
            "id": str(self.id),
            "type": f"aidos.{self.type}",
            "source": f"/projects/{self.project_id}" if self.project_id else f"/organisations/{self.org_id}",
            "subject": self.subject,
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "actor": self.actor,
        }
        if self.time:
            attributes["time"] = self.time
        if self.traceparent:
            attributes["traceparent"] = self.traceparent
        return CloudEvent(attributes=attributes, data=self.data)


async def publish(conn: Connection, event: Event) -> None:
    """Write the event in the caller's transaction and wake the consumers at its commit."""
    await conn.execute(Q.publish, _row(event))


async def publish_all(conn: Connection, events: Iterable[Event]) -> None:
    """Write many events, in their order, by one statement."""
    rows = [_row(event) for event in events]
    if rows:
        await conn.execute(Q.publish_all, {name: [row[name] for row in rows] for name in rows[0]})


def _row(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "org_id": event.org_id,
        "project_id": event.project_id,
        "actor": event.actor,
        "data": Jsonb(event.data),
        "traceparent": event.traceparent or current_traceparent(),
    }


async def list_events(conn: Connection, *, after_seq: int, subject: str | None = None, limit: int = 100) -> list[Event]:
    """Events of the tenant that the transaction sees, oldest first."""
    rows = await (await conn.execute(Q.list_events, {"after_seq": after_seq, "subject": subject, "limit": limit})).fetchall()
    return [Event(**row) for row in rows]


Position = tuple[int, int]
"""Where a reader stands: transaction and sequence number of the last event that it saw."""


async def tail_events(
    conn: Connection, after: Position, *, type: str | None = None, subject: str | None = None, limit: int = 100
) -> list[tuple[Position, Event]]:
    """The project's events behind ``after`` in the order of their transactions, so that none is ever passed over.

    An event shows once all older transactions are over. ``type`` is a whole type, or its first parts (``modelhub.run``).
    """
    values = {"xid": str(after[0]), "seq": after[1], "type": type, "subject": subject, "limit": limit}
    rows = await (await conn.execute(Q.tail_events, values)).fetchall()
    return [((int(row.pop("xid")), row["seq"]), Event(**row)) for row in rows]


async def events_position(conn: Connection) -> Position:
    """Where the events that are still to come begin."""
    row = await (await conn.execute(Q.events_position)).fetchone()
    return (int(row["xid"]), -1) if row else (0, -1)


@dataclass(frozen=True)
class Consumer:
    """A reader of the outbox: when its cursor last moved, and how many events are ahead of it (counted up to 10,000)."""

    consumer: str
    updated_at: datetime
    behind_events: int


async def list_consumers(conn: Connection) -> list[Consumer]:
    """All consumers, by name; the platform's own transaction alone sees them."""
    return [Consumer(**row) for row in await (await conn.execute(Q.list_consumers)).fetchall()]


Handler = Callable[[Connection, list[Event]], Awaitable[None]]


async def read_next(conn: Connection, consumer: str, limit: int) -> list[tuple[Position, Event]]:
    """What a consumer has not seen yet; its cursor is locked until the transaction ends, and who finds it locked reads nothing."""
    cursor = await (await conn.execute(Q.lock_cursor, {"consumer": consumer})).fetchone()
    rows = await (await conn.execute(Q.next_events, {**cursor, "limit": limit})).fetchall() if cursor else []
    return [((int(row.pop("xid")), row["seq"]), Event(**row)) for row in rows]


async def move_cursor(conn: Connection, consumer: str, position: Position) -> None:
    """The consumer has seen all up to ``position``."""
    await conn.execute(Q.move_cursor, {"consumer": consumer, "xid": str(position[0]), "seq": position[1]})


async def consume_batch(db: Database, consumer: str, handler: Handler, *, limit: int = 500) -> int:
    """Hand the next events to ``handler`` in the transaction that moves the cursor; the number handled.

    The handler's own writes are therefore exactly once; it must not call the network (an external effect is a row
    that a reconciler works off).
    """
    async with db.platform() as conn:
        found = await read_next(conn, consumer, limit)
        if not found:
            return 0
        await handler(conn, [event for _, event in found])
        await move_cursor(conn, consumer, found[-1][0])
    EVENTS_CONSUMED.record(len(found), consumer)
    return len(found)


Topics = tuple[str, ...]
"""Beginnings of the types of events: ``("modelhub.version.",)``."""
ALL: Topics = ("",)


class Wakeup:
    """Waits for the next event of this database, so that loops need not poll often."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._changed = asyncio.Event()
        self._count = 0
        self._last: dict[str, int] = {}
        """The count at the last event of each type; of '', when the database could be heard again after it could not."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Wakeup:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        async for type in self._db.listen(CHANNEL):
            self._count += 1
            self._last[type] = self._count
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait(self, timeout_s: float, seen: int | None = None, topics: Topics = ALL) -> int:
        """Return at the next event of ``topics`` or after ``timeout_s``; the counter to pass as ``seen`` next time.

        Who is cancelled leaves at once. (Of an ``asyncio.Condition`` nobody would who must have its lock back for that: many that were
        cancelled together, each again and again as anyio does it, kept it from one another for ever.)
        """
        since = self._count if seen is None else seen
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._happened(since, topics):
                    await self._changed.wait()
        return self._count

    def _happened(self, since: int, topics: Topics) -> bool:
        return any(at > since and (not type or type.startswith(topics)) for type, at in self._last.items())


async def follow(db: Database, wakeup: Wakeup, consumer: str, handler: Handler, topics: Topics) -> None:
    """Consume for ever: at once what is of ``topics``, and all else with it or a little later.

    A failing batch is tried again after the next wake-up; its cursor has not moved.
    """
    seen = 0
    while True:
        handled = await consume_batch(db, consumer, handler)
        if not handled:
            seen = await wakeup.wait(5.0, seen, topics)


async def changes(wakeup: Wakeup, timeout_s: float, topics: Topics = ALL) -> AsyncIterator[None]:
    """Yield now and after every event of ``topics`` until ``timeout_s`` has passed: the heart of ``GET …?wait=``."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    seen = await wakeup.wait(0, None)
    while True:
        yield
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return
        seen = await wakeup.wait(min(left, 2.0), seen, topics)
