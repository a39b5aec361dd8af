"""What an acknowledgement is worth: writers through the real API, kills of the server under them, an auditor of the database.

The writers are the SDK itself over the gateway's ASGI application, so a broken call is repeated under its ``Idempotency-Key``
as a user's would be. They remember what was acknowledged; the auditor, who reads the database alone, says what of it is
missing, what is there twice, and what is there only in part.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import psutil

from actors.modelhub.series.models import Columns
from actors.securityvault import service as securityvault
from actors.securityvault.models import Scope
from aidos import AsyncClient
from aidos.errors import Unavailable
from aidos.http.transport import http_options
from api.app import build_app, build_edge
from api.sink import PointSink
from cluster import launch, postgres_server
from cluster.db import Database
from cluster.objects import Objects, blob_key
from cluster.settings import Settings
from cluster.supervision import Supervisor
from tests.support.waiting import wait_until_async

_URL = "http://gateway.test"
_EXPERIMENT = "durability"


def kill_program(settings: Settings, name: str) -> int:
    """``kill -9`` of every process of a supervised program, its first process before the others; how many there were.

    The first one dies first, so that PostgreSQL's postmaster cannot see its backends die and end in good order.
    """
    (first,) = [status.pid for status in Supervisor(settings.home).status() if status.name == name]
    victims = sorted(launch.find_marked(settings.home, name), key=lambda process: process.pid != first)
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
    return len(victims)


@dataclass
class History:
    """What the writers were told: names that were acknowledged, each with the id in the answer."""

    acknowledged: dict[str, UUID] = field(default_factory=dict)
    kills: int = 0


@dataclass(frozen=True)
class Verdict:
    """``lost``: acknowledged and not there. ``duplicated``: one request, two effects. ``torn``: a run without exactly one event."""

    rows: int
    lost: frozenset[str]
    duplicated: frozenset[str]
    torn: int


@contextlib.asynccontextmanager
async def api_client(settings: Settings) -> AsyncIterator[AsyncClient]:
    """The SDK, signed in as administrator, over the gateway's application in this process."""
    async with Database(settings) as db:
        key = await securityvault.bootstrap(db, settings) or await securityvault.replace_admin_key(db, settings)
    edge = build_edge(settings)
    client = AsyncClient(_URL, key, "default")
    transport = httpx.ASGITransport(build_app(edge), raise_app_exceptions=False, client=("192.0.2.1", 4711))
    client.transport.http = httpx.AsyncClient(**http_options(_URL, 60.0), transport=transport)
    async with edge.running(), client:
        yield client


async def write_under_kills(settings: Settings, client: AsyncClient, *, writes: int, kills: int, writers: int = 8) -> History:
    """Begin ``writes`` runs by ``writers`` at once, killing PostgreSQL ``kills`` times at even distances of acknowledgements."""
    history = History()
    await client.experiments.create(_EXPERIMENT)
    with postgres_server.connect_superuser(settings) as connection:
        connection.execute("CHECKPOINT")  # the experiment is not what is at stake
    names = iter(f"write-{number}" for number in range(writes))

    async def write() -> None:
        for name in names:
            run = await client.runs.create(experiment=_EXPERIMENT, name=name)
            history.acknowledged[name] = run.id

    async def kill() -> None:
        for number in range(1, kills + 1):
            due = writes * number // (kills + 1)
            await wait_until_async(lambda due=due: _reached(history, due), within_s=120)
            assert await asyncio.to_thread(kill_program, settings, "postgres") > writers
            history.kills += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill())
        for _ in range(writers):
            tasks.create_task(write())
    return history


async def log_under_kills(settings: Settings, run_id: UUID, scope: Scope, *, batches: int, kills: int, writers: int = 8) -> int:
    """Log ``batches`` of 100 points by ``writers`` at once through one sink, each again until it is answered; how often PostgreSQL was killed."""
    numbers, answered, killed = iter(range(batches)), 0, 0
    async with Database(settings) as db:
        sink = PointSink(db)

        async def write() -> None:
            nonlocal answered
            for number in numbers:
                points = Columns(["loss"] * 100, list(range(100 * number, 100 * number + 100)), [0] * 100, [1.0] * 100)
                while True:
                    with contextlib.suppress(Unavailable):
                        await sink.log(scope, run_id, points)
                        break
                answered += 1

        async def has_answered(due: int) -> bool:
            return answered >= due

        async with asyncio.TaskGroup() as tasks:
            for _ in range(writers):
                tasks.create_task(write())
            for number in range(1, kills + 1):
                due = batches * number // (kills + 1)
                await wait_until_async(lambda due=due: has_answered(due), within_s=120)
                killed += await asyncio.to_thread(kill_program, settings, "postgres") > 0
    return killed


async def _reached(history: History, due: int) -> bool:
    return len(history.acknowledged) >= due


def audit(settings: Settings, history: History) -> Verdict:
    """Compare what was acknowledged with what the database holds; reads nothing else."""
    database = settings.database_url.get_secret_value().rsplit("/", 1)[1]
    with postgres_server.connect_superuser(settings, database) as connection:
        rows = connection.execute("SELECT name, id FROM modelhub.runs").fetchall()
        torn = connection.execute(
            "SELECT count(*) FROM (SELECT r.id FROM modelhub.runs r LEFT JOIN cluster.events e"
            " ON e.subject = r.id::text AND e.type = 'modelhub.run.created' GROUP BY r.id HAVING count(e.id) <> 1) AS broken"
        ).fetchone()
    found: dict[str, set[UUID]] = {}
    for name, id in rows:
        found.setdefault(name, set()).add(id)
    lost = frozenset(name for name, id in history.acknowledged.items() if id not in found.get(name, set()))
    return Verdict(len(rows), lost, frozenset(name for name, ids in found.items() if len(ids) > 1), torn[0] if torn else 0)


@contextlib.contextmanager
def careless_commits(settings: Settings) -> Iterator[None]:
    """PostgreSQL acknowledges before it writes: what no installation may do, and what the auditor must notice."""
    changes = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
    with postgres_server.connect_superuser(settings) as connection:
        for name, value in changes.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        with postgres_server.connect_superuser(settings) as connection:
            for name in changes:
                connection.execute(f"ALTER SYSTEM RESET {name}")
            connection.execute("SELECT pg_reload_conf()")


@dataclass
class Blobs:
    """Objects whose storing was acknowledged: by key, the SHA-256 of what was sent."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    kills: int = 0


async def put_under_kills(settings: Settings, project_id: UUID, *, puts: int, kills: int, size_bytes: int = 48_000) -> Blobs:
    """Store ``puts`` content-addressed objects by four writers, killing the object store ``kills`` times on the way."""
    objects, blobs = Objects(settings), Blobs()
    await objects.ensure_bucket()
    left = iter(range(puts))

    async def write() -> None:
        for _ in left:
            data = os.urandom(size_bytes)
            while True:
                with contextlib.suppress(Unavailable):
                    sha256 = await objects.put_blob(project_id, data)
                    break
            blobs.acknowledged[blob_key(project_id, sha256)] = hashlib.sha256(data).hexdigest()

    async def kill() -> None:
        for number in range(1, kills + 1):
            due = puts * number // (kills + 1)
            await wait_until_async(lambda due=due: _stored(blobs, due), within_s=120)
            assert await asyncio.to_thread(kill_program, settings, "s3") >= 1
            blobs.kills += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill())
        for _ in range(4):
            tasks.create_task(write())
    return blobs


async def _stored(blobs: Blobs, due: int) -> bool:
    return len(blobs.acknowledged) >= due


async def find_damaged(settings: Settings, blobs: Blobs) -> tuple[set[str], set[str]]:
    """Keys of acknowledged objects that are missing, and of those whose bytes are others."""
    objects, missing, corrupt = Objects(settings), set(), set()
    for key, sha256 in blobs.acknowledged.items():
        if await objects.find(key) is None:
            missing.add(key)
        elif hashlib.sha256(await objects.get(key)).hexdigest() != sha256:
            corrupt.add(key)
    return missing, corrupt
