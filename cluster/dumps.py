"""The database as one file: PostgreSQL's own pg_dump and pg_restore, as a role that sees all rows.

What they need to sign in goes through the environment of the child alone, never through its command line.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from aidos.errors import AidosError, Conflict, Unavailable
from cluster import embedded, postgres_server
from cluster.settings import Settings

# Roles belong to the server, not to the database: a dump does not hold them (cluster/migrations/0001_substrate.sql makes them first).
_ROLES = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidos_app') THEN CREATE ROLE aidos_app NOLOGIN NOINHERIT; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidos_platform') THEN CREATE ROLE aidos_platform NOLOGIN NOINHERIT; END IF;
END $$
"""
_GRANT = """
DO $$ BEGIN
    EXECUTE format('GRANT aidos_app, aidos_platform TO %s WITH INHERIT FALSE, SET TRUE',
                   (SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'cluster'));
END $$
"""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')"
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
 ORDER BY 1, 2
"""


class BackupFailed(AidosError):
    """A backup was not made, or not restored; the sentence says why."""

    status = 500
    title = "Backup failed"
    detail = "{reason}"


@dataclass(frozen=True)
class Server:
    """The platform's database, reached as a role that row policies do not bind; ``login`` is the role that the platform signs in as."""

    conninfo: str
    login: str

    @contextlib.contextmanager
    def connect(self, *, autocommit: bool = True) -> Iterator[psycopg.Connection]:
        """A connection; one transaction as a whole without ``autocommit``. Raises: Unavailable."""
        try:
            connection = psycopg.connect(self.conninfo, autocommit=autocommit, connect_timeout=5, application_name="aidos-backup")
        except psycopg.OperationalError as error:
            reason = "The database does not answer: `aidos up --only postgres --only s3` starts what a backup needs."
            raise Unavailable(reason=reason, retry_after_s=5) from error
        with connection:
            yield connection

    @property
    def database(self) -> str:
        return str(conninfo_to_dict(self.conninfo)["dbname"])

    def environment(self) -> dict[str, str]:
        """The connection as libpq's variables, for a child process."""
        names = {option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
        given = conninfo_to_dict(self.conninfo)
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **{names[name]: str(value) for name, value in given.items() if name in names}}


def find_server(settings: Settings) -> Server:
    """The embedded server as its superuser through the Unix socket; an outer one as its URL says."""
    login = settings.database_url.get_secret_value()
    if not login:
        raise Conflict(reason="No platform was ever started here: `aidos up --only postgres --only s3` makes an empty one.")
    if not embedded.is_embedded(settings, "database_url"):
        return Server(login, login)
    known = conninfo_to_dict(login)
    socket = str(postgres_server.socket_directory_of(settings.home))
    return Server(make_conninfo(host=socket, port=known["port"], user="postgres", dbname=known["dbname"]), login)


def refuse_blind(connection: psycopg.Connection) -> None:
    """Raises: Conflict when row policies would hide rows from the dump."""
    row = connection.execute("SELECT current_user, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
    if row and not row[1]:
        raise Conflict(
            reason=f"The role {row[0]} does not see all rows of the database. "
            "Give AIDOS_DATABASE_URL, for this command, a role with BYPASSRLS that may read every table."
        )


def count_rows(connection: psycopg.Connection) -> dict[str, int]:
    """Rows of every table of the platform."""
    counts = {}
    for schema, table in connection.execute(_TABLES).fetchall():
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))).fetchone()
        counts[f"{schema}.{table}"] = row[0] if row else 0
    return counts


def dump(server: Server, snapshot: str, path: Path) -> None:
    """Write the database, as ``snapshot`` shows it, to one file in pg_dump's custom format. Raises: BackupFailed."""
    _run(server, "pg_dump", "--format=custom", "--no-password", f"--snapshot={snapshot}", f"--file={path}")


def load(server: Server, path: Path) -> None:
    """Replace everything in the database by what ``dump`` wrote. Raises: BackupFailed."""
    with psycopg.connect(server.login, autocommit=True, connect_timeout=5) as connection:
        connection.execute(_ROLES)
    with server.connect() as connection:
        for (schema,) in connection.execute(_SCHEMAS).fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    options = ("--single-transaction", "--exit-on-error", "--no-comments", "--no-password")
    _run(server, "pg_restore", *options, f"--dbname={server.database}", str(path))
    with server.connect(autocommit=False) as connection:
        _renumber_events(connection)
    with server.connect() as connection:
        connection.execute(_GRANT)  # to the role that the platform signs in as, whoever restores
        connection.execute("ANALYZE")


def _run(server: Server, program: str, *arguments: str) -> None:
    command = [str(postgres_server.BIN / program), *arguments]
    done = subprocess.run(command, env=server.environment(), cwd="/", umask=0o077, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        raise BackupFailed(reason=f"{program} ended with {done.returncode} and said {said[0]!r}.")


def _renumber_events(connection: psycopg.Connection) -> None:
    """Give events transaction numbers that this server has passed, unless they have such.

    Consumers read no event whose number is in the server's future, and skip those before their cursor; numbers of another server would
    stop them, or make them lose what comes next. Events between the same two cursors get one number, so each consumer goes on exactly
    where it was; within a number events are in the order of ``seq``.
    """
    row = connection.execute(
        "SELECT coalesce(max(xid) >= pg_snapshot_xmin(pg_current_snapshot()), false)"
        " FROM (SELECT xid FROM cluster.events UNION ALL SELECT xid FROM cluster.event_cursors) AS numbers"
    ).fetchone()
    if row is None or not row[0]:
        return
    connection.execute(
        "UPDATE cluster.events AS e SET xid = (1 + (SELECT count(*) FROM (SELECT DISTINCT xid, seq FROM cluster.event_cursors) AS c"
        " WHERE (c.xid, c.seq) < (e.xid, e.seq)))::text::xid8"
    )
    connection.execute(
        "UPDATE cluster.event_cursors AS c SET xid = ranked.rank::text::xid8, seq = 9223372036854775807"
        " FROM (SELECT consumer, dense_rank() OVER (ORDER BY xid, seq) AS rank FROM cluster.event_cursors) AS ranked"
        " WHERE ranked.consumer = c.consumer"
    )
