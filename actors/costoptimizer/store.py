"""CostOptimizer's SQL: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.costoptimizer.models import Bill, Cost, GroupBy, LeaseCost, Price, Usage
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.costoptimizer")


async def record_usage(conn: Connection, usage: Usage) -> None:
    """One end of a lease; a second telling changes nothing."""
    await conn.execute(Q.record_usage, asdict(usage))


async def sum_costs(
    conn: Connection,
    org_id: UUID,
    project_id: UUID,
    since: datetime,
    until: datetime,
    group_by: GroupBy,
    limit: int,
    owner: tuple[str, str] | None = None,
) -> Bill:
    """``owner``: only what this ``(kind, id)`` used."""
    owner_kind, owner_id = owner or (None, None)
    values = {"org_id": org_id, "project_id": project_id, "since": since, "until": until, "group_by": group_by, "limit": limit}
    rows = await (await conn.execute(Q.sum_costs, values | {"owner_kind": owner_kind, "owner_id": owner_id})).fetchall()
    total, groups = (rows[0]["total_micro_usd"], rows[0]["groups"]) if rows else (0, 0)
    costs = tuple(Cost(**{name: value for name, value in row.items() if name not in {"total_micro_usd", "groups"}}) for row in rows)
    return Bill(since, until, total, groups, costs)


async def sum_owner_costs(
    conn: Connection, org_id: UUID, project_id: UUID, since: datetime, until: datetime, owner_kind: str, owner_ids: Sequence[str]
) -> int:
    """Millionths of a dollar."""
    values = {"org_id": org_id, "project_id": project_id, "since": since, "until": until}
    row = await (await conn.execute(Q.sum_owner_costs, values | {"owner_kind": owner_kind, "owner_ids": list(owner_ids)})).fetchone()
    assert row is not None
    return int(row["micro_usd"])


async def list_lease_costs(
    conn: Connection, org_id: UUID, project_id: UUID, since: datetime, until: datetime, owner: tuple[str, str], limit: int
) -> list[LeaseCost]:
    """Newest first."""
    values = {"org_id": org_id, "project_id": project_id, "since": since, "until": until, "limit": limit}
    cursor = await conn.execute(Q.list_lease_costs, values | {"owner_kind": owner[0], "owner_id": owner[1]})
    return [LeaseCost(**row) for row in await cursor.fetchall()]


async def list_prices(conn: Connection, org_id: UUID) -> list[Price]:
    """By resource, the newest first, the platform's own last."""
    return [Price(**row) for row in await (await conn.execute(Q.list_prices, {"org_id": org_id})).fetchall()]


async def insert_price(conn: Connection, price: Mapping[str, Any]) -> Price:
    row = await (await conn.execute(Q.insert_price, price)).fetchone()
    assert row is not None
    return Price(**row)
