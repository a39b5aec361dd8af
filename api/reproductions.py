"""Runs again, where TrainOS, which knows their jobs, meets the studies whose jobs are not to be run again by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aidos.errors import InvalidPayload
from aidos.schemas.reproductions import ReproductionCreate
from api.deps import Session
from tune.studies import service as studies
from tune.trainos.models import Job
from tune.trainos.reproduction import service
from tune.trainos.reproduction.errors import RunNotReproducible
from tune.trainos.reproduction.models import Code, Tolerances


async def start(session: Session, body: ReproductionCreate) -> Job:
    """Queue the job that runs a run again. Raises: RunNotFound, RunNotReproducible."""
    code = Code(tuple(body.command), body.code_sha256) if body.code_sha256 else None
    async with session.transaction() as conn:
        part = await studies.find_part(conn, session.scope, body.run_id)
        planned = await service.plan(conn, session.scope, body.run_id, code, part)
    if planned.spec.command[: len(studies.COMMAND)] == studies.COMMAND:
        reason, remedy = "it is the search of a study, which drives its own trials alone.", "Create the study again: 'aidos study create'."
        raise RunNotReproducible(run_id=body.run_id, reason=reason, remedy=remedy)
    await service.check_code(session.edge.objects, session.scope, planned)
    async with session.change() as conn:
        return await service.start(conn, session.scope, planned)


def read_tolerances(default: float, by_metric: Sequence[str]) -> Tolerances:
    """From ``acc=0.01`` and its like. Raises: InvalidPayload."""
    return Tolerances(default, dict(map(_read_tolerance, by_metric)))


def _read_tolerance(text: str) -> tuple[str, float]:
    metric, _, number = text.rpartition("=")
    try:
        tolerance = float(number)
    except ValueError:
        tolerance = math.nan
    if not metric or not tolerance >= 0:
        raise InvalidPayload(reason=f"A metric's tolerance is METRIC=NUMBER, the number 0 or more, got '{text}'.")
    return metric, tolerance
