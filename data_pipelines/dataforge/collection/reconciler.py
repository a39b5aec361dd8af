"""Collections that are asked for, and one a day of every project, are carried out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from cluster.db import Connection, Database
from cluster.events import Topics
from cluster.objects import Objects
from cluster.reconciler import Reconciler
from data_pipelines.dataforge.collection import service, store
from data_pipelines.dataforge.collection.models import Collection

EVERY = timedelta(days=1)
_PLAN_S = 600.0


class CollectionReconciler(Reconciler[Collection]):
    """Collects garbage; ``held`` names the commits that other modules' records came of."""

    name: ClassVar[str] = "dataforge.collections"
    table: ClassVar[tuple[str, str]] = ("dataforge", "collections")
    topics: ClassVar[Topics] = ("dataforge.",)
    concurrency: ClassVar[int] = 1
    lock_s: ClassVar[float] = 60.0
    poll_s: ClassVar[float] = 30.0

    def __init__(self, db: Database, objects: Objects, held: service.Held) -> None:
        super().__init__(db)
        self.objects, self.held = objects, held
        self._planned_at = -_PLAN_S

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Collection]:
        if time.monotonic() - self._planned_at >= _PLAN_S:
            await store.plan_collections(conn, EVERY)
            self._planned_at = time.monotonic()
        return await store.claim_collection(conn, token, lock_s, limit)

    async def process(self, item: Collection) -> None:
        """Each step is a transaction of its own, so that what is done is done whatever comes."""
        await service.collect(self.db.platform, self.objects, item, self.held)

    async def apply(self, conn: Connection, item: Collection, token: UUID, outcome: None) -> bool:
        return await store.finish_collection(conn, item.id, token)
