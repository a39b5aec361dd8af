"""Forward-only migrations, a directory a module, under one advisory lock; the schema must equal them.

Each ``<module>/migrations/NNNN_title.sql`` runs once, in its own transaction, as the login role. What ran is kept
with its checksum, and after each run the fingerprint of the catalogue: so an edited file and a schema that somebody
changed by hand are both refused by name.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Iterable
from dataclasses import dataclass
from typing import LiteralString, cast

import psycopg

from aidos.errors import Conflict
from cluster.settings import Settings

_LOCK_KEY = 0x41_49_44_4F_53  # "AIDOS"


class MigrationChanged(Conflict):
    title = "Migration was edited"
    detail = "Migration {module}/{name} was edited after it ran. Restore it and write a new one."


class SchemaDrifted(Conflict):
    title = "Schema was changed by hand"
    detail = "The database schema differs from the migrations that made it: {difference}. Undo the change, or write a migration."


@dataclass(frozen=True)
class Migration:
    """One file: its module, name, text and SHA-256."""

    module: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def collect(packages: Iterable[str]) -> list[Migration]:
    """The migrations of the packages, in the packages' order, then by name."""
    found = []
    for package in packages:
        root = importlib.resources.files(package).joinpath("migrations")
        files = sorted((f for f in root.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name) if root.is_dir() else []
        found += [Migration(package.rsplit(".", 1)[-1], f.name, f.read_text()) for f in files]
    return found


def migrate(settings: Settings, packages: Iterable[str]) -> list[str]:
    """Bring the database to the packages' schema; the names that ran now.

    Raises: MigrationChanged, SchemaDrifted.
    """
    ran: list[str] = []
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        conn.execute(_BOOKKEEPING)
        done = {
            (module, name): checksum for module, name, checksum in conn.execute("SELECT module, name, checksum FROM cluster.migrations")
        }
        _refuse_drift(conn)
        for migration in collect(packages):
            known = done.get((migration.module, migration.name))
            if known is not None and known != migration.checksum:
                raise MigrationChanged(module=migration.module, name=migration.name)
            if known is None:
                _run(conn, migration)
                ran.append(f"{migration.module}/{migration.name}")
    return ran


def _run(conn: psycopg.Connection, migration: Migration) -> None:
    with conn.transaction():
        conn.execute(cast(LiteralString, migration.sql))
        conn.execute(
            "INSERT INTO cluster.migrations (module, name, checksum) VALUES (%s, %s, %s)",
            (migration.module, migration.name, migration.checksum),
        )
        conn.execute("DELETE FROM cluster.schema_fingerprint")
        conn.execute(f"INSERT INTO cluster.schema_fingerprint (object) {_CATALOGUE}")


def _refuse_drift(conn: psycopg.Connection) -> None:
    recorded = {row[0] for row in conn.execute("SELECT object FROM cluster.schema_fingerprint")}
    if not recorded:
        return
    live = {row[0] for row in conn.execute(_CATALOGUE)}
    added, missing = sorted(live - recorded), sorted(recorded - live)
    if added or missing:
        raise SchemaDrifted(difference="; ".join([f"not in migrations: {o}" for o in added[:3]] + [f"missing: {o}" for o in missing[:3]]))


_BOOKKEEPING = """
CREATE SCHEMA IF NOT EXISTS cluster;
CREATE TABLE IF NOT EXISTS cluster.migrations (
    module text NOT NULL, name text NOT NULL, checksum text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (module, name)
);
CREATE TABLE IF NOT EXISTS cluster.schema_fingerprint (object text PRIMARY KEY);
"""

_SCHEMAS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"
# Partitions come and go by themselves, so they are not part of the fingerprint.
_CATALOGUE: LiteralString = f"""
SELECT format('column %s.%s.%s %s%s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN ' not null' ELSE '' END) AS object
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {_SCHEMAS} AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
UNION SELECT format('index %s.%s', n.nspname, pg_get_indexdef(c.oid))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_SCHEMAS} AND c.relkind IN ('i', 'I') AND NOT c.relispartition
UNION SELECT format('policy %s.%s.%s %s', n.nspname, c.relname, p.polname, pg_get_expr(p.polqual, p.polrelid))
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_SCHEMAS}
UNION SELECT format('rls %s.%s %s %s', n.nspname, c.relname, c.relrowsecurity, c.relforcerowsecurity)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_SCHEMAS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition
UNION SELECT format('constraint %s.%s %s', n.nspname, c.relname, pg_get_constraintdef(k.oid))
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {_SCHEMAS} AND NOT c.relispartition
"""
