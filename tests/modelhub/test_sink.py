"""Points of many requests in one transaction: all of them arrive, one commit serves them, and each is answered for itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from actors.modelhub import service
from actors.modelhub.errors import RunNotFound
from actors.modelhub.models import Run, RunSpec
from actors.modelhub.series.models import Columns
from actors.securityvault.models import Scope
from api.sink import MOST_REQUESTS, PointSink
from cluster.db import Connection, Database, new_id

pytestmark = pytest.mark.postgres


class CountingDatabase(Database):
    """Notes the transactions of tenants."""

    transactions = 0

    @contextlib.asynccontextmanager
    async def tenant(self, **of: Any) -> AsyncIterator[Connection]:
        self.transactions += 1
        async with super().tenant(**of) as conn:
            yield conn


@pytest.fixture
async def counting(database: Database) -> AsyncIterator[CountingDatabase]:
    async with CountingDatabase(database.settings) as db:
        yield db


def point(key: str, step: int) -> Columns:
    return Columns([key], [step], [0], [float(step)])


async def steps_of(database: Database, scope: Scope, run_id: UUID, key: str) -> list[int]:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return [found.step for found in await service.list_points(conn, scope, run_id, key, None, 1000)]


class TestPointSink:
    async def test_requests_that_come_together_share_a_transaction(self, counting: CountingDatabase, scope: Scope, run: Run) -> None:
        sink, count = PointSink(counting), 3 * MOST_REQUESTS
        await asyncio.gather(*(sink.log(scope, run.id, point("loss", step)) for step in range(count)))
        assert counting.transactions == 3
        assert await steps_of(counting, scope, run.id, "loss") == list(range(count))

    async def test_what_is_answered_is_committed(self, database: Database, counting: CountingDatabase, scope: Scope, run: Run) -> None:
        sink = PointSink(counting)
        for step in range(3):
            await sink.log(scope, run.id, point("loss", step))
            assert await steps_of(database, scope, run.id, "loss") == list(range(step + 1))

    async def test_a_run_that_is_not_there_refuses_its_own_points_alone(
        self, database: Database, scope: Scope, other_scope: Scope, run: Run
    ) -> None:
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as conn:
            theirs = await service.create_run(conn, other_scope, RunSpec("digits"))
        sink, runs = PointSink(database), [run.id, new_id(), run.id, theirs.id]
        answers = await asyncio.gather(*(sink.log(scope, id, point("loss", n)) for n, id in enumerate(runs)), return_exceptions=True)
        assert [type(each) for each in answers] == [type(None), RunNotFound, type(None), RunNotFound]
        assert await steps_of(database, scope, run.id, "loss") == [0, 2]
        assert await steps_of(database, other_scope, theirs.id, "loss") == []

    async def test_what_cannot_be_stored_fails_its_own_request_alone(self, database: Database, scope: Scope, run: Run) -> None:
        sink, keys = PointSink(database), ["a", "b\x00", 'c"\\', "d"]
        answers = await asyncio.gather(*(sink.log(scope, run.id, point(key, 1)) for key in keys), return_exceptions=True)
        assert [isinstance(each, psycopg.DataError) for each in answers] == [False, True, False, False]
        for key in ("a", 'c"\\', "d"):
            assert await steps_of(database, scope, run.id, key) == [1]
