"""Forecasts of what waits: what they are made from, where they are kept, and how often they came true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from tune.trainos.models import Job, JobSpec
from tune.trainos.queue import service, store
from tune.trainos.queue.capacity import FRESH_S, check_fits
from tune.trainos.queue.models import Coverage, Forecast, Gang, Node, Snapshot, Workload
from tune.trainos.queue.prediction import RunTime, like

FORESEEN = 100
"""So many of those that wait, each project's first before its second."""
_OF_DAYS = 30


async def read_outlook(conn: Connection, nodes: Sequence[Node], more: Workload | None = None) -> tuple[Snapshot, dict[UUID, RunTime]]:
    """The queue's beginning, and what is known of how long its jobs run; ``more`` is looked at as if it waited too."""
    snapshot = await service.read_snapshot(conn, nodes, FORESEEN, fewest=1, oldest=1)
    waiting = sorted(snapshot.waiting, key=lambda workload: workload.queued_at)[:FORESEEN]
    snapshot = replace(snapshot, waiting=waiting if more is None else [*waiting, replace(more, queued_at=snapshot.now)])
    workloads = [*snapshot.waiting, *(running.workload for running in snapshot.running)]
    by_name, by_shape = await store.list_run_times(conn, {workload.project_id for workload in workloads}, _OF_DAYS)
    return snapshot, {workload.id: found for workload in workloads if (found := like(workload, by_name, by_shape))}


async def read_outlook_with(conn: Connection, scope: Scope, spec: JobSpec) -> tuple[Workload, Snapshot, dict[UUID, RunTime]]:
    """The same with a job that is not submitted, on the nodes as the queue saw them last. It needs all projects' rows. Raises: JobTooLarge."""
    await check_fits(conn, spec)
    nodes = await store.find_capacity(conn, FRESH_S)
    now = datetime.now(UTC)
    workload = Workload(new_id(), spec.name, scope.project, scope.actor, Gang.of(spec), now, spec.priority, spec.timeout_s)
    return workload, *await read_outlook(conn, nodes, workload)


async def keep_forecasts(conn: Connection, forecasts: Mapping[UUID, Forecast]) -> None:
    """Those of jobs that wait still; the first of each is its promise."""
    await store.set_forecasts(conn, forecasts)


async def list_forecasts(conn: Connection, scope: Scope, jobs: Sequence[Job]) -> dict[UUID, Forecast]:
    """Of those that wait and were looked at of late."""
    waiting = [job.id for job in jobs if job.state == "QUEUED"]
    return await store.list_forecasts(conn, scope.project, waiting, FRESH_S) if waiting else {}


async def measure_coverage(conn: Connection, scope: Scope) -> Coverage:
    """How often, of the promises of the last 30 days, the project's jobs started and ended within them."""
    return await store.measure_coverage(conn, scope.project, _OF_DAYS)
