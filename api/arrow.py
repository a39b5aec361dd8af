"""A series as an Arrow stream: every point as it was logged, NaN and infinities among them, at eight bytes a number.

Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format, messages one behind the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pyarrow as pa
from fastapi import Request
from fastapi.responses import StreamingResponse

from actors.modelhub import service as modelhub
from actors.modelhub.series import service as series
from actors.modelhub.series.models import Rows
from api.deps import Session

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
SCHEMA = pa.schema([("step", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("value", pa.float64())])
_PAGE_ROWS = 100_000
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def is_asked(request: Request) -> bool:
    """Whether the caller accepts a stream."""
    return MEDIA_TYPE in request.headers.get("accept", "")


async def stream_series(session: Session, run_id: UUID, key: str) -> StreamingResponse:
    """The series by step. Raises: RunNotFound."""
    async with session.transaction() as conn:
        await modelhub.get_run(conn, session.scope, run_id)
        first = await series.read(conn, session.scope, run_id, key, None, _PAGE_ROWS)
    return StreamingResponse(_messages(session, run_id, key, first), media_type=MEDIA_TYPE)


async def _messages(session: Session, run_id: UUID, key: str, rows: Rows) -> AsyncIterator[bytes]:
    yield SCHEMA.serialize().to_pybytes()
    while len(rows.steps):
        columns = [pa.array(rows.steps), pa.array(rows.times_us).cast(SCHEMA.field("at").type), pa.array(rows.values)]
        yield pa.record_batch(columns, schema=SCHEMA).serialize().to_pybytes()
        if len(rows.steps) < _PAGE_ROWS:
            break
        async with session.transaction() as conn:
            rows = await series.read(conn, session.scope, run_id, key, rows, _PAGE_ROWS)
    yield _END
