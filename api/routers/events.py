"""Routes of the events: what happened in a project, as CloudEvents, listed or as it happens."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sse_starlette import EventSourceResponse

from aidos.errors import InvalidRequest
from aidos.schemas.common import PageOf, decode_cursor, encode_cursor
from aidos.schemas.events import EventRead
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, needs
from api.sse import Batch, LastEventId, StreamEvent, stream
from cluster.db import Connection
from cluster.events import Event, Position, events_position, tail_events

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=ApiRoute)

EventType = Annotated[
    str | None, Query(max_length=100, pattern=r"^[a-z_.]+$", description="A type or its first parts: `modelhub`, `modelhub.run`.")
]
Subject = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Id that it happened to.")]
_BATCH = 100
BEGINNING: Position = (0, -1)


@router.get("", openapi_extra=needs("events:read"))
async def list_events(tx: TxDep, page: PageDep, type: EventType = None, subject: Subject = None) -> PageOf[EventRead]:
    """What happened in the project, oldest first. Follow `stream` for what is new."""
    after = decode_cursor(page.cursor, [number, number]) or BEGINNING
    found = await tail_events(tx.conn, (after[0], after[1]), type=_own_type(type), subject=subject, limit=page.limit)
    cursor = encode_cursor(*found[-1][0]) if len(found) == page.limit else None
    return PageOf(items=[to_wire(event) for _, event in found], next_cursor=cursor)


@router.get("/stream", openapi_extra=needs("events:read", transaction=False), response_class=EventSourceResponse)
async def stream_events(
    session: SessionDep, type: EventType = None, subject: Subject = None, last_event_id: LastEventId = None
) -> EventSourceResponse:
    """What happens in the project from now on (or since `Last-Event-ID`), as server-sent events."""
    start = _position(last_event_id) if last_event_id else None
    return stream(session, _reader(start, _own_type(type), subject), last_event_id)


def _reader(start: Position | None, type: str | None, subject: str | None) -> Any:
    began = start

    async def read(conn: Connection, after: str | None) -> Batch:
        nonlocal began
        if began is None:
            began = await events_position(conn)
        position = _position(after) if after else began
        found = await tail_events(conn, position, type=type, subject=subject, limit=_BATCH)
        events = [StreamEvent(id=f"{at[0]}-{at[1]}", data=to_wire(event), event=event.type) for at, event in found]
        return Batch(events, more=len(found) == _BATCH)

    return read


def _own_type(type: str | None) -> str | None:
    """Types carry the prefix ``aidos.`` on the wire only."""
    return type.removeprefix("aidos.").rstrip(".") or None if type else None


def number(text: str) -> int:
    """A transaction or sequence number. Raises: ValueError."""
    number = int(text)
    if not -1 <= number < 2**63:
        raise ValueError("out of range")
    return number


def _position(text: str) -> Position:
    match = re.fullmatch(r"(\d{1,18})-(\d{1,18})", text)
    if match is None:
        raise InvalidRequest(reason="The Last-Event-ID is not one that this stream gave out. Start again without it.")
    return int(match.group(1)), int(match.group(2))


def to_wire(event: Event) -> EventRead:
    """The event in the JSON form of CloudEvents."""
    made = event.to_cloudevent()
    return EventRead(**made.get_attributes(), data=event.data)
