"""Server-sent events over rows: send what there is, then what comes, from where the client left off.

No transaction and no connection is held between two batches. The caller's credential is looked at again before each,
so a revoked one ends its streams; a client who leaves ends the generator; a heartbeat keeps proxies from closing it.
The id of an event is the cursor after it: a client that comes back sends it as ``Last-Event-ID``
(https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from aidos.errors import AidosError, Unavailable
from aidos.http.problems import to_problem
from api.deps import Session
from cluster.db import Connection
from cluster.events import changes

HEARTBEAT_S = 15.0
LONGEST_STREAM_S = 3600.0
_READ_GAP_S = 0.05
_END = "end"

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=200, description="Id of the last event that was seen; the stream goes on after it."),
]


@dataclass(frozen=True)
class StreamEvent:
    """One event: its ``id`` is where a broken stream is taken up again."""

    id: str
    data: BaseModel | dict[str, Any] | str
    event: str = "message"


@dataclass(frozen=True)
class Batch:
    """What a read found. ``more``: read again at once; ``done``: nothing will come any more."""

    events: Sequence[StreamEvent]
    more: bool = False
    done: bool = False


Read = Callable[[Connection, str | None], Awaitable[Batch]]


def stream(session: Session, read: Read, last_event_id: str | None) -> EventSourceResponse:
    """Answer with the events that ``read(conn, after_id)`` finds, until it is done; the last event is then ``end``."""
    return EventSourceResponse(follow(session, read, last_event_id), ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


async def follow(session: Session, read: Read, last_event_id: str | None) -> AsyncIterator[ServerSentEvent]:
    """The events one by one. After an hour the stream ends without ``end``, and the client takes it up again."""
    after = last_event_id
    async for _ in changes(session.edge.wakeup, LONGEST_STREAM_S):
        more = True
        while more:
            try:
                await session.check_credential()
                async with session.transaction() as conn:
                    batch = await read(conn, after)
            except Unavailable:
                break  # the database is away for a moment; the next wake-up reads again from the same place
            except AidosError as refusal:
                yield ServerSentEvent(to_problem(refusal, "")[2].decode(), event="error")
                return
            for event in batch.events:
                yield ServerSentEvent(_data(event.data), id=event.id, event=event.event)
                after = event.id
            if batch.done:
                yield ServerSentEvent("{}", event=_END)
                return
            more = batch.more and bool(batch.events)
        await asyncio.sleep(_READ_GAP_S)


def _data(data: BaseModel | dict[str, Any] | str) -> str:
    if isinstance(data, BaseModel):
        return data.model_dump_json()
    return data if isinstance(data, str) else json.dumps(data, default=str)
