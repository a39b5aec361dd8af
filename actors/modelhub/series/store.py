"""SQL of points: a function a named query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import chain
from uuid import UUID

import numpy as np

from actors.modelhub.models import RunState
from actors.modelhub.series.models import EPOCH, Columns, Rows
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.series")
# What int8send, timestamptz_send and float8send write: PostgreSQL's times begin in 2000.
_POINT = np.dtype([("step", ">i8"), ("time_us", ">i8"), ("value", ">f8")])
_YEAR_2000_US = 946_684_800_000_000


async def log_points(conn: Connection, project_id: UUID, logged: Sequence[tuple[UUID, Columns]], *, late: bool) -> dict[UUID, RunState]:
    """Append to the series of runs, of those that have ended only when ``late``; the state of each run that there is."""
    cursor = await conn.execute(
        Q.log_points,
        {
            "project_id": project_id,
            "late": late,
            "run_ids": [run_id for run_id, _ in logged],
            "places": _array(place for place, (_, columns) in enumerate(logged, 1) for _ in columns.keys),
            "keys": _array(map(_quote, chain.from_iterable(columns.keys for _, columns in logged))),
            "steps": _array(chain.from_iterable(columns.steps for _, columns in logged)),
            "times_us": _array(chain.from_iterable(columns.times_us for _, columns in logged)),
            "values": _array(chain.from_iterable(columns.values for _, columns in logged)),
        },
    )
    return {row["id"]: RunState(row["state"]) for row in await cursor.fetchall()}


async def read_points(conn: Connection, project_id: UUID, run_id: UUID, key: str, after: Rows | None, limit: int) -> Rows:
    """The first points of a series, or those behind the last of ``after``, by step."""
    step, at, value = None, None, None
    if after is not None:
        step, value = int(after.steps[-1]), float(after.values[-1])
        at = EPOCH + timedelta(microseconds=int(after.times_us[-1]))
    values = {"project_id": project_id, "run_id": run_id, "key": key, "step": step, "at": at, "value": value, "limit": limit}
    row = await (await conn.execute(Q.read_points, values, binary=True)).fetchone()
    rows = np.frombuffer(row["points"] or b"" if row else b"", _POINT)
    return Rows(rows["step"].astype("=i8"), rows["time_us"].astype("=i8") + _YEAR_2000_US, rows["value"].astype("=f8"))


def _array(items: Iterable[object]) -> str:
    """A literal of an array, which PostgreSQL reads faster than the driver writes one of its own."""
    return f"{{{','.join(map(str, items))}}}"


def _quote(text: str) -> str:
    # https://www.postgresql.org/docs/18/arrays.html#ARRAYS-IO
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
