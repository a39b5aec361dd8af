"""/v1/costoptimizer: what leased resources cost, and the price book."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from actors.costoptimizer import service
from actors.costoptimizer.models import GroupBy
from aidos.schemas.costoptimizer import (
    BillRead,
    BudgetRead,
    BudgetSet,
    EstimateRead,
    LeaseCostRead,
    Moment,
    OwnerBillRead,
    OwnerId,
    OwnerKind,
    PriceBook,
    PricedResource,
    PriceRead,
    PriceSet,
)
from api.deps import ApiRoute, TxDep, needs

router = APIRouter(prefix="/v1/costoptimizer", tags=["costoptimizer"], route_class=ApiRoute)
From = Annotated[Moment | None, Query(alias="from", description="Begin of the period; 30 days before its end where nothing is said.")]
To = Annotated[Moment | None, Query(description="End of the period; now where nothing is said.")]
Amount = Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/costs", openapi_extra=needs("costoptimizer:read"))
async def get_costs(tx: TxDep, group_by: GroupBy = GroupBy.OWNER, since: From = None, to: To = None, limit: Limit = 100) -> BillRead:
    """Leased resources × prices: by owner and kind the dearest first, by day the latest first."""
    return BillRead.model_validate(await service.get_bill(tx.conn, tx.scope, since, to, group_by, limit))


@router.get("/costs/{owner_kind}/{owner_id}", openapi_extra=needs("costoptimizer:read"))
async def get_owner_costs(
    owner_kind: OwnerKind, owner_id: OwnerId, tx: TxDep, since: From = None, to: To = None, limit: Limit = 100
) -> OwnerBillRead:
    """What one job or endpoint cost since it began, or in a period."""
    bill, leases = await service.get_owner_bill(tx.conn, tx.scope, (owner_kind, owner_id), since, to, limit)
    rows = [LeaseCostRead.model_validate(lease) for lease in leases]
    return OwnerBillRead(
        owner_kind=owner_kind, owner_id=owner_id, since=bill.since, until=bill.until, micro_usd=bill.micro_usd, leases=rows
    )


@router.get("/estimate", openapi_extra=needs("costoptimizer:read"))
async def estimate_cost(
    tx: TxDep, cpu: Amount = 0, gpu: Amount = 0, memory_gib: Amount = 0, seconds: Annotated[float, Query(ge=0, le=1e9)] = 3600
) -> EstimateRead:
    """What so much would cost for so long, by the prices of now."""
    amounts = {"cpu": cpu, "gpu": gpu, "memory_gib": memory_gib}
    return EstimateRead.model_validate(await service.estimate(tx.conn, tx.scope, amounts, seconds))


@router.get("/prices", openapi_extra=needs("org:read", project=False))
async def get_price_book(tx: TxDep) -> PriceBook:
    """Every price that was, is or will be in force, by resource, the newest first."""
    return PriceBook(prices=[PriceRead.model_validate(price) for price in await service.list_prices(tx.conn, tx.scope)])


@router.put("/prices/{resource}", openapi_extra=needs("org:manage", project=False))
async def set_price(resource: PricedResource, body: PriceSet, tx: TxDep) -> PriceRead:
    """A price from now on, or from a later moment; what was used before keeps its price."""
    price = await service.set_price(tx.conn, tx.scope, resource, body.micro_usd, body.source, body.effective_from)
    return PriceRead.model_validate(price)


@router.get("/budget", openapi_extra=needs("costoptimizer:read"))
async def get_budget(tx: TxDep) -> BudgetRead:
    """What the project may cost a period, and what is spent of it."""
    return BudgetRead.model_validate(await service.get_budget(tx.conn, tx.scope))


@router.put("/budget", openapi_extra=needs("org:manage"))
async def set_budget(body: BudgetSet, tx: TxDep) -> BudgetRead:
    """Bound what the project costs: at 50, 80 and 100 per cent an event says so, and at 100 no job starts and those that run save and stop."""
    return BudgetRead.model_validate(await service.set_budget(tx.conn, tx.scope, body.micro_usd, body.period))


@router.delete("/budget", status_code=204, openapi_extra=needs("org:manage"))
async def delete_budget(tx: TxDep) -> None:
    """Let nothing bound what the project costs."""
    await service.delete_budget(tx.conn, tx.scope)
