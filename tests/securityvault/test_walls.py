"""The second wall, read from the catalogue: no table of a tenant's is without it, and nothing walks around it."""

from __future__ import annotations

import psycopg
import pytest

from actors.securityvault import service
from actors.securityvault.models import Role
from cluster.db import Database, new_id
from tests.securityvault.conftest import Vault, make_member

pytestmark = pytest.mark.postgres

OURS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"
# Bookkeeping of the migrations: read and written by the owner alone, and no tenant's.
UNWALLED = {"cluster.migrations", "cluster.schema_fingerprint"}


async def column(root: psycopg.AsyncConnection, query: str) -> list[str]:
    return sorted(str(row[0]) for row in await (await root.execute(query)).fetchall())


@pytest.fixture
async def catalogue(database: Database, root: psycopg.AsyncConnection) -> psycopg.AsyncConnection:
    return root


class TestCatalogue:
    async def test_every_table_has_row_security_on_and_forced(self, catalogue: psycopg.AsyncConnection) -> None:
        tables = set(await column(catalogue, f"SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition"))  # fmt: skip
        walled = set(await column(catalogue, f"SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind IN ('r', 'p') AND c.relrowsecurity AND c.relforcerowsecurity"))  # fmt: skip
        assert len(tables) > 20 and tables - walled == UNWALLED

    async def test_every_tenants_table_has_a_policy_that_compares_the_tenant(self, catalogue: psycopg.AsyncConnection) -> None:
        tenants = await column(catalogue, f"SELECT DISTINCT n.nspname || '.' || c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname IN ('org_id', 'project_id')")  # fmt: skip
        compared = await column(catalogue, "SELECT schemaname || '.' || tablename FROM pg_policies WHERE roles = '{aidos_app}' AND cmd = 'ALL' AND qual ~ 'current_(org|project)' AND with_check = qual")  # fmt: skip
        assert len(tenants) > 15 and not set(tenants) - set(compared)

    async def test_no_policy_is_for_everyone(self, catalogue: psycopg.AsyncConnection) -> None:
        others = await column(catalogue, "SELECT tablename FROM pg_policies WHERE NOT roles <@ '{aidos_app,aidos_platform}'")
        assert others == []

    async def test_nothing_walks_around_it(self, catalogue: psycopg.AsyncConnection) -> None:
        """No view that reads as its owner, no materialised view, no function that runs as its owner."""
        views = await column(catalogue, f"SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND (c.relkind = 'm' OR (c.relkind = 'v' AND NOT coalesce(c.reloptions @> '{{security_invoker=true}}', false)))")  # fmt: skip
        definers = await column(catalogue, f"SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS} AND p.prosecdef")  # fmt: skip
        assert (views, definers) == ([], [])

    async def test_the_roles_can_do_nothing_else(self, catalogue: psycopg.AsyncConnection) -> None:
        able = "rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication OR rolinherit"
        assert await column(catalogue, f"SELECT rolname FROM pg_roles WHERE rolname IN ('aidos_app', 'aidos_platform') AND ({able})") == []
        assert await column(catalogue, "SELECT rolname FROM pg_roles WHERE rolname = 'aidos' AND (rolsuper OR rolbypassrls)") == []

    async def test_the_detector_sees_a_table_without_a_wall(self, catalogue: psycopg.AsyncConnection) -> None:
        async with catalogue.transaction(force_rollback=True):
            await catalogue.execute("CREATE TABLE cluster.planted (org_id uuid)")
            with pytest.raises(AssertionError):
                await self.test_every_table_has_row_security_on_and_forced(catalogue)
            with pytest.raises(AssertionError):
                await self.test_every_tenants_table_has_a_policy_that_compares_the_tenant(catalogue)

    async def test_the_detector_sees_a_view_that_reads_as_its_owner(self, catalogue: psycopg.AsyncConnection) -> None:
        async with catalogue.transaction(force_rollback=True):
            await catalogue.execute("CREATE VIEW cluster.planted AS SELECT * FROM cluster.events")
            with pytest.raises(AssertionError):
                await self.test_nothing_walks_around_it(catalogue)


class TestTenants:
    """What a transaction of another tenant sees of securityvault, row by row."""

    TABLES = (
        "organisations", "projects", "accounts", "memberships", "api_keys", "sessions", "refresh_tokens", "invitations", "audit_log",
        "audit_heads", "audit_checkpoints", "job_grants", "secrets",
    )  # fmt: skip

    async def test_see_nothing_of_each_other(self, vault: Vault) -> None:
        await make_member(vault, "ci", Role.DEVELOPER)
        async with vault.db.platform() as conn:
            await service.create_organisation(conn, vault.scope, "other", "eve@example.org")
            await service.seal(conn, vault.authenticator.audit_keys)
        async with vault.db.tenant(org_id=new_id(), project_id=new_id()) as conn:
            for table in self.TABLES:
                row = await (await conn.execute(f"SELECT count(*) AS rows FROM securityvault.{table}")).fetchone()
                assert row == {"rows": 0}, table
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
            names = [row["name"] for row in await (await conn.execute("SELECT name FROM securityvault.organisations")).fetchall()]
            assert names == ["default"]

    async def test_write_nothing_into_each_other(self, vault: Vault) -> None:
        other = new_id()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with vault.db.tenant(org_id=other, project_id=None) as conn:
                await conn.execute(
                    "INSERT INTO securityvault.accounts (id, org_id, kind, name, org_admin) VALUES (%s, %s, 'user', 'eve', true)",
                    (new_id(), vault.scope.org_id),
                )
        async with vault.db.tenant(org_id=other, project_id=None) as conn:
            changed = await conn.execute("UPDATE securityvault.accounts SET operator = true")
            assert changed.rowcount == 0

    async def test_the_login_itself_sees_no_row(self, vault: Vault) -> None:
        async with await psycopg.AsyncConnection.connect(vault.settings.database_url.get_secret_value(), autocommit=True) as conn:
            row = await (await conn.execute("SELECT count(*) FROM securityvault.accounts")).fetchone()
            assert row == (0,)
