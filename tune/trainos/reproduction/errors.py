"""What reproductions refuse."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class RunNotReproducible(Conflict):
    title = "Run cannot be reproduced"
    detail = "Run '{run_id}' cannot be reproduced: {reason} {remedy}"


class ReproductionNotFound(NotFound):
    title = "Reproduction not found"
    detail = "Run '{run_id}' does not reproduce another run. 'aidos run reproduce' begins one that does."


class MetricNotMeasured(InvalidPayload):
    title = "Metric was not measured"
    detail = "The original run did not measure '{metric}'. A tolerance is for one of: {measured}."
