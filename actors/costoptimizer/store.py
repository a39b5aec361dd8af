"""CostOptimizer's SQL: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.costoptimizer.models import Bill, Budget, Cost, GroupBy, LeaseCost, Price, Usage
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


async def set_budget(conn: Connection, org_id: UUID, project_id: UUID, micro_usd: int, period: str, set_by: str) -> None:
    values = {"org_id": org_id, "project_id": project_id, "micro_usd": micro_usd, "period": period, "set_by": set_by}
    await conn.execute(Q.set_budget, values)


async def delete_budget(conn: Connection, project_id: UUID) -> bool:
    """Whether there was one."""
    return await (await conn.execute(Q.delete_budget, {"project_id": project_id})).fetchone() is not None


async def find_budget(conn: Connection, project_id: UUID) -> Budget | None:
    row = await (await conn.execute(Q.find_budget, {"project_id": project_id})).fetchone()
    return Budget(**row) if row else None


async def review_budgets(conn: Connection, project_id: UUID | None) -> list[Budget]:
    """Those of all projects, or of one, that have reached something else than when one looked before."""
    return [Budget(**row) for row in await (await conn.execute(Q.review_budgets, {"project_id": project_id})).fetchall()]
