"""What is done to jobs that wait: held, released, ordered, admitted, refused; and to those that must give way to them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from actors.securityvault.models import Scope, platform_scope
from cluster.db import Connection
from cluster.events import publish, publish_all
from tune.trainos import service, store
from tune.trainos.announcements import lease_event, state_event
from tune.trainos.errors import JobEnded, JobNotWaiting
from tune.trainos.models import Job, JobState
from tune.trainos.policy import end_of_array

_ACTOR = "trainos"


async def hold_job(conn: Connection, scope: Scope, name: str) -> Job:
    """Keep a job that waits in its place, without letting it start. Raises: JobNotFound, JobNotWaiting."""
    return await _hold(conn, scope, name, scope.actor)


async def release_job(conn: Connection, scope: Scope, name: str) -> Job:
    """Let a job that was held start in its turn. Raises: JobNotFound, JobNotWaiting."""
    return await _hold(conn, scope, name, None)


async def _hold(conn: Connection, scope: Scope, name: str, held_by: str | None) -> Job:
    job = await service.get_job(conn, scope, name)
    held = await store.hold_job(conn, scope.project, job.id, held_by)
    if all(each.is_array for each in held):
        raise JobNotWaiting(job=job.name, state=job.state)
    now = _itself(job, held)
    await publish(conn, replace(state_event(now, scope.actor), type="trainos.job.held" if held_by else "trainos.job.released"))
    return now


def _itself(job: Job, changed: Sequence[Job]) -> Job:
    """As it is now, among what was changed with it."""
    return next(each for each in changed if each.id == job.id)


async def set_priority(conn: Connection, scope: Scope, name: str, priority: int) -> Job:
    """Where a job stands among those of its project; the higher first. Raises: JobNotFound, JobEnded."""
    job = await service.get_job(conn, scope, name)
    changed = await store.set_priority(conn, scope.project, job.id, priority)
    if not changed:
        raise JobEnded(job=job.name, state=job.state)
    now = _itself(job, changed)
    await publish(conn, replace(state_event(now, scope.actor), type="trainos.job.prioritised"))
    return now


async def list_queue(conn: Connection, scope: Scope, limit: int) -> list[Job]:
    """The project's jobs that hold resources, then those that wait, in the order of the queue."""
    return await store.list_queue(conn, scope.project, limit)


async def admit_jobs(conn: Connection, placements: Mapping[UUID, Sequence[tuple[str, int]]]) -> None:
    """Start these, planned so, each with a lease; those that left the queue meanwhile are passed over."""
    now = datetime.now(UTC)
    admitted = await store.admit_jobs(conn, service.SUBMISSION_PREFIX, placements)
    events = [(lease_event(job, _ACTOR, job.lease_id, "opened", now), state_event(job, _ACTOR)) for job in admitted]
    arrays = {job.array_id for job in admitted if job.array_id is not None}
    begun = [state_event(array, _ACTOR) for array in await store.begin_arrays(conn, arrays)] if arrays else []
    await publish_all(conn, itertools.chain(begun, *events))


async def settle_arrays(conn: Connection) -> None:
    """End the arrays all of whose jobs have ended; of the others as many jobs may start as the array allows at once."""
    for array_id, state, counts in await store.list_ended_arrays(conn):
        ended = await store.end_array(conn, array_id, *end_of_array(counts, state is JobState.CANCELLING))
        if ended is not None:
            await publish(conn, state_event(ended, _ACTOR))
    await store.admit_members(conn)


async def preempt_jobs(conn: Connection, names: Mapping[UUID, str]) -> None:
    """Ask these to save a checkpoint and give way to who is named."""
    leaving = await store.preempt_jobs(conn, names)
    await publish_all(conn, [state_event(job, _ACTOR) for job in leaving])


async def fail_waiting(conn: Connection, job_id: UUID, reason: str) -> None:
    """End a job that can never start."""
    failed = await store.fail_waiting(conn, job_id, reason[:2000])
    if failed:
        await service.tell_changes(conn, platform_scope(failed[0].org_id, failed[0].project_id), failed, _ACTOR)


async def end_waits(conn: Connection, ids: Sequence[UUID]) -> None:
    """All that these depended on has succeeded."""
    await store.end_waits(conn, ids)


async def note_reasons(conn: Connection, reasons: Mapping[UUID, str]) -> None:
    """Say why these wait."""
    await store.note_reasons(conn, reasons)
