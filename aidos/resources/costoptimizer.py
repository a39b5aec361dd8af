"""Costs and prices, as the client sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aidos.http.operation import Resource, operation
from aidos.schemas.costoptimizer import BillRead, BudgetRead, BudgetSet, EstimateRead, OwnerBillRead, PriceBook, PriceRead, PriceSet

_PERIOD: dict[str, Any] = {"from_": datetime, "to": datetime, "limit": int}


class Costs(Resource):
    """What leased resources cost."""

    noun = "bill"
    plural = "costs"

    get = operation(
        "GET", "/v1/costoptimizer/costs", returns=BillRead, query={"group_by": str, **_PERIOD}, help="Costs by owner, kind or day."
    )
    owner = operation(
        "GET",
        "/v1/costoptimizer/costs/{owner_kind}/{owner_id}",
        returns=OwnerBillRead,
        query=_PERIOD,
        help="What one job or endpoint cost, lease by lease.",
    )
    estimate = operation(
        "GET",
        "/v1/costoptimizer/estimate",
        returns=EstimateRead,
        query={"cpu": float, "gpu": float, "memory_gib": float, "seconds": float},
        help="What resources would cost for a time, by the prices of now.",
    )


class Prices(Resource):
    """The organisation's price book."""

    noun = "price"

    list = operation("GET", "/v1/costoptimizer/prices", returns=PriceBook, help="Every price that was, is or will be in force.")
    set = operation(
        "PUT", "/v1/costoptimizer/prices/{resource}", body=PriceSet, returns=PriceRead, help="Set a price from now on, or later."
    )


class Budgets(Resource):
    """What the project may cost a day, week or month."""

    noun = "budget"

    get = operation("GET", "/v1/costoptimizer/budget", returns=BudgetRead, help="The project's budget, and what is spent of it.")
    set = operation(
        "PUT", "/v1/costoptimizer/budget", body=BudgetSet, returns=BudgetRead, help="Bound what the project costs a day, week or month."
    )
    delete = operation("DELETE", "/v1/costoptimizer/budget", help="Let nothing bound what the project costs.")
