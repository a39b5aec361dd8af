"""/v1/trainos/reproductions: runs again, and whether the same came out."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from aidos.schemas.reproductions import ReproductionCreate, ReproductionRead
from aidos.schemas.trainos import JobRead
from api import reproductions
from api.deps import ApiRoute, SessionDep, WaitS, needs
from tune.trainos.reproduction import service
from tune.trainos.reproduction.models import Verdict

router = APIRouter(prefix="/v1/trainos/reproductions", tags=["trainos"], route_class=ApiRoute)
Tolerance = Annotated[float, Query(ge=0, allow_inf_nan=False, description="A metric may differ by this times max(1, |original|).")]
Metrics = Annotated[list[str] | None, Query(max_length=100, description="Tolerances of single metrics, as `acc=0.01`; `inf` is any.")]


@router.post("", status_code=201, openapi_extra=needs("trainos:write", transaction=False))
async def reproduce_run(body: ReproductionCreate, session: SessionDep) -> JobRead:
    """Queue a job that does what a run did: the same code, command and commits. Its run is the reproduction."""
    return JobRead.model_validate(await reproductions.start(session, body))


@router.get("/{reproduction}", openapi_extra=needs("modelhub:read", transaction=False))
async def get_reproduction(
    reproduction: UUID, session: SessionDep, wait: WaitS, tolerance: Tolerance = 1e-6, metric: Metrics = None
) -> ReproductionRead:
    """Whether a reproduction's metrics agree with the original's, and what else differs; with `wait`, once it has ended."""
    tolerances = reproductions.read_tolerances(tolerance, metric or ())
    found = await session.wait_until(
        lambda conn: service.get_reproduction(conn, session.scope, reproduction, tolerances),
        lambda now: now.verdict is not Verdict.RUNNING,
        wait,
    )
    return ReproductionRead.model_validate(found)
