"""What CostOptimizer refuses."""

from __future__ import annotations

from aidos.errors import InvalidPayload, InvalidRequest, NotFound


class PriceInThePast(InvalidPayload):
    title = "Price would change the past"
    detail = "A price may begin now or later, got {effective_from}: what was used before keeps its price."


class InvalidPeriod(InvalidRequest):
    title = "No such period"
    detail = "'from' must be before 'to', and both between the years 1970 and 9000; got {since} and {until}."


class BudgetNotSet(NotFound):
    title = "Project has no budget"
    detail = "The project has no budget, so nothing bounds what it costs. `aidos budget set` gives it one."
