"""SQL of points: a function a named query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from uuid import UUID

from actors.modelhub.models import RunState
from actors.modelhub.series.models import Columns
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.series")


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


def _array(items: Iterable[object]) -> str:
    """A literal of an array, which PostgreSQL reads faster than the driver writes one of its own."""
    return f"{{{','.join(map(str, items))}}}"


def _quote(text: str) -> str:
    # https://www.postgresql.org/docs/18/arrays.html#ARRAYS-IO
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
