"""The queue's verbs: what its users change, and one look at it that starts, stops and explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.queue import TraceRow
from cluster.db import Connection
from cluster.events import Event, publish
from tune.trainos import admission
from tune.trainos.models import Resources
from tune.trainos.policy import decayed_use
from tune.trainos.queue import policy, store
from tune.trainos.queue.models import NOTHING, Decision, Node, Preempted, Quota, Snapshot

SETTLE_S, SHOWN_S = 60.0, 2.0
"""After so long Ray's account of free resources shows what a job holds: its workers begin when its code says so, its driver with it."""
_YOUNG_S = 600.0
"""What can never start is refused when it comes; what has waited longer stays, for the node that it needs may only be away."""
_WAITING_A_LOOK, _FEWEST_A_QUEUE, _OLDEST_A_QUEUE = 2000, 8, 4


async def set_quota(conn: Connection, scope: Scope, quota: Quota) -> Quota:
    """What the project may hold at once, from the next look at the queue on."""
    await store.set_quota(conn, scope.org_id, scope.project, quota, scope.actor)
    data = {
        "nominal": _finite(quota.nominal),
        "limit": _finite(quota.limit),
        "user_limit": _finite(quota.user_limit),
        "weight": quota.weight,
    }
    await publish(conn, Event("trainos.quota.set", str(scope.project), scope.org_id, scope.project, scope.actor, data))
    return quota


async def get_quota(conn: Connection, scope: Scope) -> Quota:
    """The project's quota; one that was given none owns nothing, and shares what is left without a bound."""
    return (await store.list_quotas(conn, [scope.project])).get(scope.project, Quota())


async def list_history(conn: Connection, scope: Scope, days: int, limit: int) -> list[TraceRow]:
    """The project's jobs of so many days that have ended, as a trace to replay; second 0 is the beginning of the time asked for."""
    return await store.list_history(conn, scope.project, datetime.now(UTC) - timedelta(days=days), limit)


async def close_project(conn: Connection, org_id: UUID, project_id: UUID, reason: str, actor: str) -> None:
    """Start nothing of the project from the next look on, and have what runs save and stop; ``reason`` is why its jobs wait."""
    if await store.close_project(conn, org_id, project_id, reason):
        await publish(conn, Event("trainos.project.closed", str(project_id), org_id, project_id, actor, {"reason": reason}))


async def open_project(conn: Connection, org_id: UUID, project_id: UUID, actor: str) -> None:
    """Let its jobs start again."""
    if await store.open_project(conn, project_id):
        await publish(conn, Event("trainos.project.opened", str(project_id), org_id, project_id, actor, {}))


async def has_waiting(conn: Connection) -> bool:
    """Whether a look could find anything."""
    return await store.has_waiting(conn)


async def look(conn: Connection, nodes: Sequence[Node], ceiling: Sequence[Node] = (), explain: bool = True) -> Decision:
    """Look at the whole queue once: start what fits, ask for room, and with ``explain`` say why the others wait. ``ceiling`` are the nodes
    that an autoscaler may add.

    In one transaction that holds the queue's lease: who dies in it has decided nothing, and the next look decides the same.
    """
    await admission.settle_arrays(conn)
    await _settle_dependents(conn)
    snapshot = replace(await read_snapshot(conn, nodes, _WAITING_A_LOOK, _FEWEST_A_QUEUE, _OLDEST_A_QUEUE), ceiling=ceiling)
    decision = policy.decide(snapshot)
    young = {
        workload.id
        for workload in snapshot.waiting
        if not workload.begun and (snapshot.now - workload.queued_at).total_seconds() < _YOUNG_S
    }
    decision = replace(
        decision,
        refused=tuple(item for item in decision.refused if item.id in young),
        pending=decision.pending + tuple(item for item in decision.refused if item.id not in young),
    )
    await _carry_out(conn, decision, _told(decision, snapshot), explain)
    return decision


async def read_snapshot(conn: Connection, nodes: Sequence[Node], many: int, fewest: int, oldest: int) -> Snapshot:
    """What waits and what runs now: of the former about ``many``, at least ``fewest`` of each user and project, and the ``oldest``."""
    queues, now = await store.count_queues(conn)
    waiting = await store.list_waiting(conn, now, max(fewest, many // queues), oldest) if queues else []
    running = await store.list_running(conn, now, SETTLE_S, SHOWN_S)
    projects = {workload.project_id for workload in waiting} | {gang.workload.project_id for gang in running}
    quotas, usage = await store.list_quotas(conn, projects), await store.list_usage(conn, now, projects)
    for gang in running:
        held = decayed_use(gang.workload.gang.resources, (now - gang.started_at).total_seconds())
        usage[gang.workload.project_id] = usage.get(gang.workload.project_id, NOTHING) + held
    closed = await store.list_closures(conn, projects)
    return Snapshot(now, nodes, waiting, running, quotas, usage, closed=closed)


def _told(decision: Decision, snapshot: Snapshot) -> dict[UUID, str]:
    """To what each of the preempted is told to give way: to a job by name within its project only; to others, and why, where its project is
    closed; else its node goes."""
    claimants = {workload.id: workload for workload in snapshot.waiting}
    projects = {gang.workload.id: gang.workload.project_id for gang in snapshot.running}

    def tell(item: Preempted) -> str:
        if item.by is None:
            closed = snapshot.closed.get(projects[item.id])
            return f"others: {closed}" if closed else "the end of a node that it runs on"
        claimant = claimants[item.by]
        return claimant.name if claimant.project_id == projects[item.id] else "another project's job"

    return {item.id: tell(item) for item in decision.preempted}


async def _settle_dependents(conn: Connection) -> None:
    settled = await store.list_settled_dependents(conn)
    if ready := [item.id for item in settled if item.failed is None]:
        await admission.end_waits(conn, ready)
    for item in settled:
        if item.failed is not None:
            await admission.fail_waiting(conn, item.id, f"job {item.failed}, which it waits for, did not succeed")


async def _carry_out(conn: Connection, decision: Decision, told: Mapping[UUID, str], explain: bool) -> None:
    if decision.admitted:
        await admission.admit_jobs(conn, {item.id: item.placement for item in decision.admitted})
    if decision.preempted:
        await admission.preempt_jobs(conn, told)
    for refused in decision.refused:
        await admission.fail_waiting(conn, refused.id, refused.reason)
    if explain and decision.pending:
        await admission.note_reasons(conn, {item.id: item.reason for item in decision.pending})


def _finite(amounts: Resources) -> dict[str, float]:
    return {name: amount for name, amount in amounts.__dict__.items() if amount != math.inf}
