"""ADR 0005 over the catalogue: every table is closed, and nothing goes around the policies."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from cluster.settings import Settings

pytestmark = pytest.mark.postgres

# The migration runner's own; they hold no tenant's rows, and no role but the owner is granted anything on them.
BOOKKEEPING = ["cluster.migrations", "cluster.schema_fingerprint"]
OURS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"

OPEN_TABLES = f"""
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
 ORDER BY 1
"""
ODD_POLICIES = f"""
SELECT n.nspname || '.' || c.relname || ': ' || coalesce(string_agg(p.polname::text, ',' ORDER BY p.polname), 'none')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_policy p ON p.polrelid = c.oid
 WHERE {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relrowsecurity
 GROUP BY n.nspname, c.relname
HAVING coalesce(string_agg(p.polname::text, ',' ORDER BY p.polname), 'none') <> 'platform,tenant'
"""
# A partition has policies of its own or none: it must be reached through its parent only.
GRANTED_PARTITIONS = f"""
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {OURS} AND c.relispartition AND c.relkind IN ('r', 'p')
   AND has_table_privilege('aidos_app', c.oid, 'SELECT,INSERT,UPDATE,DELETE') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
"""
LEAKING_VIEWS = f"""
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {OURS} AND (c.relkind = 'm' OR (c.relkind = 'v' AND NOT coalesce(c.reloptions, '{{}}') && ARRAY['security_invoker=true', 'security_invoker=on']))
"""
DEFINER_FUNCTIONS = f"""
SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS} AND p.prosecdef
"""
MIGHTY_ROLES = """
SELECT rolname FROM pg_roles WHERE rolname IN (current_user, 'aidos_app', 'aidos_platform') AND (rolsuper OR rolbypassrls)
"""


@pytest.fixture
def catalogue(settings: Settings) -> Iterator[psycopg.Connection]:
    """The login role's connection; what a test makes is rolled back."""
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        yield connection
        connection.rollback()


def names(connection: psycopg.Connection, query: str) -> list[str]:
    return [row[0] for row in connection.execute(query.encode())]


class TestWalls:
    def test_every_table_is_closed_and_forced(self, catalogue: psycopg.Connection) -> None:
        assert names(catalogue, OPEN_TABLES) == BOOKKEEPING

    def test_every_table_has_the_two_policies(self, catalogue: psycopg.Connection) -> None:
        assert names(catalogue, ODD_POLICIES) == []

    def test_no_partition_is_a_way_around_its_parent(self, catalogue: psycopg.Connection) -> None:
        assert names(catalogue, GRANTED_PARTITIONS) == []

    def test_views_act_with_the_rights_of_their_reader(self, catalogue: psycopg.Connection) -> None:
        assert names(catalogue, LEAKING_VIEWS) == []

    def test_no_function_acts_with_its_owners_rights(self, catalogue: psycopg.Connection) -> None:
        assert names(catalogue, DEFINER_FUNCTIONS) == []

    def test_no_role_of_ours_is_above_the_policies(self, catalogue: psycopg.Connection) -> None:
        assert names(catalogue, MIGHTY_ROLES) == []

    def test_nobody_but_the_owner_reads_the_bookkeeping(self, catalogue: psycopg.Connection) -> None:
        for table in BOOKKEEPING:
            row = catalogue.execute("SELECT has_table_privilege('aidos_app', %s, 'SELECT,INSERT,UPDATE,DELETE')", (table,)).fetchone()
            assert row == (False,)


class TestWhatIsReported:
    def test_a_forgotten_wall(self, catalogue: psycopg.Connection) -> None:
        catalogue.execute("CREATE TABLE cluster.forgotten (id int)")
        assert names(catalogue, OPEN_TABLES) == sorted(["cluster.forgotten", *BOOKKEEPING])
        catalogue.execute("ALTER TABLE cluster.forgotten ENABLE ROW LEVEL SECURITY")
        assert "cluster.forgotten" in names(catalogue, OPEN_TABLES), "enabled is not forced"
        catalogue.execute("ALTER TABLE cluster.forgotten FORCE ROW LEVEL SECURITY")
        assert names(catalogue, ODD_POLICIES) == ["cluster.forgotten: none"]

    def test_an_open_partition(self, catalogue: psycopg.Connection) -> None:
        catalogue.execute("CREATE TABLE cluster.parts (id int) PARTITION BY RANGE (id)")
        catalogue.execute("CREATE TABLE cluster.parts_1 PARTITION OF cluster.parts FOR VALUES FROM (0) TO (9)")
        catalogue.execute("GRANT SELECT ON cluster.parts_1 TO aidos_app")
        assert names(catalogue, GRANTED_PARTITIONS) == ["cluster.parts_1"]

    def test_a_view_and_a_function_with_their_owners_rights(self, catalogue: psycopg.Connection) -> None:
        catalogue.execute("CREATE VIEW cluster.leak AS SELECT * FROM cluster.events")
        catalogue.execute("CREATE FUNCTION cluster.leaks() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        assert names(catalogue, LEAKING_VIEWS) == ["cluster.leak"]
        assert names(catalogue, DEFINER_FUNCTIONS) == ["cluster.leaks"]
