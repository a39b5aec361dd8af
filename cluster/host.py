"""Named detached actors: the processes in which reconcilers and consumers live.

A host is a plain class; ``get_or_create_host`` makes it the one detached actor of its name in the Ray namespace
``aidos``, restarted without end, and on another node of the system group if need be. Its loops hold leases, so a second copy after a
partition waits or is fenced (docs/adr/0004).
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.util import metrics as ray_metrics

from cluster import metrics, telemetry
from cluster.db import Connection, Database
from cluster.events import Wakeup
from cluster.objects import Objects
from cluster.settings import SYSTEM_GROUP, get_settings

NAMESPACE = "aidos"
_RESTART_PAUSE_S = 1.0
REPORT_S = 10.0


class Host:
    """Opens the database and the object store, then runs its loops for ever in a thread with an event loop of its own.

    The loops begin with the constructor, because that is all that Ray calls when it restarts an actor. A loop that fails
    is logged and all are started again.
    """

    def __init__(self, name: str, loops: Sequence[Loop]) -> None:
        self.name = name
        self.settings = get_settings()
        telemetry.configure(self.settings, name)
        metrics.start(ray_metrics, name)
        self.log = telemetry.get_logger(f"host.{name}")
        self.db = Database(self.settings)
        self.objects = Objects(self.settings)
        self.wakeup = Wakeup(self.db)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._loops = loops
        self._events = asyncio.new_event_loop()
        threading.Thread(target=self._events.run_until_complete, args=(self._run_for_ever(),), name=name, daemon=True).start()

    def ready(self) -> dict[str, Any]:
        """Who and where this host is."""
        return {"name": self.name, "pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}

    async def report(
        self, gauge: metrics.Metric, states: Iterable[str], count: Callable[[Connection], Awaitable[Mapping[str, int]]]
    ) -> None:
        """A loop that shows, for ever, how many there are of each state."""
        states = tuple(states)
        while True:
            try:
                async with self.db.platform() as conn:
                    counted = await count(conn)
            except Exception as error:
                self.log.warning("host.report_failed", gauge=gauge.name, error=str(error))
            else:
                metrics.set_states(gauge, states, counted)
            await asyncio.sleep(REPORT_S)

    async def _run_for_ever(self) -> None:
        await self.db.open()
        async with self.wakeup:
            while True:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        for loop in self._loops:
                            tasks.create_task(loop(self))
                except* Exception as failures:
                    self.log.error("host.loop_failed", exc_info=failures)
                await asyncio.sleep(_RESTART_PAUSE_S)


Loop = Callable[[Host], Coroutine[Any, Any, None]]
"""A coroutine function that runs for ever with what the host holds."""


def get_or_create_host(name: str, loops: Sequence[Loop]) -> Any:
    """The handle of the detached actor ``name``; made where there is none."""
    options = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": -1,
        "num_cpus": 0,
        "label_selector": SYSTEM_GROUP,
        "max_concurrency": 16,
    }
    return ray.remote(Host).options(**options).remote(name, loops)
