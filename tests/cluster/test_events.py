"""The outbox: nothing lost, nothing twice, in order, and those who wait are woken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import anyio
import pytest

from cluster.db import Connection, Database, new_id
from cluster.events import Event, Wakeup, consume_batch, list_events, publish, publish_all

pytestmark = pytest.mark.postgres


def thing_made(org_id: UUID, subject: str, **data: object) -> Event:
    return Event(type="test.thing.made", subject=subject, org_id=org_id, project_id=org_id, actor="test", data=dict(data))


class Collector:
    def __init__(self) -> None:
        self.subjects: list[str] = []

    async def __call__(self, _conn: Connection, events: list[Event]) -> None:
        self.subjects += [event.subject for event in events if event.type == "test.thing.made"]


async def drain(db: Database, consumer: str, collector: Collector) -> None:
    await consume_batch(db, consumer, collector)  # the first call makes the cursor
    while await consume_batch(db, consumer, collector):
        pass


class TestConsume:
    async def test_each_event_arrives_once_and_in_order(self, database: Database) -> None:
        org, consumer, seen = new_id(), f"c-{new_id()}", Collector()
        for n in range(5):
            async with database.platform() as conn:
                await publish(conn, thing_made(org, f"{org}/{n}"))
        await drain(database, consumer, seen)
        await drain(database, consumer, seen)
        assert [s for s in seen.subjects if s.startswith(str(org))] == [f"{org}/{n}" for n in range(5)]

    async def test_many_told_at_once_keep_their_order_and_each_what_it_said(self, database: Database) -> None:
        org = new_id()
        told = [thing_made(org, f"{org}/{n}", step=n) for n in range(300)]
        async with database.platform() as conn:
            await publish_all(conn, [*told, told[0], replace(thing_made(org, "later"), type="test.other.made", traceparent=None)])
            await publish_all(conn, [])
        async with database.tenant(org_id=org, project_id=org) as conn:
            kept = await list_events(conn, after_seq=0, limit=1000)
        assert [(event.id, event.subject, event.data) for event in kept[:-1]] == [(event.id, event.subject, event.data) for event in told]
        assert (kept[-1].type, kept[-1].project_id) == ("test.other.made", org)

    async def test_an_undone_transaction_has_no_event(self, database: Database) -> None:
        org, seen = new_id(), Collector()
        with pytest.raises(RuntimeError):
            async with database.platform() as conn:
                await publish(conn, thing_made(org, str(org)))
                raise RuntimeError
        await drain(database, f"c-{new_id()}", seen)
        assert str(org) not in seen.subjects

    async def test_a_cursor_does_not_pass_a_transaction_that_is_still_open(self, database: Database) -> None:
        org, consumer, seen = new_id(), f"c-{new_id()}", Collector()
        async with database.platform() as slow:
            await publish(slow, thing_made(org, f"{org}/slow"))
            async with database.platform() as quick:
                await publish(quick, thing_made(org, f"{org}/quick"))
            await drain(database, consumer, seen)
        await drain(database, consumer, seen)
        assert sorted(s for s in seen.subjects if s.startswith(str(org))) == [f"{org}/quick", f"{org}/slow"]

    async def test_a_handler_that_fails_sees_the_same_events_again(self, database: Database) -> None:
        org, consumer, seen = new_id(), f"c-{new_id()}", Collector()
        await drain(database, consumer, seen)
        async with database.platform() as conn:
            await publish(conn, thing_made(org, str(org)))

        async def fail(_conn: Connection, _events: list[Event]) -> None:
            raise RuntimeError("handler")

        with pytest.raises(RuntimeError, match="handler"):
            await consume_batch(database, consumer, fail)
        await drain(database, consumer, seen)
        assert seen.subjects.count(str(org)) == 1

    async def test_the_same_event_id_is_kept_once(self, database: Database) -> None:
        org = new_id()
        event = thing_made(org, str(org))
        for _ in range(2):
            async with database.platform() as conn:
                await publish(conn, event)
        async with database.tenant(org_id=org, project_id=org) as conn:
            assert len(await list_events(conn, after_seq=0)) == 1


class TestWakeup:
    async def test_a_commit_wakes_those_who_wait(self, database: Database) -> None:
        async with Wakeup(database) as wakeup:
            seen = await wakeup.wait(5.0)  # the listener is connected
            waiting = asyncio.create_task(wakeup.wait(30.0, seen))
            async with database.platform() as conn:
                await publish(conn, thing_made(new_id(), "x"))
            assert await asyncio.wait_for(waiting, 5.0) > seen

    async def test_who_waits_for_some_events_sleeps_through_others(self, database: Database) -> None:
        async with Wakeup(database) as wakeup:
            seen = await wakeup.wait(5.0)
            first, second = (
                asyncio.create_task(wakeup.wait(30.0, seen, topics)) for topics in (("test.thing.",), ("test.other.", "never."))
            )
            for type in ("test.thing.made", "test.other.made"):
                async with database.platform() as conn:
                    await publish(conn, replace(thing_made(new_id(), "x"), type=type))
                if type == "test.thing.made":
                    assert await asyncio.wait_for(first, 5.0) == seen + 1
            assert await asyncio.wait_for(second, 5.0) == seen + 2
            assert await wakeup.wait(30.0, seen, ("test.thing.",)) == seen + 2, "what came while nobody waited is not missed"

    async def test_who_leaves_as_it_comes_leaves_at_once_and_keeps_nobody_waiting(self, database: Database) -> None:
        """Streams end by scopes of anyio, which cancel again and again until who was cancelled has left."""
        async with Wakeup(database) as wakeup:
            seen = await wakeup.wait(5.0)
            for _ in range(10):
                async with anyio.create_task_group() as streams:
                    for _ in range(50):
                        streams.start_soon(wakeup.wait, 30.0)
                    await anyio.wait_all_tasks_blocked()
                    waiting = asyncio.create_task(wakeup.wait(30.0, seen))
                    async with database.platform() as conn:
                        await publish(conn, thing_made(new_id(), "x"))
                    seen = await asyncio.wait_for(waiting, 5.0)
                    for _ in range(50):
                        streams.start_soon(wakeup.wait, 30.0)
                    async with database.platform() as conn:
                        await publish(conn, thing_made(new_id(), "x"))
                    streams.cancel_scope.cancel()


class TestCloudEvent:
    def test_the_wire_form_has_the_required_attributes(self) -> None:
        event = thing_made(new_id(), "run-1", loss=0.5).to_cloudevent()
        assert event.get_type() == "aidos.test.thing.made"
        assert event.get_subject() == "run-1"
        assert event.get_data() == {"loss": 0.5}
