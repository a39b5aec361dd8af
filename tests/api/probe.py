"""Routes that exist only in tests: each does one thing that the edge has to deal with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Path, Response
from pydantic import Field
from starlette.responses import JSONResponse

from aidos.errors import Conflict, NotFound
from aidos.schemas.common import Asked, Name, Wire
from api.deps import PUBLIC, ApiRoute, IfMatch, IfNoneMatch, SessionDep, TxDep, WaitS, check_etag, is_current, needs
from api.sse import Batch, LastEventId, StreamEvent, stream
from cluster.db import Connection, load_queries
from cluster.events import Event, list_events, publish

router = APIRouter(prefix="/v1/probe", tags=["probe"], route_class=ApiRoute)
Q = load_queries("cluster")
Subject = Annotated[str, Path(max_length=100)]

calls: list[str] = []
"""What handlers did, in order: the test reads and clears it."""
gate = asyncio.Event()
"""Holds ``create_slowly`` until the test opens it."""


class ThingCreate(Asked):
    name: Name
    labels: dict[str, Any] = {}
    sizes: list[Annotated[int, Field(ge=0)]] = []


class ThingRead(Wire):
    name: str
    number: int


class RemoteNotFound(NotFound):
    title = "Not there, says the actor"
    detail = "There is no {name}."


class RayTaskError(Exception):
    """Stands for Ray's: raised in place of the remote error, which is its cause."""

    __module__ = "ray.exceptions"

    def __init__(self, cause: Exception) -> None:
        super().__init__("a long remote traceback")
        self.cause = cause


class ActorDiedError(Exception):
    __module__ = "ray.exceptions"


class RayActorError(ActorDiedError):
    __module__ = "ray.exceptions"


FAILURES: dict[str, Callable[[], Exception]] = {
    "declared": lambda: Conflict(reason="The moon is full."),
    "bug": lambda: RuntimeError("secret: hunter2"),
    "remote": lambda: RayTaskError(RemoteNotFound(name="it")),
    "remote-bug": lambda: RayTaskError(ValueError("secret: hunter2")),
    "actor-died": lambda: RayActorError("secret: hunter2"),
    "cancelled-query": lambda: psycopg.errors.QueryCanceled("SELECT secret"),
    "deadlock": lambda: psycopg.errors.DeadlockDetected("UPDATE secret"),
    "unique": lambda: psycopg.errors.UniqueViolation("Key (secret)"),
    "check": lambda: psycopg.errors.CheckViolation("secret_check"),
    "privilege": lambda: psycopg.errors.InsufficientPrivilege("secret table"),
}


@router.post("/things", status_code=201, openapi_extra=needs("modelhub:write"))
async def create_probe_thing(body: ThingCreate, tx: TxDep, response: Response) -> ThingRead:
    """Write an event and answer."""
    calls.append(f"create {body.name}")
    await _publish(tx.conn, tx, body.name)
    response.headers["Location"] = f"/v1/probe/things/{body.name}"
    return ThingRead(name=body.name, number=len(calls))


@router.post("/slow-things", status_code=201, openapi_extra=needs("modelhub:write"))
async def create_probe_thing_slowly(body: ThingCreate, tx: TxDep) -> ThingRead:
    """Stay in the transaction until the test opens the gate."""
    calls.append(f"create {body.name}")
    await gate.wait()
    await _publish(tx.conn, tx, body.name)
    return ThingRead(name=body.name, number=len(calls))


@router.post("/long-things", status_code=201, openapi_extra=needs("modelhub:write", transaction=False))
async def create_probe_thing_in_its_own(body: ThingCreate, session: SessionDep) -> ThingRead:
    """Write an event in a transaction of its own, then wait for the gate; refuse what is called ``refused``."""
    calls.append(f"create {body.name}")
    async with session.change() as conn:
        await _publish(conn, session, body.name)
    await gate.wait()
    if body.name.startswith("refused"):
        raise Conflict(reason="It is refused.")
    return ThingRead(name=body.name, number=len(calls))


@router.post("/failing-things/{failure}", openapi_extra=needs("modelhub:write"))
async def create_probe_failure(failure: str, body: ThingCreate, tx: TxDep) -> ThingRead:
    """Write an event, then fail: the event must not stay."""
    calls.append(f"fail {failure}")
    await _publish(tx.conn, tx, body.name)
    raise FAILURES[failure]()


@router.post("/refused-things", openapi_extra=needs("modelhub:write"))
async def create_probe_refusal(body: ThingCreate, tx: TxDep) -> Response:
    """Write an event, then return, not raise, a refusal."""
    calls.append("refuse")
    await _publish(tx.conn, tx, body.name)
    return JSONResponse({"refused": True}, status_code=503)


@router.post("/contended-things", status_code=201, openapi_extra=needs("modelhub:write"))
async def create_probe_thing_contended(body: ThingCreate, tx: TxDep) -> ThingRead:
    """Lose the race twice."""
    calls.append("try")
    await _publish(tx.conn, tx, body.name)
    if len(calls) < 3:
        raise psycopg.errors.SerializationFailure("could not serialize access")
    return ThingRead(name=body.name, number=len(calls))


@router.post("/stored-values", openapi_extra=needs("modelhub:write"))
async def create_probe_value(body: ThingCreate, tx: TxDep) -> ThingRead:
    """Hand the labels to PostgreSQL as they are."""
    await publish(tx.conn, _event(tx, body.name, body.labels))
    return ThingRead(name=body.name, number=0)


@router.get("/things/{subject}", openapi_extra=needs("modelhub:read", transaction=False))
async def get_probe_thing(subject: Subject, session: SessionDep, wait: WaitS) -> ThingRead:
    """How many events a subject has; with ``wait``, once it has one."""

    async def count(conn: Connection) -> int:
        calls.append("read")
        return len(await list_events(conn, after_seq=0, subject=subject))

    number = await session.wait_until(count, lambda found: found > 0, wait)
    return ThingRead(name=subject, number=number)


@router.get("/things/{subject}/stream", openapi_extra=needs("modelhub:read", transaction=False))
async def stream_probe_things(subject: Subject, session: SessionDep, last_event_id: LastEventId = None) -> Response:
    """The subject's events; the one called ``end`` is the last."""

    async def read(conn: Connection, after: str | None) -> Batch:
        calls.append("read")
        events = await list_events(conn, after_seq=int(after or 0), subject=subject)
        return Batch([StreamEvent(str(e.seq), e.data) for e in events], done=any("end" in e.data for e in events))

    return stream(session, read, last_event_id)


@router.put("/versioned/{version}", openapi_extra=needs("modelhub:write"))
async def update_probe_versioned(version: str, tx: TxDep, if_match: IfMatch = None) -> ThingRead:
    """A resource whose ETag is its version."""
    check_etag(if_match, f'"{version}"')
    return ThingRead(name=version, number=1)


@router.get("/versioned/{version}", openapi_extra=needs("modelhub:read"))
async def get_probe_versioned(version: str, tx: TxDep, if_none_match: IfNoneMatch = None) -> Response:
    """A resource whose ETag is its version."""
    etag = f'"{version}"'
    return Response(status_code=304 if is_current(if_none_match, etag) else 200, headers={"ETag": etag})


@router.get("/sleep", openapi_extra=needs("modelhub:read", transaction=False))
async def get_probe_sleep(session: SessionDep) -> None:
    """Never answer."""
    await asyncio.Event().wait()


@router.get("/public-failure/{failure}", openapi_extra=needs(PUBLIC))
async def get_probe_public_failure(failure: str) -> None:
    """Fail for anybody."""
    raise FAILURES[failure]()


def _event(tx: TxDep | SessionDep, subject: str, data: dict[str, Any]) -> Event:
    return Event("probe.thing.created", subject, tx.scope.org_id, tx.scope.project_id, tx.scope.actor, data)


async def _publish(conn: Connection, tx: TxDep | SessionDep, subject: str) -> None:
    await publish(conn, _event(tx, subject, {"subject": subject}))
