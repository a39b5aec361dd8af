"""Whether the things that a request needs can be reached, asked at most once a second however many ask."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from aidos.errors import Unavailable
from api.deps import Edge
from api.errors import NotReady
from cluster.events import list_consumers
from cluster.leases import list_leases

VERSION = importlib.metadata.version("aidos")
_PART_TIMEOUT_S = 2.0
_KEEP_S = 1.0


@dataclass(frozen=True)
class Part:
    """One thing that was asked, and how it answered."""

    name: str
    healthy: bool
    latency_ms: float


class Health:
    """The last answer of every part, and the one check that is under way."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._asked = 0.0
        self._check: asyncio.Task[list[Part]] | None = None

    async def parts(self) -> list[Part]:
        """Each part's health, at most a second old."""
        if self._check is None or (self._check.done() and time.monotonic() - self._asked > _KEEP_S):
            self._asked = time.monotonic()
            self._check = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._check)

    async def require_ready(self) -> list[Part]:
        """The parts, all healthy. Raises: NotReady."""
        parts = await self.parts()
        if away := [part.name for part in parts if not part.healthy]:
            raise NotReady(parts=away, reason=" and ".join(away), retry_after_s=2)
        return parts

    async def status(self) -> dict[str, Any]:
        """The installation as its operator sees it: parts, leases and consumers."""
        parts = await self.parts()
        async with self._edge.db.platform() as conn:
            return {"version": VERSION, "parts": parts, "leases": await list_leases(conn), "consumers": await list_consumers(conn)}

    async def _ask_all(self) -> list[Part]:
        return list(await asyncio.gather(_ask("database", self._ask_database()), _ask("objects", self._edge.objects.ping(_PART_TIMEOUT_S))))

    async def _ask_database(self) -> None:
        async with self._edge.db.platform():
            pass  # opening a transaction is a round trip


async def _ask(name: str, question: Awaitable[None]) -> Part:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_PART_TIMEOUT_S):
            await question
        healthy = True
    except (TimeoutError, Unavailable):
        healthy = False
    return Part(name, healthy, round((time.perf_counter() - started) * 1000, 2))
