"""A tenant and the events that modules announce leases with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.events import Event, publish
from tests.support.tenant import other_scope, scope

__all__ = ["other_scope", "scope"]

START = datetime(2026, 11, 10, 22, 0, tzinfo=UTC)
CPU, MEMORY, GPU, H100 = 40_000, 5_000, 2_000_000, 4_000_000
"""Micro-dollars an hour of the platform's own price book."""


def lease_event(scope: Scope, lease_id: UUID, change: str, at: datetime, owner: tuple[str, str] = ("job", "j1"), **resources: Any) -> Event:
    data = {
        "lease_id": str(lease_id),
        "owner_kind": owner[0],
        "owner_id": owner[1],
        "owner_name": f"name of {owner[1]}",
        "resources": resources or {"cpu": 2.0, "gpu": 0.0, "memory_gib": 4.0},
        "at": at.isoformat(),
    }
    return Event(f"trainos.lease.{change}", owner[1], scope.org_id, scope.project_id, scope.actor, data)


async def announce(database: Database, *events: Event) -> None:
    """Publish each in a transaction of its own, in this order."""
    for event in events:
        async with database.platform() as conn:
            await publish(conn, event)
