"""What is free and who holds the rest, while one looks at the queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import numpy as np

from tune.trainos.models import Resources
from tune.trainos.queue.models import Quota, Running, Snapshot, Workload
from tune.trainos.queue.packing import Plan, Shape, Shapes, Space, vector
from tune.trainos.queue.shares import Account

_NO_BOUND_S = 1e9  # thirty years
_PLACING_S = 10.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a gang holds, since when, and until when at the latest: None where nothing bounds it. Unix seconds."""

    workload: Workload
    shape: Shape
    plan: Plan
    since_s: float
    ends_s: float | None


class Ledger:
    """``free``: what is free now. ``soon``: once those ``leaving`` are gone, less what is kept for who waits for that.

    Free is the smaller of two truths: what Ray has available less the leases that do not show there yet, and the total less all leases.
    The first counts serving and whatever else runs on the cluster, the second jobs that do not use all they asked for. Whether Ray shows
    a job's workers yet nobody knows in its first minute: ``free`` then takes them to be missing, ``soon`` only for ``_PLACING_S``.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.now_s = snapshot, snapshot.now.timestamp()
        self.nodes = sorted((node for node in snapshot.nodes if not node.leaving), key=lambda node: node.id)
        self._index = {node.id: i for i, node in enumerate(self.nodes)}
        self.totals = Space.of(self.nodes)
        cpu, gpu, memory = self.totals.whole.tolist()
        self.capacity = (cpu, gpu, memory)
        self.shapes = Shapes()
        self.accounts: dict[UUID, Account] = {}
        self.leaving: dict[UUID, tuple[Workload, Plan]] = {}
        self._started: list[Held] = []
        self._account_for_running()

    def _account_for_running(self) -> None:
        available = np.array([vector(node.available) for node in self.nodes], dtype=np.float64).reshape(-1, 3)
        self.free, leased = Space(available, self.totals.whole.copy()), self.totals.copy()
        most = self.free.copy()
        for running in self.snapshot.running:
            workload, shape, plan = running.workload, self.shapes.of(running.workload.gang), self._plan(running)
            self.account(workload.project_id).hold(workload.user, shape.total, running.leaving)
            leased.take(shape, plan)
            if not running.settled:
                self.free.take(shape, plan)
                if (self.snapshot.now - running.started_at).total_seconds() < _PLACING_S:
                    most.take(shape, plan)
        self.free.whole = leased.whole
        # What Ray may show already of the unsettled is not counted twice: between the two a node has free what nobody leases of it.
        self.soon = Space(leased.nodes.clip(self.free.nodes, most.nodes), leased.whole.copy())
        for running in self.snapshot.running:
            if running.leaving:
                self._give_soon(running.workload, self._plan(running))
        self.soon.nodes = np.minimum(self.soon.nodes, self.totals.nodes)  # Ray may show already what a lease still holds

    def _plan(self, running: Running) -> Plan:
        return tuple((self._index.get(node, -1), bundles) for node, bundles in running.placement)

    def _give_soon(self, workload: Workload, plan: Plan) -> None:
        self.leaving[workload.id] = (workload, plan)
        self.soon.give(self.shapes.of(workload.gang), plan)

    def account(self, project_id: UUID) -> Account:
        account = self.accounts.get(project_id)
        if account is None:
            quota = self.snapshot.quotas.get(project_id) or Quota()
            account = self.accounts[project_id] = Account(quota, self.snapshot.usage.get(project_id) or Resources())
        return account

    @property
    def now(self) -> Space:
        """What may be used now: free, and kept for nobody."""
        return self.free & self.soon

    def start(self, workload: Workload, shape: Shape, plan: Plan) -> tuple[tuple[str, int], ...]:
        """It holds ``plan`` from now on. Returns the plan by names of nodes."""
        self.free.take(shape, plan)
        self.keep(workload, shape, plan)
        self._started.append(Held(workload, shape, plan, self.now_s, _end_s(self.now_s, workload)))
        return tuple((self.nodes[node].id, bundles) for node, bundles in plan)

    def keep(self, workload: Workload, shape: Shape, plan: Plan) -> None:
        """``plan`` is kept for it until those leaving are gone."""
        self.soon.take(shape, plan)
        self.account(workload.project_id).hold(workload.user, shape.total)

    def leave(self, workload: Workload, plan: Plan) -> None:
        """It is asked to save and stop."""
        self._give_soon(workload, plan)
        self.account(workload.project_id).leave(workload.user, self.shapes.of(workload.gang).total)

    def awaited(self, plan: Plan) -> list[Workload]:
        """Those leaving that ``plan`` waits for: of its nodes, or anywhere where it is their leases."""
        on = {node for node, _ in plan}
        there = [workload for workload, held in self.leaving.values() if any(node in on for node, _ in held)]
        return there or [workload for workload, _ in self.leaving.values()]

    def holders(self) -> Iterator[Held]:
        """All that runs and stays, with when it ends."""
        yield from (held for _, held in self.staying())
        yield from self._started

    def preemptible(self) -> Iterator[tuple[Running, Held]]:
        """All that runs and may be asked to leave for others, and was not yet."""
        return ((running, held) for running, held in self.staying() if running.preemptible)

    def staying(self) -> Iterator[tuple[Running, Held]]:
        """All that runs and was not asked to leave."""
        return ((running, held) for running, held in self._running if running.workload.id not in self.leaving)

    @cached_property
    def _running(self) -> list[tuple[Running, Held]]:
        return [(running, self._held(running)) for running in self.snapshot.running]

    def _held(self, running: Running) -> Held:
        since_s, workload = running.started_at.timestamp(), running.workload
        return Held(workload, self.shapes.of(workload.gang), self._plan(running), since_s, _end_s(since_s, workload))


def _end_s(started_s: float, workload: Workload) -> float | None:
    return None if workload.limit_s is None or workload.limit_s > _NO_BOUND_S else started_s + workload.limit_s
