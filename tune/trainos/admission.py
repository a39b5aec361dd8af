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
from tune.trainos.models import Job

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
    if held is None:
        raise JobNotWaiting(job=job.name, state=job.state)
    event = state_event(held, scope.actor)
    await publish(conn, replace(event, type="trainos.job.held" if held_by else "trainos.job.released"))
    return held


async def set_priority(conn: Connection, scope: Scope, name: str, priority: int) -> Job:
    """Where a job stands among those of its project; the higher first. Raises: JobNotFound, JobEnded."""
    job = await service.get_job(conn, scope, name)
    changed = await store.set_priority(conn, scope.project, job.id, priority)
    if changed is None:
        raise JobEnded(job=job.name, state=job.state)
    await publish(conn, replace(state_event(changed, scope.actor), type="trainos.job.prioritised"))
    return changed


async def list_queue(conn: Connection, scope: Scope, limit: int) -> list[Job]:
    """The project's jobs that hold resources, then those that wait, in the order of the queue."""
    return await store.list_queue(conn, scope.project, limit)


async def admit_jobs(conn: Connection, placements: Mapping[UUID, Sequence[tuple[str, int]]]) -> None:
    """Start these, planned so, each with a lease; those that left the queue meanwhile are passed over."""
    now = datetime.now(UTC)
    admitted = await store.admit_jobs(conn, service.SUBMISSION_PREFIX, placements)
    events = [(lease_event(job, _ACTOR, job.lease_id, "opened", now), state_event(job, _ACTOR)) for job in admitted]
    await publish_all(conn, itertools.chain.from_iterable(events))


async def preempt_jobs(conn: Connection, names: Mapping[UUID, str]) -> None:
    """Ask these to save a checkpoint and give way to who is named."""
    leaving = await store.preempt_jobs(conn, names)
    await publish_all(conn, [state_event(job, _ACTOR) for job in leaving])


async def fail_waiting(conn: Connection, job_id: UUID, reason: str) -> None:
    """End a job that can never start."""
    failed = await store.fail_waiting(conn, job_id, reason[:2000])
    if failed is not None:
        await publish(conn, state_event(failed, _ACTOR))
        await service.end_job(conn, platform_scope(failed.org_id, failed.project_id), failed)


async def end_waits(conn: Connection, ids: Sequence[UUID]) -> None:
    """All that these depended on has succeeded."""
    await store.end_waits(conn, ids)


async def note_reasons(conn: Connection, reasons: Mapping[UUID, str]) -> None:
    """Say why these wait."""
    await store.note_reasons(conn, reasons)
