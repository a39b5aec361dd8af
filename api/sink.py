"""Where the points of all requests of a process come together: one transaction of a tenant at a time takes what has come since the last began.

A request is answered when the transaction with its points has committed. So one client that waits for each answer pays for one commit a
request, many clients share it, and those that log one metric of one run do not queue for the lock of its row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from actors.modelhub.series import service as series
from actors.modelhub.series.models import Columns
from actors.securityvault.models import Scope
from aidos.errors import AidosError, Unavailable
from cluster.db import Database

MOST_REQUESTS = 64
"""Requests a transaction: what is wrong with one makes the others begin again."""


@dataclass(frozen=True)
class _Waiting:
    """One request's points, and who waits for them."""

    scope: Scope
    run_id: UUID
    columns: Columns
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class PointSink:
    """Of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[UUID, list[_Waiting]] = {}
        self._flushes: set[asyncio.Task[None]] = set()

    async def log(self, scope: Scope, run_id: UUID, columns: Columns) -> None:
        """Append points to a run, ended or not; returns when they are durable. Raises: RunNotFound, Unavailable."""
        mine = _Waiting(scope, run_id, columns)
        if (queue := self._waiting.get(scope.project)) is not None:
            queue.append(mine)
        else:
            self._waiting[scope.project] = [mine]
            flush = asyncio.create_task(self._flush(scope.project))
            self._flushes.add(flush)
            flush.add_done_callback(self._flushes.discard)
        await mine.done

    async def _flush(self, project_id: UUID) -> None:
        queue = self._waiting[project_id]
        try:
            while queue:
                batch = queue[:MOST_REQUESTS]
                del queue[:MOST_REQUESTS]
                await self._store(batch)
        finally:
            del self._waiting[project_id]

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        try:
            await self._commit(batch)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, Unavailable):
                # What one request is refused for is no matter of the others.
                for each in batch:
                    await self._store([each])
                return
            for each in batch:
                each.answer(error)

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        scope = batch[0].scope
        async with self._db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            refused: dict[UUID, AidosError] = await series.log(conn, scope, [(each.run_id, each.columns) for each in batch], late=True)
        for each in batch:
            each.answer(refused.get(each.run_id))
