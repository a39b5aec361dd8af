"""Transactions, the two walls, and what happens when PostgreSQL goes away."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from aidos.errors import Conflict, Unavailable
from cluster.db import Database, load_queries, new_id, savepoint, unique
from cluster.settings import Settings

pytestmark = pytest.mark.postgres


class TestWalls:
    async def test_a_tenant_sees_only_its_own_events(self, database: Database) -> None:
        mine, theirs = new_id(), new_id()
        async with database.platform() as conn:
            for org in (mine, theirs):
                await conn.execute(
                    "INSERT INTO cluster.events (id, type, subject, org_id, actor, data) VALUES (%s, 'test.thing.made', 'x', %s, 'a', '{}')",
                    (new_id(), org),
                )
        async with database.tenant(org_id=mine, project_id=None) as conn:
            rows = await (await conn.execute("SELECT org_id FROM cluster.events")).fetchall()
        assert {row["org_id"] for row in rows} == {mine}

    async def test_a_tenant_cannot_write_for_another(self, database: Database) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.tenant(org_id=new_id(), project_id=None) as conn:
                await conn.execute(
                    "INSERT INTO cluster.events (id, type, subject, org_id, actor, data) VALUES (%s, 't.t.t', 'x', %s, 'a', '{}')",
                    (new_id(), new_id()),
                )

    async def test_the_login_role_sees_nothing_without_a_wall(self, database: Database, settings: Settings) -> None:
        async with database.platform() as conn:
            await conn.execute(
                "INSERT INTO cluster.events (id, type, subject, org_id, actor, data) VALUES (%s, 't.t.t', 'x', %s, 'a', '{}')",
                (new_id(), new_id()),
            )
        url = database.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url) as conn:
            row = await (await conn.execute("SELECT count(*) FROM cluster.events")).fetchone()
        assert row == (0,)

    async def test_the_tenant_does_not_stay_on_the_connection(self, database: Database) -> None:
        org = new_id()
        async with database.tenant(org_id=org, project_id=None) as conn:
            row = await (await conn.execute("SELECT cluster.current_org() AS org")).fetchone()
            assert row == {"org": org}
        async with database.platform() as conn:
            row = await (await conn.execute("SELECT cluster.current_org() AS org, current_user AS role")).fetchone()
            assert row == {"org": None, "role": "aidos_platform"}


class TestTransaction:
    async def test_what_raises_leaves_nothing(self, database: Database) -> None:
        lease = f"test-{new_id()}"
        with pytest.raises(RuntimeError, match="no"):
            async with database.platform() as conn:
                await conn.execute("INSERT INTO cluster.leases VALUES (%s, 'me', 1, now())", (lease,))
                raise RuntimeError("no")
        async with database.platform() as conn:
            assert await (await conn.execute("SELECT 1 FROM cluster.leases WHERE name = %s", (lease,))).fetchone() is None

    async def test_what_a_lost_connection_took_along_is_never_taken_for_committed(self, database: Database) -> None:
        url = database.settings.database_url.get_secret_value()
        with pytest.raises(Unavailable):
            async with database.platform() as conn:
                await conn.execute("INSERT INTO cluster.leases VALUES ('lost', 'me', 1, now())")
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
                    await other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
                with contextlib.suppress(psycopg.OperationalError):
                    await conn.execute("SELECT 1")

    async def test_a_savepoint_undoes_only_itself(self, database: Database) -> None:
        kept, undone = f"kept-{new_id()}", f"undone-{new_id()}"
        async with database.platform() as conn:
            await conn.execute("INSERT INTO cluster.leases VALUES (%s, 'me', 1, now())", (kept,))
            with pytest.raises(Conflict):
                async with savepoint(conn):
                    await conn.execute("INSERT INTO cluster.leases VALUES (%s, 'me', 1, now())", (undone,))
                    raise Conflict(reason="no")
        async with database.platform() as conn:
            rows = await (await conn.execute("SELECT name FROM cluster.leases WHERE name = ANY(%s)", ([kept, undone],))).fetchall()
        assert [row["name"] for row in rows] == [kept]

    async def test_a_broken_unique_constraint_is_the_declared_error(self, database: Database) -> None:
        with pytest.raises(Conflict, match="taken"):
            async with database.platform() as conn:
                for _ in range(2):
                    with unique("leases_pkey", Conflict(reason="taken")):
                        await conn.execute("INSERT INTO cluster.leases VALUES ('same', 'me', 1, now())")

    async def test_connections_that_the_server_ended_are_replaced(self, database: Database) -> None:
        async with database.platform() as conn:
            ours = conn.info.backend_pid
        url = database.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
            await other.execute("SELECT pg_terminate_backend(%s)", (ours,))
        async with database.platform() as conn:
            assert await (await conn.execute("SELECT 1 AS one")).fetchone() == {"one": 1}

    async def test_no_server_is_unavailable_and_says_when_to_try_again(self, settings: Settings) -> None:
        from pydantic import SecretStr

        nowhere = settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/none")})
        db = Database(nowhere, timeout_s=0.5)
        await db.open()
        with pytest.raises(Unavailable) as raised:
            async with db.platform():
                pytest.fail("there is no server")
        assert raised.value.fields["retry_after_s"] > 0
        await db.close()


class TestLoadQueries:
    def test_blocks_become_attributes(self) -> None:
        assert load_queries("cluster").release_lease.startswith("UPDATE cluster.leases")

    def test_what_several_share_stands_in_each(self) -> None:
        jobs = load_queries("tune.trainos")
        assert "SELECT job.id, " in jobs.find_job and "RETURNING job.id, " in jobs.claim_job
        assert not any("{" in name or "{job_columns}" in block for name, block in vars(jobs).items())


class TestNewId:
    def test_ids_are_version_7_and_ordered(self) -> None:
        ids = [new_id() for _ in range(1000)]
        assert ids == sorted(ids)
        assert {i.version for i in ids} == {7}
