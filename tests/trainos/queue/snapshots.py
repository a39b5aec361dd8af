"""Short ways to say what waits and what runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from tune.trainos.models import Resources
from tune.trainos.queue import policy
from tune.trainos.queue.models import NOTHING, Decision, Gang, Node, Quota, Running, Snapshot, Workload

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMES = UUID(int=0)
HOUR = 3600.0


def of(name: str) -> UUID:
    return uuid5(NAMES, name)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def gang(cpu: float = 0.0, gpu: float = 0.0, memory_gib: float = 0.0, workers: int = 0) -> Gang:
    """Without workers a driver alone; with them so many bundles, and a driver that needs nothing."""
    bundle = Resources(cpu, gpu, memory_gib)
    return Gang(bundle, NOTHING, 0) if workers == 0 else Gang(NOTHING, bundle, workers)


def job(
    name: str, cpu: float = 0.0, gpu: float = 0.0, *, project: str = "vision", user: str = "ada", age_s: float = 60.0, **more: Any
) -> Workload:
    bundle = {key: more.pop(key) for key in ("memory_gib", "workers") if key in more}
    asked = more.pop("gang", None) or gang(cpu, gpu, **bundle)
    return Workload(of(name), name, of(project), user, asked, ago(age_s), **more)


def runs(workload: Workload, *nodes: tuple[str, int] | str, for_s: float = 600.0, unsaved_s: float | None = None, **more: Any) -> Running:
    placement = tuple((node, workload.gang.workers + 1) if isinstance(node, str) else node for node in nodes)
    return Running(workload, placement, ago(for_s), ago(for_s if unsaved_s is None else unsaved_s), **more)


def node(name: str, cpu: float = 0.0, gpu: float = 0.0, memory_gib: float = 0.0, **more: Any) -> Node:
    return Node(name, Resources(cpu, gpu, memory_gib), Resources(cpu, gpu, memory_gib), **more)


def cluster(nodes: Iterable[Node], running: Iterable[Running]) -> list[Node]:
    """``nodes`` with as little available as the settled of ``running`` leave."""
    taken: dict[str, Resources] = {}
    for each in running:
        if each.settled:
            for name, held in on_nodes(each.workload.gang, each.placement):
                taken[name] = taken.get(name, NOTHING) + held
    return [replace(each, available=each.total - taken.get(each.id, NOTHING)) for each in nodes]


def on_nodes(asked: Gang, placement: Iterable[tuple[str, int]]) -> list[tuple[str, Resources]]:
    """What each node gives to a gang that was placed so: the driver is the first bundle of the first node."""
    return [
        (name, asked.worker * (bundles - (i == 0)) + (asked.driver if i == 0 else NOTHING)) for i, (name, bundles) in enumerate(placement)
    ]


def snapshot(nodes: Iterable[Node], waiting: Iterable[Workload] = (), running: Iterable[Running] = (), **more: Any) -> Snapshot:
    running = list(running)
    for key in ("quotas", "usage", "closed"):
        more[key] = {of(project): value for project, value in more.get(key, {}).items()}
    return Snapshot(NOW, cluster(nodes, running), list(waiting), running, **more)


def decide(nodes: Iterable[Node], waiting: Iterable[Workload] = (), running: Iterable[Running] = (), **more: Any) -> Decision:
    return policy.decide(snapshot(nodes, waiting, running, **more))


def own(cpu: float = 0.0, gpu: float = 0.0, **more: Any) -> Quota:
    return Quota(nominal=Resources(cpu, gpu), **more)


def started(decision: Decision, *workloads: Workload) -> list[str]:
    """The names of ``workloads`` that start, in the order in which they do."""
    names = {workload.id: workload.name for workload in workloads}
    return [names[admitted.id] for admitted in decision.admitted]


def reason(decision: Decision, workload: Workload) -> str:
    return next(pending.reason for pending in (*decision.pending, *decision.refused) if pending.id == workload.id)


def preempted(decision: Decision) -> set[UUID]:
    return {each.id for each in decision.preempted}
