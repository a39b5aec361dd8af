"""Reading the outbox from a position: in the order of the transactions, with nothing passed over."""

from __future__ import annotations

import pytest

from cluster import postgres_server
from cluster.db import Database, new_id
from cluster.events import Event, publish, tail_events
from cluster.settings import Settings

pytestmark = pytest.mark.postgres


class TestTailEvents:
    async def test_follows_the_number_of_the_transaction_and_not_its_text(self, database: Database, settings: Settings) -> None:
        project = new_id()
        async with database.platform() as conn:
            for subject in ("first", "second"):
                await publish(conn, Event("test.thing.made", subject, project, project, "test", {}))
        with postgres_server.connect_superuser(settings, settings.database_url.get_secret_value().rsplit("/", 1)[1]) as superuser:
            for xid, subject in (("99", "first"), ("100", "second")):
                superuser.execute(
                    "UPDATE cluster.events SET xid = %s::text::xid8 WHERE subject = %s AND project_id = %s", (xid, subject, project)
                )
        async with database.tenant(org_id=project, project_id=project) as conn:
            both = await tail_events(conn, (0, -1))
            assert [event.subject for _, event in both] == ["first", "second"]
            one = await tail_events(conn, (0, -1), limit=1)
            assert [event.subject for _, event in await tail_events(conn, one[-1][0])] == ["second"]
