"""Imports that are asked for are carried out: pages of a listing one after the other, then the commit."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from aidos.errors import AidosError, Unavailable
from cluster.buckets import Buckets
from cluster.db import Connection, Database
from cluster.events import Topics
from cluster.host import Host
from cluster.objects import Objects
from cluster.reconciler import LostClaim, Reconciler
from data_pipelines.dataforge.errors import TreeNotFound
from data_pipelines.dataforge.imports import service, store
from data_pipelines.dataforge.imports.models import Import


class ImportReconciler(Reconciler[Import]):
    """Lists buckets and commits what they hold."""

    name: ClassVar[str] = "dataforge.imports"
    table: ClassVar[tuple[str, str]] = ("dataforge", "imports")
    topics: ClassVar[Topics] = ("dataforge.",)
    concurrency: ClassVar[int] = 2

    def __init__(self, db: Database, objects: Objects) -> None:
        super().__init__(db)
        self.buckets = Buckets(objects)

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Import]:
        return await store.claim_imports(conn, token, lock_s, limit)

    async def process(self, item: Import) -> Import:
        """Each page is a transaction of its own, so that what is listed is listed whatever comes."""
        async with contextlib.aclosing(self.buckets.pages(item.bucket, item.prefix, item.cursor)) as pages:
            async for page in pages:
                async with self.db.platform() as conn:
                    further = await service.add_page(conn, item, page)
                if further is None:
                    raise LostClaim
                item = further
        return item

    async def apply(self, conn: Connection, item: Import, token: UUID, outcome: Import) -> bool:
        return await service.finish_import(conn, outcome, token)

    async def give_up(self, conn: Connection, item: Import, token: UUID, error: BaseException) -> bool:
        if isinstance(error, TreeNotFound):
            await service.begin_anew(conn, item)
            return False
        if isinstance(error, AidosError) and not isinstance(error, Unavailable):
            return await service.fail_import(conn, item, token, error)
        return False


async def import_objects(host: Host) -> None:
    """Loop of an actor."""
    await ImportReconciler(host.db, host.objects).run(host.holder, host.wakeup)
