"""Who gives way: the set of running gangs that loses least, of those that may be asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from tune.trainos.queue.ledger import Held, Ledger
from tune.trainos.queue.models import Running, Workload
from tune.trainos.queue.packing import EPSILON, Plan, Shape, Space, Vector, minus
from tune.trainos.queue.reservation import Reservation
from tune.trainos.queue.shares import NONE, Account

_CLAIMANTS = 20  # for whom others leave after one look: the next one goes on


@dataclass(frozen=True, slots=True)
class Victim:
    """A gang that may be asked to save and stop. ``size``: its dominant share of the cluster. ``loss``: what it has to do again."""

    workload: Workload
    shape: Shape
    plan: Plan
    size: float
    loss: float


class Preemption:
    """Finds who gives way. Each search is for one workload; the ledger may change between them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._found = 0
        self._hopeless: set[Shape] = set()

    def victims(self, claimant: Workload, shape: Shape, account: Account, reservation: Reservation | None) -> list[Victim]:
        """Who is to leave so that ``claimant`` fits, beside a reservation, and its quotas; nobody where that is not to be had.

        What stays within its project's nominal quota is reclaimed from any project above its own, and from none that would fall below it;
        besides, a project's running gangs of lower priority make room. What loses least is a knapsack: taken is the best of three greedy
        sets (by loss, by loss for what is freed, by the node on which it costs least), each rid of whom it does not need, the dearest
        first.
        """
        if self._found == _CLAIMANTS:
            return []
        own = self._outranked(claimant)
        reclaims = shape not in self._hopeless and account.owns(shape.total)
        if not own and not reclaims:
            return []
        over = account.over_quota(claimant.user, shape.total, account.staying)
        if not own and over:
            return []
        may = self._borrowing(claimant.project_id, own) if reclaims else own
        trial = _Trial(claimant, shape, self._ledger, reservation)
        lines = [may, sorted(may, key=lambda v: v.loss / v.size if v.size else 0.0), *_cheapest_node(shape, trial.space, may)]
        sets = [chosen for line in lines if (chosen := self._sufficient(trial, line))]
        if sets:
            self._found += 1
            return min(sets, key=lambda s: (sum(v.loss for v in s), len(s), sorted(v.workload.id for v in s)))
        if reclaims and not over:
            self._hopeless.add(shape)
        return []

    def of(self, projects: Collection[UUID]) -> list[Victim]:
        """All that these run and that may be asked to leave."""
        return [victim for victim in self._by_loss if victim.workload.project_id in projects] if projects else []

    def on_leaving_nodes(self) -> list[Victim]:
        """All that run on nodes that are about to be taken away, by their plan or by what Ray has there, whether or not they may be asked
        to leave for others: they end there in any case."""
        leaving = {node.id: node.jobs for node in self._ledger.snapshot.nodes if node.leaving}
        jobs = frozenset().union(*leaving.values())
        return [
            self._victim(running, held)
            for running, held in (self._ledger.staying() if leaving else ())
            if running.workload.id in jobs or any(node in leaving for node, _ in running.placement)
        ]

    def _outranked(self, claimant: Workload) -> list[Victim]:
        """Its own project's of lower priority, by loss."""
        lower = [victim for victim in self._by_project.get(claimant.project_id, ()) if victim.workload.priority < claimant.priority]
        return [victim for victim in lower if victim.workload.id not in self._ledger.leaving]

    def _borrowing(self, project: UUID, own: Sequence[Victim]) -> list[Victim]:
        """Those of other projects that hold more than their nominal quota, and ``own``; by loss."""
        above = {id for id in self._by_project if id != project and not self._ledger.account(id).owns(NONE)}
        chosen = {victim.workload.id for victim in own}
        return [
            victim
            for victim in self._by_loss
            if victim.workload.id in chosen or (victim.workload.project_id in above and victim.workload.id not in self._ledger.leaving)
        ]

    @cached_property
    def _by_loss(self) -> list[Victim]:
        victims = [self._victim(running, held) for running, held in self._ledger.preemptible()]
        return sorted(victims, key=lambda v: (v.loss, -v.size, v.workload.id))

    def _victim(self, running: Running, held: Held) -> Victim:
        capacity = self._ledger.capacity
        size = max((held.shape.total[i] / capacity[i] for i in range(3) if capacity[i] > 0), default=0.0)
        unsaved_s = max(0.0, (self._ledger.snapshot.now - running.saved_at).total_seconds())
        return Victim(held.workload, held.shape, held.plan, size, unsaved_s * size * weight(held.workload.priority))

    @cached_property
    def _by_project(self) -> Mapping[UUID, list[Victim]]:
        victims: defaultdict[UUID, list[Victim]] = defaultdict(list)
        for victim in self._by_loss:
            victims[victim.workload.project_id].append(victim)
        return victims

    def _sufficient(self, trial: _Trial, line: Sequence[Victim]) -> list[Victim]:
        """The fewest from the front of ``line`` that make room, less whom the others make superfluous; empty where all do not."""
        trial.begin()
        for victim in self._spared(trial, line):
            trial.remove(victim)
            if trial.fits:
                break
        else:
            return []
        for victim in sorted(trial.gone, key=lambda v: (-v.loss, v.workload.id)):
            trial.put_back(victim)
            if not trial.fits:
                trial.remove(victim)
        return trial.gone

    def _spared(self, trial: _Trial, line: Sequence[Victim]) -> Iterator[Victim]:
        """``line`` without whom another project needs to keep its nominal quota of what is short."""
        free, wanted = trial.space.free, trial.shape.total
        short = [i for i in range(3) if wanted[i] > free[i] + EPSILON] or [i for i in range(3) if wanted[i] > 0]
        holds: dict[UUID, Vector] = {}
        for victim in line:
            other, takes = victim.workload.project_id, victim.shape.total
            if other != trial.claimant.project_id:
                account = self._ledger.account(other)
                left = minus(holds.get(other, account.staying[None]), takes)
                if not any(takes[i] > 0 and left[i] >= account.nominal[i] - EPSILON for i in short):
                    continue
                holds[other] = left
            yield victim


def weight(priority: int) -> float:
    """What a second of work of that priority counts: ``1 + p``, and ``1 / (1 - p)`` below zero."""
    return 1.0 + priority if priority >= 0 else 1.0 / (1.0 - priority)


class _Trial:
    """The cluster, and the claimant's project, as they would be without some gangs."""

    def __init__(self, claimant: Workload, shape: Shape, ledger: Ledger, reservation: Reservation | None) -> None:
        self.claimant, self.shape = claimant, shape
        self._ledger, self._reservation = ledger, reservation
        self._account = ledger.account(claimant.project_id)
        self.begin()

    def begin(self) -> None:
        """With everybody."""
        self.gone: list[Victim] = []
        self._soon = self._ledger.soon.copy()
        self._beside = self._reservation.beside.copy() if self._reservation else None

    @property
    def space(self) -> Space:
        return self._soon & self._beside

    def remove(self, victim: Victim) -> None:
        self._change(victim, Space.give)
        self.gone.append(victim)

    def put_back(self, victim: Victim) -> None:
        self._change(victim, Space.take)
        self.gone.remove(victim)

    def _change(self, victim: Victim, change: Callable[[Space, Shape, Plan], None]) -> None:
        change(self._soon, victim.shape, victim.plan)
        if self._beside is not None and self._reservation and victim.workload.id not in self._reservation.gone:
            change(self._beside, victim.shape, victim.plan)

    @property
    def fits(self) -> bool:
        return self.space.pack(self.shape) is not None and self._within_quota()

    def _within_quota(self) -> bool:
        holdings = dict(self._account.staying)
        for victim in self.gone:
            if victim.workload.project_id == self.claimant.project_id:
                for holder in (None, victim.workload.user):
                    holdings[holder] = minus(holdings[holder], victim.shape.total)
        return not self._account.over_quota(self.claimant.user, self.shape.total, holdings)


def _cheapest_node(shape: Shape, space: Space, by_loss: Sequence[Victim]) -> list[list[Victim]]:
    """Those of one node, the one that all of ``shape`` fits after the least loss; nothing where no node holds it."""
    on_node: defaultdict[int, list[Victim]] = defaultdict(list)
    for victim in by_loss:
        for node, _ in victim.plan:
            if node >= 0:
                on_node[node].append(victim)
    costs = [(cost, node) for node, line in on_node.items() if (cost := _cost_on(node, line, shape, space)) is not None]
    return [on_node[min(costs)[1]]] if costs else []


def _cost_on(node: int, line: Sequence[Victim], shape: Shape, space: Space) -> float | None:
    """What is lost by emptying ``node`` in the order of ``line`` until all of ``shape`` fits there."""
    free, cost = space.nodes[node].copy(), 0.0
    for victim in line:
        free += next(taken for at, taken in victim.shape.on_nodes(victim.plan) if at == node)
        cost += victim.loss
        if (free + EPSILON >= shape.total).all():
            return cost
    return None
