"""Verifications that are asked for are carried out: some files at a time, several objects at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar
from uuid import UUID

from aidos.errors import AidosError, Unavailable
from cluster.buckets import Buckets, Seen
from cluster.db import Connection, Database
from cluster.events import Topics
from cluster.host import Host
from cluster.objects import Objects
from cluster.reconciler import LostClaim, Reconciler
from data_pipelines.dataforge.models import Place
from data_pipelines.dataforge.verification import service, store
from data_pipelines.dataforge.verification.models import Unchecked, Verification, VerificationState

_AT_ONCE = 8


class VerificationReconciler(Reconciler[Verification]):
    """Reads objects and hashes them, a block at a time."""

    name: ClassVar[str] = "dataforge.verifications"
    table: ClassVar[tuple[str, str]] = ("dataforge", "verifications")
    topics: ClassVar[Topics] = ("dataforge.",)
    concurrency: ClassVar[int] = 1

    def __init__(self, db: Database, objects: Objects) -> None:
        super().__init__(db)
        self.buckets = Buckets(objects)

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Verification]:
        return await store.claim_verifications(conn, token, lock_s, limit)

    async def process(self, item: Verification) -> Verification:
        """Each batch is noted by itself, so that what is read is read whatever comes."""
        while True:
            async with self.db.platform() as conn:
                files, contents = await service.list_contents(conn, item)
            if not files:
                return item
            seen = await self._look(contents)
            async with self.db.platform() as conn:
                further = await service.add_seen(conn, item, files, contents, seen)
            if further is None:
                raise LostClaim
            item = further

    async def _look(self, contents: Mapping[str, Place | Unchecked]) -> dict[str, Seen]:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def look(id: str, content: Place | Unchecked) -> tuple[str, Seen]:
            async with turns:
                if isinstance(content, Unchecked):
                    return id, await self.buckets.look_at_own(content.key)
                return id, await self.buckets.look(content.bucket, content.key, content.headers, content.version_id)

        try:
            async with asyncio.TaskGroup() as group:
                looking = [group.create_task(look(id, content)) for id, content in contents.items()]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return dict(task.result() for task in looking)

    async def apply(self, conn: Connection, item: Verification, token: UUID, outcome: Verification) -> bool:
        return await service.end_verification(conn, outcome, token, VerificationState.FINISHED)

    async def give_up(self, conn: Connection, item: Verification, token: UUID, error: BaseException) -> bool:
        if isinstance(error, AidosError) and not isinstance(error, Unavailable):
            return await service.end_verification(conn, item, token, VerificationState.FAILED, str(error))
        return False


async def verify_commits(host: Host) -> None:
    """Loop of an actor."""
    await VerificationReconciler(host.db, host.objects).run(host.holder, host.wakeup)
