"""The inspection loop of the actor ``modelhub``, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from actors.modelhub.reconciler import VersionReconciler
from cluster.db import Database
from cluster.events import Wakeup
from cluster.objects import Objects
from cluster.settings import Settings


@contextlib.contextmanager
def inspecting(settings: Settings) -> Iterator[None]:
    """Versions are inspected while the block runs."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def work() -> None:
        async with Database(settings) as db, Wakeup(db) as wakeup:
            task = asyncio.create_task(VersionReconciler(db, Objects(settings)).run("test", wakeup))
            await stop.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
