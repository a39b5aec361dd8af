"""Logging of points, of one run or of many in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from actors.modelhub import policy
from actors.modelhub.errors import RunNotFound
from actors.modelhub.series import store
from actors.modelhub.series.models import Columns, Rows
from actors.securityvault.models import Scope
from aidos.errors import AidosError
from cluster.db import Connection

Logged = tuple[UUID, Columns]
"""A run and points of it."""


async def log(conn: Connection, scope: Scope, logged: Sequence[Logged], *, late: bool = False) -> dict[UUID, AidosError]:
    """Append points, ``late`` also to runs that have ended; one that is there already changes nothing.

    Why nothing was stored, by run: RunNotFound, RunEnded. The others' points are stored.
    """
    states = await store.log_points(conn, scope.project, logged, late=late)
    refused: dict[UUID, AidosError] = {}
    for run_id, _ in logged:
        try:
            if run_id not in states:
                raise RunNotFound(run_id=run_id)
            if not late:
                policy.check_running(run_id, states[run_id])
        except AidosError as error:
            refused[run_id] = error
    return refused


async def read(conn: Connection, scope: Scope, run_id: UUID, key: str, after: Rows | None, limit: int) -> Rows:
    """The next ``limit`` points of a series by step, every one as it was logged."""
    return await store.read_points(conn, scope.project, run_id, key, after, limit)
