"""Who starts next on one shared cluster, who gives way for it, and why the others wait. A pure function of a snapshot.

Between projects: those whose own (nominal) quota holds the workload come first; among them, and then among the others, what has waited
longer than ``PATIENCE_S`` by age, then the smaller weighted dominant share (``shares.Account.share``), then age. A project that owns a
part of the cluster so gets it back from any backlog, and of what nobody owns nobody is kept out for ever. Within a project: what has
waited longer than ``PATIENCE_S``, then priority, then age. ``queued_at`` is since when it waits: a preempted workload queues anew.

A workload that does not fit now fits once those leaving are gone, or makes others leave (``preemption``): its room is kept for it. The
first that does neither gets a reservation (``reservation``), and what comes behind starts only where that is not delayed. Of a project
that is closed nothing starts, and what runs leaves; so does what runs on a node that is about to be taken away.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

import numpy as np

from tune.trainos.models import Resources
from tune.trainos.queue.ledger import Ledger
from tune.trainos.queue.models import NOTHING, Admitted, Decision, Gang, Node, Pending, Preempted, Snapshot, Workload
from tune.trainos.queue.packing import Plan, Shape, Space
from tune.trainos.queue.preemption import Preemption
from tune.trainos.queue.reservation import Reservation, reserve
from tune.trainos.queue.shares import Account
from tune.trainos.queue.words import asked_for, frees, lacking, name_for, names_for

PATIENCE_S = 24 * 3600.0

_Rank: TypeAlias = tuple[bool, bool, float, datetime, UUID, Shape, list[Workload], Account]


def decide(snapshot: Snapshot) -> Decision:
    """Who starts, who is asked to save and stop, why the others wait; the same for the same snapshot, in whatever order it lists things."""
    return _Look(snapshot).decision()


def can_ever_start(gang: Gang, nodes: Sequence[Node], ceiling: Sequence[Node] = ()) -> str | None:
    """Why ``gang`` can never start on ``nodes`` and what an autoscaler may add, all of them empty; None where it can."""
    short = lacking(Shape(gang), Space.of([*nodes, *ceiling]))
    return f"can never start: needs {short} in the whole cluster" if short else None


class _Look:
    """One look at the queue. What is free only shrinks while one looks, so what did not fit once (``_full``) is not tried again."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.ledger = snapshot, Ledger(snapshot)
        self.preemption = Preemption(self.ledger)
        self.reservation: Reservation | None = None
        self.blocker: tuple[Workload, Shape] | None = None
        self.admitted: list[Admitted] = []
        self.preempted: list[Preempted] = []
        self.refused: list[Pending] = []
        self.waiting: list[tuple[Workload, Shape, Pending | None]] = []
        self._patience_ends = snapshot.now - timedelta(seconds=PATIENCE_S)
        self._never: dict[Shape, str | None] = {}
        self._full: defaultdict[str, set[Shape]] = defaultdict(set)

    def decision(self) -> Decision:
        leaving = {victim.workload.id: victim for victim in self.preemption.on_leaving_nodes()}
        leaving |= {victim.workload.id: victim for victim in self.preemption.of(self.snapshot.closed)}
        for victim in leaving.values():
            self.ledger.leave(victim.workload, victim.plan)
            self.preempted.append(Preempted(victim.workload.id, None, victim.loss))
        for workload, shape, account in self._in_order():
            self._consider(workload, shape, account)
        explanation = _Explanation(self.ledger, self.blocker, self.waiting)
        pending = tuple(told or explanation.of(workload, shape) for workload, shape, told in self.waiting)
        return Decision(tuple(self.admitted), tuple(self.preempted), pending, tuple(self.refused), explanation.wanted)

    def _in_order(self) -> Iterator[tuple[Workload, Shape, Account]]:
        """Each waiting workload once. An admission moves the share of its own project alone, which is ranked anew after each."""
        lines: defaultdict[UUID, list[Workload]] = defaultdict(list)
        for workload in self.snapshot.waiting:
            lines[workload.project_id].append(workload)
        heap: list[_Rank] = []
        for project, line in lines.items():
            line.sort(key=self._rank_in_project, reverse=True)
            heap.append(self._rank(line, self.ledger.account(project)))
        heapq.heapify(heap)
        while heap:
            *_, shape, line, account = heap[0]
            yield line.pop(), shape, account
            if line:
                heapq.heapreplace(heap, self._rank(line, account))
            else:
                heapq.heappop(heap)

    def _rank_in_project(self, workload: Workload) -> tuple[bool, int, datetime, UUID]:
        waited_long = workload.queued_at < self._patience_ends
        return not waited_long, 0 if waited_long else -workload.priority, workload.queued_at, workload.id

    def _rank(self, line: list[Workload], account: Account) -> _Rank:
        workload = line[-1]
        shape = self.ledger.shapes.of(workload.gang)
        waited_long = workload.queued_at < self._patience_ends
        share = 0.0 if waited_long else account.share(self.ledger.capacity, shape.total)
        return not account.owns(shape.total), not waited_long, share, workload.queued_at, workload.id, shape, line, account

    def _consider(self, workload: Workload, shape: Shape, account: Account) -> None:
        if not self.ledger.nodes:
            self.waiting.append((workload, shape, Pending(workload.id, "no node of the cluster is up")))
            return
        if closed := self.snapshot.closed.get(workload.project_id):
            self.waiting.append((workload, shape, Pending(workload.id, closed)))
            return
        if never := self._why_never(shape):
            self.refused.append(Pending(workload.id, never))
            return
        over = account.over_quota(workload.user, shape.total, account.held)
        if not over and self._start(workload, shape, account):
            return
        told = self._keep_room(workload, shape, account)
        if told is None and over:
            told = Pending(workload.id, over)
        elif told is None and self.reservation is None:
            told = self._reserve(workload, shape)
        self.waiting.append((workload, shape, told))

    def _why_never(self, shape: Shape) -> str | None:
        if shape not in self._never:
            self._never[shape] = can_ever_start(shape.gang, self.ledger.nodes, self.snapshot.ceiling)
        return self._never[shape]

    def _start(self, workload: Workload, shape: Shape, account: Account) -> bool:
        """Start it where it fits now: behind a reservation only what ends before that begins, or fits beside it."""
        head = self.reservation
        beside = None if head is None or head.admits(workload.limit_s, self.ledger.now_s) else head.beside
        plan = self._room("now" if beside is None else "beside", shape)
        if plan is None:
            return False
        if beside is not None:
            beside.take(shape, plan)
        borrows = not account.owns(shape.total)
        self.admitted.append(Admitted(workload.id, self.ledger.start(workload, shape, plan), borrows, head is not None))
        return True

    def _room(self, where: Literal["now", "beside", "soon"], shape: Shape) -> Plan | None:
        if shape in self._full[where]:
            return None
        beside = None if self.reservation is None or where == "now" else self.reservation.beside
        plan = ((self.ledger.soon if where == "soon" else self.ledger.now) & beside).pack(shape)
        if plan is None:
            self._full[where].add(shape)
        return plan

    def _keep_room(self, workload: Workload, shape: Shape, account: Account) -> Pending | None:
        """Keep for it what those leaving free, or make others leave; None where neither is enough."""
        plan = None
        if self.ledger.leaving and not account.over_quota(workload.user, shape.total, account.staying):
            plan = self._room("soon", shape)
        plan = plan or self._preempt(workload, shape, account)
        if plan is None:
            return None
        self.ledger.keep(workload, shape, plan)
        if self.reservation is not None:
            self.reservation.beside.take(shape, plan)
        self.blocker = self.blocker or (workload, shape)
        return Pending(workload.id, f"waits for {names_for(workload.project_id, self.ledger.awaited(plan))} to save and stop")

    def _preempt(self, workload: Workload, shape: Shape, account: Account) -> Plan | None:
        victims = self.preemption.victims(workload, shape, account, self.reservation)
        if not victims:
            return None
        for victim in victims:
            self.ledger.leave(victim.workload, victim.plan)
            if self.reservation is not None and victim.workload.id not in self.reservation.gone:
                self.reservation.beside.give(victim.shape, victim.plan)
            self.preempted.append(Preempted(victim.workload.id, workload.id, victim.loss))
        self._full["soon"].clear()
        return self._room("soon", shape)

    def _reserve(self, workload: Workload, shape: Shape) -> Pending | None:
        """The head's reservation, and what it waits for. What only an autoscaler's nodes hold keeps nobody waiting."""
        head = self.reservation = reserve(workload, shape, self.ledger)
        if head is None:
            return None
        self.blocker = self.blocker or (workload, shape)
        if head.starts_s is None:
            return None
        starts_at = datetime.fromtimestamp(head.starts_s, UTC)
        freed = frees(workload.project_id, head.frees, shape, self.ledger.now, starts_at, self.snapshot.now) if head.frees else ""
        needs = lacking(shape, self.ledger.now)
        return Pending(workload.id, f"needs {needs} free; {freed}" if freed else f"needs {needs} free", starts_at)


class _Explanation:
    """Why those wait for whom nothing more particular was said, by what is free in the end; and what an autoscaler is asked for."""

    def __init__(self, ledger: Ledger, blocker: tuple[Workload, Shape] | None, waiting: Sequence[tuple[Workload, Shape, Pending | None]]):
        self._ledger, self._blocker = ledger, blocker
        self._needs: dict[Shape, str] = {}
        self._asked: dict[UUID, str] = {}
        self.wanted: tuple[Resources, ...] = ()
        if ledger.snapshot.ceiling:
            self._ask([(workload, shape) for workload, shape, told in waiting if told is None])

    def of(self, workload: Workload, shape: Shape) -> Pending:
        needs, asked = self._needed(shape), self._asked.get(workload.id, "")
        if needs or self._blocker is None:
            return Pending(workload.id, f"needs {needs} free{asked}")
        head, its_shape = self._blocker
        which = f"needs {lacks} free" if (lacks := self._needed(its_shape)) else "waits for others to save and stop"
        return Pending(workload.id, f"behind {name_for(workload.project_id, head)}, which {which}{asked}")

    def _needed(self, shape: Shape) -> str:
        if shape not in self._needs:
            self._needs[shape] = lacking(shape, self._ledger.free)
        return self._needs[shape]

    def _ask(self, waiting: Sequence[tuple[Workload, Shape]]) -> None:
        """In the order of the queue, as long as the autoscaler may add nodes: what does not fit now, on what is free and on those."""
        added, known = Space.of(self._ledger.snapshot.ceiling), len(self._ledger.nodes)
        room = Space(np.vstack((self._ledger.free.nodes, added.nodes)), self._ledger.free.whole + added.whole)
        full: set[Shape] = set()
        for workload, shape in waiting:
            if shape in full or not self._needed(shape):
                continue
            plan = room.pack(shape)
            if plan is None:
                full.add(shape)
                continue
            room.take(shape, plan)
            on = [node for node, bundles in plan for _ in range(bundles)]
            gang = [shape.gang.driver, *[shape.gang.worker] * shape.workers]
            bundles = [bundle for place, bundle in zip(on, gang, strict=True) if place >= known and bundle != NOTHING]
            self.wanted += tuple(bundles)
            self._asked[workload.id] = f"; {asked_for(bundles)}" if bundles else ""
