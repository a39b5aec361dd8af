"""The decisions of the live queue on a clock of events: replays traces, and says when what waits would start."""

from __future__ import annotations

import bisect
import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tune.trainos.models import Resources
from tune.trainos.policy import HALF_LIFE_S, decayed_use
from tune.trainos.queue import policy
from tune.trainos.queue.contention import Contention
from tune.trainos.queue.models import NOTHING, Admitted, Decision, Node, Quota, Running, Snapshot, Workload
from tune.trainos.queue.packing import Shapes, Space, vector
from tune.trainos.queue.report import ProjectReport, Report, Waits, jain
from tune.trainos.queue.trace import EPOCH, Traced

SAVE_S = 10.0
_UNKNOWN_RUN_S = 3600.0
_FORECAST_LOOKS = 1000
_LOOKS_UNTOLD = 100


@dataclass(slots=True)
class Execution:
    """A workload in a simulation. Times are seconds since its start; it computes for ``left_s`` from ``started_s`` on."""

    workload: Workload
    left_s: float
    checkpoint_s: float | None = None
    running: Running | None = None
    started_s: float = 0.0
    leaves_s: float = math.inf
    submitted_s: float = 0.0
    first_started_s: float | None = None
    ended_s: float | None = None

    @property
    def ends_s(self) -> float:
        limit_s = self.workload.limit_s
        return self.started_s + (self.left_s if limit_s is None else min(self.left_s, limit_s))

    def saved_s(self, now_s: float) -> float:
        """When it saved last; its start where it did not."""
        if self.checkpoint_s is None:
            return self.started_s
        return self.started_s + self.checkpoint_s * math.floor((now_s - self.started_s) / self.checkpoint_s + 1e-9)


class _Project:
    """A project's line by priority and age, what it holds, and what it used of late."""

    def __init__(self, usage: Resources, now_s: float) -> None:
        self.line: list[tuple[int, datetime, UUID]] = []
        self.held, self._usage, self._until_s = NOTHING, usage, now_s

    def usage(self, now_s: float) -> Resources:
        """What was used, halved every ``HALF_LIFE_S``, and what was held since."""
        past_s, self._until_s = now_s - self._until_s, now_s
        self._usage = self._usage * 0.5 ** (past_s / HALF_LIFE_S) + decayed_use(self.held, past_s)
        return self._usage


class Simulation:
    """A cluster and its queue on a clock that steps from event to event.

    ``save_s``: how long a gang that was asked to leave takes; it queues anew, and goes on from its latest regular checkpoint. ``tick_s``:
    how long after an event one looks at the queue. ``depth``: how many of each project's line one looks at.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        quotas: Mapping[UUID, Quota] | None = None,
        *,
        start: datetime = EPOCH,
        usage: Mapping[UUID, Resources] | None = None,
        save_s: float = SAVE_S,
        tick_s: float = 0.0,
        depth: int = 64,
        decide: Callable[[Snapshot], Decision] = policy.decide,
    ) -> None:
        self._nodes, self._quotas, self._start, self._decide = list(nodes), quotas or {}, start, decide
        self._save_s, self._tick_s, self._depth = save_s, tick_s, depth
        self._index = {node.id: i for i, node in enumerate(self._nodes)}
        self._free = Space.of([Node(node.id, node.available, node.available) for node in self._nodes])
        self._shapes = Shapes()
        self._past_usage = usage or {}
        self._projects: dict[UUID, _Project] = {}
        self._capacity = sum((node.total for node in self._nodes), NOTHING)
        self._contention = Contention(vector(self._capacity), {project: quota.weight for project, quota in self._quotas.items()})
        self._events: list[tuple[float, UUID]] = []
        self._running: dict[UUID, Execution] = {}
        self._waiting: set[UUID] = set()
        self._held, self._used = NOTHING, NOTHING
        self._look_s = math.inf
        self.now_s = 0.0
        self.executions: dict[UUID, Execution] = {}
        self.looks = self.admissions = self.backfilled = self.preemptions = self.ended = 0
        self.decide_s = self.lost_s = 0.0

    def submit(self, workload: Workload, run_s: float, checkpoint_s: float | None = None) -> None:
        """It queues at its ``queued_at``, or at once where that is past, and then computes for ``run_s``."""
        queued_s = self._seconds(workload.queued_at)
        self.executions[workload.id] = Execution(workload, run_s, checkpoint_s, submitted_s=queued_s)
        heapq.heappush(self._events, (max(self.now_s, queued_s), workload.id))

    def start_with(self, running: Running, left_s: float) -> None:
        """It runs already and will for ``left_s`` more; one that leaves does so after ``save_s``."""
        started_s = self._seconds(running.started_at)
        if not running.settled:
            self._free.take(self._shapes.of(running.workload.gang), self._plan(running.placement))
            running = replace(running, settled=True)
        execution = Execution(running.workload, self.now_s - started_s + left_s, None, running, started_s, first_started_s=started_s)
        self.executions[running.workload.id] = execution
        self._run(execution)
        if running.leaving:
            execution.leaves_s = self.now_s + self._save_s
            heapq.heappush(self._events, (execution.leaves_s, running.workload.id))

    def run(self, until_s: float = math.inf, looks: float = math.inf) -> bool:
        """To the end of all events, or one of the bounds; whether it was the end."""
        while (next_s := min(self._look_s, self._events[0][0] if self._events else math.inf)) <= until_s and self.looks < looks:
            if next_s == math.inf:
                return True
            self._used += self._held * (next_s - self.now_s)
            self.now_s = next_s
            while self._events and self._events[0][0] <= self.now_s:
                if self._happens(self.executions[heapq.heappop(self._events)[1]]):
                    self._look_s = min(self._look_s, self.now_s + self._tick_s)
            if self._look_s <= self.now_s:
                self._look()
        return False

    def _happens(self, execution: Execution) -> bool:
        """What is due of it: that it arrives, ends, or leaves. False where another event made this one void."""
        id = execution.workload.id
        if id in self._running:
            if execution.ends_s <= self.now_s:
                self._release(execution)
                execution.ended_s = self.now_s
                self.ended += 1
            elif execution.leaves_s <= self.now_s:
                self._requeue(execution)
            else:
                return False
        elif execution.ended_s is not None or id in self._waiting:
            return False
        else:
            self._enqueue(execution.workload)
        return True

    def _requeue(self, execution: Execution) -> None:
        self._release(execution)
        saved_s = execution.saved_s(self.now_s)
        self.lost_s += self.now_s - saved_s
        execution.left_s -= saved_s - execution.started_s
        execution.leaves_s = math.inf
        execution.workload = replace(execution.workload, queued_at=self._at(self.now_s))
        self._enqueue(execution.workload)

    def _enqueue(self, workload: Workload) -> None:
        bisect.insort(self._project(workload.project_id).line, (-workload.priority, workload.queued_at, workload.id))
        self._waiting.add(workload.id)
        self._changed(workload.project_id)

    def _leave_line(self, workload: Workload) -> None:
        line = self._project(workload.project_id).line
        del line[bisect.bisect_left(line, (-workload.priority, workload.queued_at, workload.id))]
        self._waiting.remove(workload.id)
        self._changed(workload.project_id)

    def _look(self) -> None:
        self._look_s = math.inf
        snapshot = self.snapshot()
        if not snapshot.waiting:
            return
        started = time.perf_counter()
        decision = self._decide(snapshot)
        self.decide_s += time.perf_counter() - started
        self.looks += 1
        for admitted in decision.admitted:
            self._admit(admitted)
        for refused in decision.refused:
            execution = self.executions[refused.id]
            self._leave_line(execution.workload)
            execution.ended_s = self.now_s
        for preempted in decision.preempted:
            execution = self._running[preempted.id]
            execution.leaves_s = self.now_s + self._save_s
            heapq.heappush(self._events, (execution.leaves_s, preempted.id))
        self.preemptions += len(decision.preempted)
        if decision.preempted or decision.refused:
            self._look_s = self.now_s + self._tick_s

    def _admit(self, admitted: Admitted) -> None:
        execution, now = self.executions[admitted.id], self._at(self.now_s)
        self._leave_line(execution.workload)
        self._free.take(self._shapes.of(execution.workload.gang), self._plan(admitted.placement))
        execution.started_s = self.now_s
        execution.running = Running(execution.workload, admitted.placement, now, now)
        if execution.first_started_s is None:
            execution.first_started_s = self.now_s
        self.admissions += 1
        self.backfilled += admitted.backfilled
        self._run(execution)

    def _run(self, execution: Execution) -> None:
        self._hold(execution.workload, 1.0)
        self._running[execution.workload.id] = execution
        heapq.heappush(self._events, (max(self.now_s, execution.ends_s), execution.workload.id))

    def _release(self, execution: Execution) -> None:
        assert execution.running is not None, "only what runs holds something"
        self._hold(execution.workload, -1.0)
        self._free.give(self._shapes.of(execution.workload.gang), self._plan(execution.running.placement))
        del self._running[execution.workload.id]

    def _hold(self, workload: Workload, sign: float) -> None:
        project, held = self._project(workload.project_id), workload.gang.resources * sign
        project.usage(self.now_s)
        project.held += held
        self._held += held
        self._changed(workload.project_id)

    def _changed(self, id: UUID) -> None:
        project = self._project(id)
        self._contention.update(id, self.now_s, vector(project.held), bool(project.line))

    def snapshot(self) -> Snapshot:
        """What the queue would be shown now."""
        free = self._free.nodes.tolist()
        nodes = [Node(node.id, node.total, Resources(*free[i])) for i, node in enumerate(self._nodes)]
        usage = {id: project.usage(self.now_s) for id, project in self._projects.items()}
        waiting = [workload for project in self._projects.values() for workload in self._front(project)]
        running = [self._shown(execution) for execution in self._running.values()]
        return Snapshot(self._at(self.now_s), nodes, waiting, running, self._quotas, usage)

    def _front(self, project: _Project) -> Iterator[Workload]:
        """The first of its line, in the order of the policy: what has waited for long, then priority, then age."""
        line: Sequence[tuple[int, datetime, UUID]] = project.line
        long_ago = self._at(self.now_s - policy.PATIENCE_S)
        if len(line) > self._depth and any(queued_at < long_ago for _, queued_at, _ in line):
            line = sorted(line, key=lambda entry: (entry[1] >= long_ago, entry[1] if entry[1] < long_ago else long_ago, entry))
        for _, _, id in line[: self._depth]:
            yield self.executions[id].workload

    def _shown(self, execution: Execution) -> Running:
        assert execution.running is not None, "it runs"
        leaving = execution.leaves_s < math.inf
        if execution.checkpoint_s is not None or leaving != execution.running.leaving:
            saved_at = execution.running.saved_at if execution.checkpoint_s is None else self._at(execution.saved_s(self.now_s))
            execution.running = replace(execution.running, saved_at=saved_at, leaving=leaving)
        return execution.running

    def report(self, names: Mapping[UUID, str]) -> Report:
        """What it came to until now. ``names``: of the projects."""
        waits: dict[UUID, list[float]] = {project: [] for project in self._projects}
        for execution in self.executions.values():
            if execution.first_started_s is not None:
                waits[execution.workload.project_id].append(execution.first_started_s - execution.submitted_s)
        ratios = self._contention.ratios()
        had, used = vector(self._capacity * self.now_s), vector(self._used)
        return Report(
            workloads=len(self.executions),
            finished=sum(execution.ended_s is not None and execution.first_started_s is not None for execution in self.executions.values()),
            never_started=sum(execution.first_started_s is None for execution in self.executions.values()),
            admissions=self.admissions,
            backfilled=self.backfilled,
            preemptions=self.preemptions,
            lost_s=self.lost_s,
            makespan_s=self.now_s,
            utilisation={name: used[i] / had[i] for i, name in enumerate(("CPU", "GPU", "memory")) if had[i] > 0},
            waits=Waits.of([wait for each in waits.values() for wait in each]),
            fairness=jain(ratios.values()),
            projects=tuple(ProjectReport(names.get(id, str(id)), Waits.of(each), ratios.get(id, 1.0)) for id, each in waits.items()),
            looks=self.looks,
            decide_s=self.decide_s,
        )

    def _project(self, id: UUID) -> _Project:
        if id not in self._projects:
            self._projects[id] = _Project(self._past_usage.get(id, NOTHING), self.now_s)
        return self._projects[id]

    def _plan(self, placement: Sequence[tuple[str, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((self._index.get(node, -1), bundles) for node, bundles in placement)

    def _seconds(self, at: datetime) -> float:
        return (at - self._start).total_seconds()

    def _at(self, seconds: float) -> datetime:
        return self._start + timedelta(seconds=seconds)


def replay(
    trace: Iterable[Traced],
    nodes: Sequence[Node],
    quotas: Mapping[UUID, Quota] | None = None,
    *,
    tell: Callable[[float], object] = lambda _: None,
    **options: Any,
) -> Report:
    """The report of a trace on a cluster; ``options`` as of Simulation. ``tell`` learns now and then which part of the trace is over."""
    simulation, names = Simulation(nodes, quotas, **options), {}
    for traced in trace:
        names[traced.workload.project_id] = traced.project
        simulation.submit(traced.workload, traced.run_s, traced.checkpoint_s)
    while not simulation.run(looks=simulation.looks + _LOOKS_UNTOLD):
        tell(simulation.ended / len(simulation.executions))
    return simulation.report(names)


def forecast(
    snapshot: Snapshot, expected_run_s: Mapping[UUID, float], looks: int = _FORECAST_LOOKS
) -> dict[UUID, tuple[datetime, datetime]]:
    """When each waiting workload would start and end, were nothing else submitted: the same policy on a clock that runs ahead.

    ``expected_run_s``: how long a workload runs in all. Where it is not said its limit stands for it, then an hour; what has run longer
    than expected is taken to run as long again as it has (for a process's remaining life its age is the median: Harchol-Balter and
    Downey, SIGMETRICS 1996). What does not start within so many ``looks`` is left out, and what is of a closed project.
    """
    simulation = Simulation(snapshot.nodes, snapshot.quotas, start=snapshot.now, usage=snapshot.usage)
    for running in snapshot.running:
        ran_s = (snapshot.now - running.started_at).total_seconds()
        left_s = _expected_s(running.workload, expected_run_s) - ran_s
        simulation.start_with(running, left_s if left_s > 0 else ran_s)
    waiting = [workload for workload in snapshot.waiting if workload.project_id not in snapshot.closed]
    for workload in waiting:
        simulation.submit(workload, _expected_s(workload, expected_run_s))
    simulation.run(looks=looks)
    return {
        workload.id: (snapshot.now + timedelta(seconds=execution.first_started_s), snapshot.now + timedelta(seconds=execution.ends_s))
        for workload in waiting
        if (execution := simulation.executions[workload.id]).first_started_s is not None
    }


def _expected_s(workload: Workload, expected_run_s: Mapping[UUID, float]) -> float:
    return expected_run_s.get(workload.id, _UNKNOWN_RUN_S if workload.limit_s is None else workload.limit_s)
