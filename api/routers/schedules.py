"""Schedules of jobs over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from aidos.schemas.common import PageOf
from aidos.schemas.schedules import ScheduleCreate, ScheduleRead
from api.deps import ApiRoute, PageDep, TxDep, needs
from api.pages import key_of, page_of, stored_text
from tune.trainos.models import JobSpec
from tune.trainos.schedules import service

router = APIRouter(prefix="/v1/trainos/schedules", tags=["trainos"], route_class=ApiRoute)
ScheduleName = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="Its name or id.")]


@router.post("", status_code=201, openapi_extra=needs("trainos:write"))
async def create_schedule(body: ScheduleCreate, tx: TxDep) -> ScheduleRead:
    """Queue such a job at each time of `cron`, from now on."""
    spec = JobSpec.from_json(body.job.model_dump())
    return ScheduleRead.model_validate(await service.create_schedule(tx.conn, tx.scope, body.name, body.cron, body.timezone, spec))


@router.get("", openapi_extra=needs("trainos:read"))
async def list_schedules(tx: TxDep, page: PageDep) -> PageOf[ScheduleRead]:
    """The project's schedules, by name."""
    found = await service.list_schedules(tx.conn, tx.scope, key_of(page.cursor, stored_text), page.limit)
    return page_of(ScheduleRead, found, page.limit, "name")


@router.get("/{schedule}", openapi_extra=needs("trainos:read"))
async def get_schedule(schedule: ScheduleName, tx: TxDep) -> ScheduleRead:
    """When it is due, and what its last time came to."""
    return ScheduleRead.model_validate(await service.get_schedule(tx.conn, tx.scope, schedule))


@router.post("/{schedule}/pause", openapi_extra=needs("trainos:write"))
async def pause_schedule(schedule: ScheduleName, tx: TxDep) -> ScheduleRead:
    """Queue nothing until it is resumed."""
    return ScheduleRead.model_validate(await service.pause_schedule(tx.conn, tx.scope, schedule))


@router.post("/{schedule}/resume", openapi_extra=needs("trainos:write"))
async def resume_schedule(schedule: ScheduleName, tx: TxDep) -> ScheduleRead:
    """Go on at the next time; those of the pause are not made up for."""
    return ScheduleRead.model_validate(await service.resume_schedule(tx.conn, tx.scope, schedule))


@router.delete("/{schedule}", status_code=204, openapi_extra=needs("trainos:write"))
async def delete_schedule(schedule: ScheduleName, tx: TxDep) -> None:
    """Delete it; its jobs stay."""
    await service.delete_schedule(tx.conn, tx.scope, schedule)
