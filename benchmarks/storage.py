"""A PostgreSQL and a SeaweedFS of a benchmark's own."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from actors.securityvault.bootstrap import bootstrap, replace_admin_key
from cluster import embedded
from cluster.db import Database
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support.database import make_database
from tests.support.platform import start_storage


@contextlib.contextmanager
def own_storage(name: str) -> Iterator[tuple[Settings, Path]]:
    """Settings of a migrated database and a bucket, and a folder; all of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"aidos-{name}-") as directory:
        storage = start_storage(Path(directory) / "home")
        try:
            yield make_database(storage, f"{name}_benchmark"), Path(directory)
        finally:
            embedded.stop(storage)


def make_key(settings: Settings) -> str:
    """An administrator's key; an earlier one is revoked."""

    async def make() -> str:
        await Objects(settings).ensure_bucket()
        async with Database(settings) as db:
            return await bootstrap(db, settings) or await replace_admin_key(db, settings)

    return asyncio.run(make())
