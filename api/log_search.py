"""Searching a job's kept log where it lies: only the lines that were found leave the platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import ServerSentEvent

from aidos.schemas.trainos import LogLineRead
from api.deps import Session
from api.sse import Batch, StreamEvent, follow
from cluster.db import Connection
from tune.trainos import service
from tune.trainos.log_search import LogLine, LogSearch

_BATCH = 100


async def find_lines(session: Session, name: str, search: LogSearch, until_end: bool, seen: int) -> AsyncIterator[ServerSentEvent]:
    """The lines that are found behind line ``seen``, in what is kept now or, ``until_end``, in all that the job prints.

    One piece of the log is in memory at a time, read outside of any transaction. A stream that broke off begins with the first piece
    again: where a line stands is known only from those before it.
    """

    async def read(conn: Connection, after: str | None) -> Batch:
        job = await service.get_job(conn, session.scope, name)
        chunks = await service.list_chunks(conn, session.scope, job, int(after or 0), _BATCH)
        more = len(chunks) == _BATCH
        return Batch([StreamEvent(str(chunk.seq), chunk.key) for chunk in chunks], more, not more and (job.state.final or not until_end))

    async for event in follow(session, read, None):
        if event.event == "error":
            yield event
            return
        piece = await session.edge.objects.get(str(event.data)) if event.event == "message" else None
        for line in await asyncio.to_thread(search.feed, piece) if piece is not None else search.end():
            if line.number > seen:
                yield _event(line)
        if piece is None:
            yield event


def _event(line: LogLine) -> ServerSentEvent:
    return ServerSentEvent(LogLineRead.model_validate(line).model_dump_json(), id=str(line.number))
