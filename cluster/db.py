"""PostgreSQL: one pool a process, two walls between tenants, named queries, forward-only migrations.

A transaction is opened at the edge by ``Database.tenant`` or ``Database.platform`` and passed on as ``conn``;
nobody else commits. The login role owns the schema but has no row policy, so a statement outside these two
sees no rows; ``tenant`` acts as ``aidos_app`` (rows of one organisation and project), ``platform`` as
``aidos_platform`` (all rows; reconcilers, sign-in).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.resources
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, LiteralString, TypeVar, cast
from uuid import UUID

import psycopg
import uuid_utils
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from aidos.errors import Unavailable
from cluster.settings import Settings, get_settings

T = TypeVar("T")
Connection = psycopg.AsyncConnection[DictRow]

# What PostgreSQL says when it, not the statement, is at fault: connection lost, out of resources, shut down (57014 is a cancelled query).
_AWAY = ("08", "53", "57P")
_CONNECT_ATTEMPTS = 12


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): ordered by time, made by the application."""
    return UUID(int=uuid_utils.uuid7().int)


@functools.lru_cache(maxsize=1000)
def _begin(role: str, org: str, project: str) -> bytes:
    """What begins a transaction, in one exchange that nothing is planned for: every request pays for it.

    It waits for no row for ever: who waits holds one of the pool's connections.
    """
    begin = sql.SQL("BEGIN; SET LOCAL ROLE {}; SET LOCAL aidos.org = {}; SET LOCAL aidos.project = {}; SET LOCAL lock_timeout = '10s'")
    return begin.format(sql.Identifier(role), sql.Literal(org), sql.Literal(project)).as_bytes()


@functools.cache
def load_queries(package: str) -> SimpleNamespace:
    """The named blocks ``-- name --`` of ``queries.sql`` in ``package``, as attributes. A block ``-- {name} --`` stands for ``{name}`` in them."""
    text = importlib.resources.files(package).joinpath("queries.sql").read_text()
    parts = re.split(r"(?m)^-- (\w+|\{\w+\}) --\s*$", text)
    blocks = dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))
    for shared in [name for name in blocks if name.startswith("{")]:
        text = blocks.pop(shared)
        blocks = {name: body.replace(shared, text) for name, body in blocks.items()}
    return SimpleNamespace(**blocks)


class Database:
    """A pool of connections of this process. Open it with ``async with Database(settings) as db``."""

    def __init__(self, settings: Settings | None = None, timeout_s: float = 10.0) -> None:
        self.settings = settings or get_settings()
        self._url = self.settings.database_url.get_secret_value()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self._url,
            min_size=1,
            max_size=self.settings.database_pool_connections,
            kwargs={"row_factory": dict_row, "autocommit": True, "application_name": "aidos"},
            timeout=timeout_s,
            open=False,
        )

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the pool; connections are made in the background."""
        await self._pool.open()

    async def close(self) -> None:
        """Close the pool; transactions under way end first."""
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def tenant(self, *, org_id: UUID, project_id: UUID | None) -> AsyncIterator[Connection]:
        """A transaction that sees the rows of one organisation and one project.

        Raises: Unavailable when PostgreSQL is away; the transaction then had no effect, unless the connection
        was lost during COMMIT itself (retry with the same idempotency key).
        """
        async with self._transaction(_begin("aidos_app", str(org_id), str(project_id or ""))) as conn:
            yield conn

    @contextlib.asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """A transaction of the platform itself: all rows. Raises: Unavailable."""
        async with self._transaction(_begin("aidos_platform", "", "")) as conn:
            yield conn

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: bytes) -> AsyncIterator[Connection]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                conn = await self._begin(stack, begin)
            except (psycopg.OperationalError, PoolTimeout) as error:
                raise Unavailable(reason="The database cannot be reached.", retry_after_s=2) from error
            try:
                async with stack:
                    yield conn
                    await conn.commit()  # the pool would let a connection that was lost end without a word
            except psycopg.OperationalError as error:
                if error.sqlstate is not None and not error.sqlstate.startswith(_AWAY):
                    raise
                raise Unavailable(reason="The database went away during the request.", retry_after_s=2) from error

    async def _begin(self, stack: contextlib.AsyncExitStack, begin: bytes) -> Connection:
        """Open the transaction. A connection that a server restart left dead is replaced, since nothing was done on it yet."""
        for attempt in range(_CONNECT_ATTEMPTS):
            async with contextlib.AsyncExitStack() as trial:
                conn = await trial.enter_async_context(self._pool.connection())
                try:
                    await conn.execute(begin, prepare=False)
                except psycopg.OperationalError:
                    if attempt == _CONNECT_ATTEMPTS - 1:
                        raise
                    await conn.close()
                    continue
                stack.push_async_exit(trial.pop_all())
                return conn
        raise AssertionError("unreachable")

    async def listen(self, channel: LiteralString, lost: Callable[[], None] | None = None) -> AsyncIterator[str]:
        """Payloads of NOTIFY on ``channel``, for ever; reconnects. Yields '' after each (re)connect: look for yourself.

        ``lost`` is called whenever the connection is found gone: from then until the next '' nothing is heard.
        """
        while True:
            try:
                # A server that vanished without a word (power, partition) is noticed in 3 s, not in the kernel's 2 hours.
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, keepalives_idle=1, keepalives_interval=1, keepalives_count=2
                ) as conn:
                    await conn.execute(cast(LiteralString, f"LISTEN {channel}"))
                    yield ""
                    async for notify in conn.notifies():
                        yield notify.payload
            except psycopg.OperationalError:
                if lost is not None:
                    lost()
                await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def savepoint(conn: Connection) -> AsyncIterator[None]:
    """Undo what is inside, and only that, when it raises."""
    async with conn.transaction():
        yield


def one(kind: type[T], row: Mapping[str, Any] | None) -> T | None:
    """Build a model from a row, or None from no row. Columns and fields have the same names."""
    return kind(**row) if row is not None else None


@contextlib.contextmanager
def unique(constraint: str, error: Exception) -> Iterator[None]:
    """Turn a violation of the named unique constraint into ``error``."""
    try:
        yield
    except psycopg.errors.UniqueViolation as violation:
        if violation.diag.constraint_name != constraint:
            raise
        raise error from violation
