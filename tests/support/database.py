"""A database of its own for each test process: the schema made once, rows put back to what the migrations made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from psycopg import sql
from pydantic import SecretStr

from cluster import postgres_server
from cluster.migrate import migrate
from cluster.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TIERS = ("actors", "data_pipelines", "serve_apps", "tune")
_BOOKKEEPING = {"cluster.migrations", "cluster.schema_fingerprint"}


def packages_with_migrations() -> list[str]:
    """``cluster`` first, then every module: a module's migrations name only its own schema, so their order is free."""
    modules = [
        str(path.parent.relative_to(ROOT)).replace("/", ".") for tier in TIERS for path in sorted((ROOT / tier).glob("*/migrations"))
    ]
    return ["cluster", *modules]


def make_database(storage: Settings, name: str, *, durable: bool = False) -> Settings:
    """Make and migrate database ``name`` on the test server; the settings that reach it.

    Unless it is ``durable``, no commit waits for the disk: nobody kills the server under it.
    """
    postgres_server.create_database(storage, name)
    if not durable:
        with postgres_server.connect_superuser(storage) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
    url = storage.database_url.get_secret_value().rsplit("/", 1)[0] + f"/{name}"
    settings = storage.model_copy(update={"database_url": SecretStr(url)})
    migrate(settings, packages_with_migrations())
    return settings


class Rows:
    """What the migrations put into the tables, and the way back to it. Acts as superuser: row policies do not bind it."""

    def __init__(self, settings: Settings) -> None:
        name = settings.database_url.get_secret_value().rsplit("/", 1)[1]
        self._connection = postgres_server.connect_superuser(settings, name)
        # Foreign keys rest while seeded rows are put back in any order.
        self._connection.execute("SET session_replication_role = replica")
        # A transaction that a test left open is that test's fault, and none of the next ones'.
        self._connection.execute("SET lock_timeout = '20s'")
        self._tables = [table for table in self._list_tables() if table not in _BOOKKEEPING]
        self._seeds = {table: self._dump(table) for table in self._filled(self._tables)}

    def reset(self) -> None:
        """Empty every table that holds rows, and put the seeded rows back."""
        filled = self._filled(self._tables)
        if not filled:
            return
        names = sql.SQL(", ").join(_identifier(table) for table in filled)
        self._connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        for table, rows in self._seeds.items():
            with self._connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(_identifier(table))) as copy:
                copy.write(rows)

    def close(self) -> None:
        self._connection.close()

    def _list_tables(self) -> list[str]:
        rows = self._connection.execute(
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"
        )
        return sorted(row[0] for row in rows)

    def _filled(self, tables: Iterable[str]) -> list[str]:
        probes = [sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(table), _identifier(table)) for table in tables]
        return [row[0] for row in self._connection.execute(sql.SQL(" UNION ALL ").join(probes))] if probes else []

    def _dump(self, table: str) -> bytes:
        with self._connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} TO STDOUT").format(_identifier(table))) as copy:
            return b"".join(bytes(part) for part in copy)


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split(".", 1))


def drop_database(settings: Settings) -> None:
    """End a database that a test made for itself."""
    name = settings.database_url.get_secret_value().rsplit("/", 1)[1]
    with postgres_server.connect_superuser(settings) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
