"""Sends the platform's events to a receiver of OpenLineage: in order, at least once, and without anybody waiting for it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import ClassVar

import httpx

from api.protocols.openlineage.outgoing import to_run_events
from cluster import leases, telemetry
from cluster.db import Database
from cluster.events import Position, Wakeup, move_cursor, read_next
from cluster.host import Host
from cluster.settings import Settings

CONSUMER = "openlineage"
REFUSALS = frozenset({400, 413, 422})
"""What a receiver says of an event that it will never take: it is told in the log and passed over. Anything else is tried again."""
_log = telemetry.get_logger(__name__)


class NotTaken(Exception):
    """The receiver could not be reached, or did not take an event that it may take later."""


class Forwarder:
    """Reads the outbox with a cursor of its own, which moves behind what was taken."""

    batch: ClassVar[int] = 100
    lease_s: ClassVar[float] = 30.0
    timeout_s: ClassVar[float] = 10.0
    pause_s: ClassVar[float] = 1.0
    pause_cap_s: ClassVar[float] = 60.0

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings
        key = settings.openlineage_key.get_secret_value()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def run(self, holder: str, wakeup: Wakeup) -> None:
        """Send for ever; after a failure again, later each time."""
        failures, seen = 0, 0
        async with self.client() as client:
            while True:
                try:
                    sent = await self.forward(client, holder)
                    failures = 0
                except Exception as error:
                    failures += 1
                    pause_s = min(self.pause_cap_s, self.pause_s * 2 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)
                    _log.warning("openlineage.paused", error=str(error), retry_s=round(pause_s, 1))
                    await asyncio.sleep(pause_s)
                    continue
                if not sent:
                    seen = await wakeup.wait(5.0, seen, ("modelhub.",))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(headers=self._headers, timeout=self.timeout_s)

    async def forward(self, client: httpx.AsyncClient, holder: str) -> int:
        """Send what the next events of the outbox tell of runs; how many there were. Raises: NotTaken; the cursor stands before that event."""
        async with self.db.platform() as conn:
            lease = await leases.acquire(conn, CONSUMER, holder, ttl_s=self.lease_s)
            found = await read_next(conn, CONSUMER, self.batch) if lease else []
            told = await to_run_events(conn, [event for _, event in found], self.settings.url)
        taken: Position | None = None
        # A slow receiver gets fewer at a time, so that the lease is still held after the last.
        deadline = time.monotonic() + self.lease_s / 2
        try:
            for (at, _), event in zip(found, told, strict=True):
                if time.monotonic() > deadline:
                    break
                if event is not None:
                    await self._post(client, event)
                taken = at
        finally:
            if taken is not None and lease is not None:
                async with self.db.platform() as conn:
                    await leases.hold(conn, lease)
                    await move_cursor(conn, CONSUMER, taken)
        return len(told)

    async def _post(self, client: httpx.AsyncClient, event: dict[str, object]) -> None:
        try:
            answer = await client.post(self.settings.openlineage_url, json=event)
        except httpx.HTTPError as error:
            raise NotTaken(f"{self.settings.openlineage_url}: {type(error).__name__} {error}") from error
        if answer.status_code in REFUSALS:
            _log.warning("openlineage.refused", status=answer.status_code, answer=answer.text[:300], run=event["run"])
        elif not answer.is_success:
            raise NotTaken(f"{self.settings.openlineage_url} answered {answer.status_code} {answer.text[:300]}")


async def forward_lineage(host: Host) -> None:
    """Loop of an actor; without a receiver it has nothing to do."""
    if host.settings.openlineage_url:
        await Forwarder(host.db, host.settings).run(host.holder, host.wakeup)
