"""Acknowledged is durable: PostgreSQL and the object store are killed under load, and nothing that was confirmed is missing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors.modelhub import service as modelhub
from actors.modelhub.models import RunSpec
from actors.modelhub.series import service as series
from actors.securityvault.models import Principal, PrincipalKind, Scope
from aidos import AsyncClient
from cluster import embedded, postgres_server
from cluster.db import Database, new_id
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support import durability
from tests.support.database import drop_database, make_database
from tests.support.platform import start_storage

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def servers() -> Iterator[Settings]:
    """Servers of this file's own, to be killed."""
    home = Path(tempfile.mkdtemp(prefix="aidos-kill-"))
    settings = start_storage(home)
    yield settings
    embedded.stop(settings)
    shutil.rmtree(home)


@pytest.fixture
def own(servers: Settings) -> Iterator[Settings]:
    """An empty database; limits on how often a key may ask have tests of their own."""
    settings = make_database(servers, f"kill_{new_id().hex[-8:]}", durable=True).model_copy(update={"rate_limit_per_minute": 1_000_000})
    yield settings
    drop_database(settings)


@pytest.fixture
async def client(own: Settings) -> AsyncIterator[AsyncClient]:
    async with durability.api_client(own) as opened:
        yield opened


class TestDatabase:
    async def test_no_acknowledged_write_is_lost_or_doubled_by_kills(self, own: Settings, client: AsyncClient) -> None:
        history = await durability.write_under_kills(own, client, writes=2000, kills=3)
        verdict = durability.audit(own, history)
        assert (len(history.acknowledged), history.kills) == (2000, 3)
        assert (verdict.lost, verdict.duplicated, verdict.torn) == (frozenset(), frozenset(), 0)
        assert verdict.rows == 2000


class TestPoints:
    async def test_none_that_was_answered_is_lost_or_doubled_by_kills(self, own: Settings) -> None:
        org_id, project_id = new_id(), new_id()
        scope = Scope(Principal(PrincipalKind.USER, new_id(), "writer", org_id), org_id, project_id)
        async with Database(own) as db, db.tenant(org_id=org_id, project_id=project_id) as conn:
            run = await modelhub.create_run(conn, scope, RunSpec("killed"))
        assert await durability.log_under_kills(own, run.id, scope, batches=300, kills=2) == 2
        async with Database(own) as db, db.tenant(org_id=org_id, project_id=project_id) as conn:
            stored = await series.read(conn, scope, run.id, "loss", None, 40_000)
            assert stored.steps.tolist() == list(range(30_000))
            assert (await modelhub.get_run(conn, scope, run.id)).metrics["loss"].step == 29_999


class TestDetectors:
    """The same harness where something is wrong: it has to say so."""

    async def test_commits_that_are_not_flushed_are_reported_lost(self, own: Settings, client: AsyncClient) -> None:
        with durability.careless_commits(own):
            history = await durability.write_under_kills(own, client, writes=300, kills=2)
        assert (len(history.acknowledged), history.kills) == (300, 2)
        assert durability.audit(own, history).lost

    async def test_a_repeated_request_without_its_key_is_reported_twice(self, own: Settings, client: AsyncClient) -> None:
        history = await durability.write_under_kills(own, client, writes=3, kills=0)
        await client.runs.create(experiment="durability", name="write-1")
        assert durability.audit(own, history).duplicated == {"write-1"}

    async def test_an_effect_without_its_event_is_reported_torn(self, own: Settings, client: AsyncClient) -> None:
        history = await durability.write_under_kills(own, client, writes=3, kills=0)
        database = own.database_url.get_secret_value().rsplit("/", 1)[1]
        with postgres_server.connect_superuser(own, database) as connection:
            connection.execute("DELETE FROM cluster.events WHERE subject = %s", (str(history.acknowledged["write-2"]),))
        assert durability.audit(own, history).torn == 1

    async def test_a_missing_and_a_changed_object_are_reported(self, servers: Settings) -> None:
        blobs = await durability.put_under_kills(servers, new_id(), puts=3, kills=0)
        gone, changed, _ = blobs.acknowledged
        objects = Objects(servers)
        await objects.remove([gone])
        await objects.put(changed, b"other bytes")
        assert await durability.find_damaged(servers, blobs) == ({gone}, {changed})


class TestObjectStore:
    async def test_no_acknowledged_object_is_lost_or_damaged_by_kills(self, servers: Settings) -> None:
        blobs = await durability.put_under_kills(servers, new_id(), puts=300, kills=2)
        assert (len(blobs.acknowledged), blobs.kills) == (300, 2)
        assert await durability.find_damaged(servers, blobs) == (set(), set())
