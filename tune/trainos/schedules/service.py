"""The verbs of schedules: what users make of them, and what is done when one is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from actors.securityvault import service as securityvault
from actors.securityvault.models import Scope
from actors.securityvault.policy import allows
from cluster.db import Connection, new_id
from cluster.events import Event, publish
from tune.trainos import service as trainos
from tune.trainos.errors import ScheduleExists, ScheduleNotFound
from tune.trainos.models import JobSpec
from tune.trainos.schedules import store
from tune.trainos.schedules.models import Schedule
from tune.trainos.schedules.policy import next_time
from tune.trainos.trust import fit_sandbox


async def create_schedule(conn: Connection, scope: Scope, name: str, cron: str, timezone: str, spec: JobSpec) -> Schedule:
    """From now on a job of this spec is queued at each time of ``cron``. Raises: ScheduleInvalid, ScheduleExists, SandboxUnfit."""
    values = {
        "id": new_id(),
        "org_id": scope.org_id,
        "project_id": scope.project,
        "project_name": scope.project_name or str(scope.project),
        "name": name,
        "cron": cron,
        "timezone": timezone,
        "spec": fit_sandbox(spec),
        "submitter": trainos.submitter_of(scope),
        "created_by": scope.actor,
        "next_at": next_time(cron, timezone, datetime.now(UTC)),
    }
    made = await store.insert_schedule(conn, values)
    if made is None:
        raise ScheduleExists(name=name)
    await _publish(conn, made, "created", scope.actor)
    return made


async def get_schedule(conn: Connection, scope: Scope, name: str) -> Schedule:
    """By id or name. Raises: ScheduleNotFound."""
    found = await store.find_schedule(conn, scope.project, name)
    if found is None:
        raise ScheduleNotFound(name=name)
    return found


async def list_schedules(conn: Connection, scope: Scope, after: str | None, limit: int) -> list[Schedule]:
    """By name."""
    return await store.list_schedules(conn, scope.project, after, limit)


async def pause_schedule(conn: Connection, scope: Scope, name: str) -> Schedule:
    """It is not due until it is resumed. Raises: ScheduleNotFound."""
    return await _pause(conn, scope, name, scope.actor, "paused")


async def resume_schedule(conn: Connection, scope: Scope, name: str) -> Schedule:
    """It is due at its next time; those of the pause are not made up for. Raises: ScheduleNotFound."""
    return await _pause(conn, scope, name, None, "resumed")


async def _pause(conn: Connection, scope: Scope, name: str, paused_by: str | None, verb: str) -> Schedule:
    schedule = await get_schedule(conn, scope, name)
    next_at = next_time(schedule.cron, schedule.timezone, datetime.now(UTC))
    changed = await store.pause_schedule(conn, schedule, paused_by, next_at)
    if changed is None:
        raise ScheduleNotFound(name=name)
    await _publish(conn, changed, verb, scope.actor)
    return changed


async def delete_schedule(conn: Connection, scope: Scope, name: str) -> None:
    """Its jobs stay. Raises: ScheduleNotFound."""
    schedule = await get_schedule(conn, scope, name)
    await store.delete_schedule(conn, schedule)
    await _publish(conn, schedule, "deleted", scope.actor)


async def find_due(conn: Connection) -> UUID | None:
    """A schedule that is due, of any project."""
    return await store.find_due(conn)


async def run_schedule(conn: Connection, id: UUID) -> bool:
    """Queue its job, and say when it is due next; False where another did. It is passed over while its last job has not ended.

    Raises: whatever ``submit_job`` refuses; nothing has happened then, and ``pass_over`` is called in a transaction of its own.
    """
    schedule = await store.claim_schedule(conn, id)
    if schedule is None:
        return False
    scope = trainos.submitter_scope(schedule.org_id, schedule.project_id, schedule.project_name, schedule.submitter, schedule.created_by)
    last = [] if schedule.last_job_id is None else await trainos.find_jobs(conn, scope, [schedule.last_job_id])
    if last and not last[0].state.final:
        await _pass_over(conn, schedule, f"job {last[0].id} of the time before has not ended")
        return True
    scope = replace(scope, role=await securityvault.role_today(conn, scope))
    if not allows(scope, "trainos:write"):
        await _pass_over(conn, schedule, f"{schedule.created_by}, who made it, may submit no job here any more: make it again")
        return True
    job = await trainos.submit_job(conn, scope, schedule.spec)
    await store.apply_schedule(conn, schedule.id, _next(schedule), job.id, "")
    return True


async def pass_over(conn: Connection, id: UUID, reason: str) -> None:
    """No job this time, and why; on to the next."""
    schedule = await store.claim_schedule(conn, id)
    if schedule is not None:
        await _pass_over(conn, schedule, reason)


async def _pass_over(conn: Connection, schedule: Schedule, reason: str) -> None:
    await store.apply_schedule(conn, schedule.id, _next(schedule), None, reason[:2000])
    await _publish(conn, schedule, "passed_over", "trainos", reason)


def _next(schedule: Schedule) -> datetime:
    """Times that were missed are not made up for one by one."""
    return next_time(schedule.cron, schedule.timezone, max(schedule.next_at, datetime.now(UTC)))


async def _publish(conn: Connection, schedule: Schedule, verb: str, actor: str, reason: str = "") -> None:
    data = {"name": schedule.name, "cron": schedule.cron, "timezone": schedule.timezone} | ({"reason": reason} if reason else {})
    await publish(conn, Event(f"trainos.schedule.{verb}", str(schedule.id), schedule.org_id, schedule.project_id, actor, data))
