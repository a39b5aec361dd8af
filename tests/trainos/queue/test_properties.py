"""What holds for every queue: over random traces, at every look that the simulation takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.trainos.queue.snapshots import node, of, on_nodes
from tune.trainos.models import Resources
from tune.trainos.queue import policy
from tune.trainos.queue.models import NOTHING, UNLIMITED, Decision, Gang, Node, Quota, Running, Snapshot, Workload
from tune.trainos.queue.packing import Shape, Space
from tune.trainos.queue.policy import can_ever_start
from tune.trainos.queue.simulation import Simulation
from tune.trainos.queue.trace import EPOCH

PROJECTS = ("vision", "text", "speech")
Check = Callable[[Snapshot, Decision], None]


@st.composite
def workloads(draw: st.DrawFn, projects: int = 3, bounded: bool = False, priorities: int = 2) -> list[tuple[Workload, float, float | None]]:
    """A dozen jobs, how long they compute, and how often they save."""
    made = []
    for i in range(draw(st.integers(1, 12))):
        run_s = draw(st.integers(1, 40))
        limit_s = run_s + draw(st.integers(0, 20)) if bounded or draw(st.booleans()) else None
        shape = Gang(Resources(draw(st.integers(0, 2))), Resources(draw(st.integers(1, 3))), draw(st.integers(0, 3)))
        if shape.resources == NOTHING:
            shape = Gang(Resources(1), NOTHING, 0)
        project, user = PROJECTS[draw(st.integers(0, projects - 1))], draw(st.sampled_from("ab"))
        queued_at = EPOCH + timedelta(seconds=draw(st.integers(0, 60)))
        workload = Workload(UUID(int=i), f"w{i}", of(project), user, shape, queued_at, draw(st.integers(0, priorities - 1)), limit_s)
        made.append((workload, float(run_s), draw(st.sampled_from((None, 5.0)))))
    return made


CLUSTERS = st.lists(st.integers(2, 7), min_size=1, max_size=3).map(lambda sizes: [node(f"n{i}", cpu=size) for i, size in enumerate(sizes)])
AMOUNTS = st.integers(0, 8).map(lambda cpu: Resources(cpu=cpu))
LIMITS = st.one_of(st.just(UNLIMITED), st.integers(3, 12).map(lambda cpu: replace(UNLIMITED, cpu=cpu)))
QUOTAS = st.dictionaries(
    st.sampled_from([of(project) for project in PROJECTS]), st.builds(Quota, AMOUNTS, LIMITS, LIMITS, st.sampled_from((1.0, 2.0)))
)


def simulate(nodes: list[Node], trace: list[tuple[Workload, float, float | None]], quotas: dict[UUID, Quota], *checks: Check) -> Simulation:
    def decide(snapshot: Snapshot) -> Decision:
        decision = policy.decide(snapshot)
        for check in checks:
            check(snapshot, decision)
        return decision

    simulation = Simulation(nodes, quotas, decide=decide, save_s=3.0)
    for workload, run_s, checkpoint_s in trace:
        simulation.submit(workload, run_s, checkpoint_s)
    simulation.run()
    return simulation


def admitted(snapshot: Snapshot, decision: Decision) -> list[tuple[Workload, tuple[tuple[str, int], ...]]]:
    waiting = {workload.id: workload for workload in snapshot.waiting}
    return [(waiting[each.id], each.placement) for each in decision.admitted]


def no_node_is_over_committed(snapshot: Snapshot, decision: Decision) -> None:
    free = {node.id: node.available for node in snapshot.nodes}
    for workload, placement in admitted(snapshot, decision):
        for name, taken in on_nodes(workload.gang, placement):
            free[name] -= taken
    assert all(left.cpu >= -1e-6 for left in free.values())


def the_cluster_is_not_over_committed(snapshot: Snapshot, decision: Decision) -> None:
    gangs = [running.workload.gang for running in snapshot.running] + [workload.gang for workload, _ in admitted(snapshot, decision)]
    assert sum(gang.resources.cpu for gang in gangs) <= sum(node.total.cpu for node in snapshot.nodes) + 1e-6


def no_gang_is_placed_in_half(snapshot: Snapshot, decision: Decision) -> None:
    for workload, placement in admitted(snapshot, decision):
        assert sum(bundles for _, bundles in placement) == workload.gang.workers + 1


def no_quota_is_passed(snapshot: Snapshot, decision: Decision) -> None:
    started = [workload for workload, _ in admitted(snapshot, decision)]
    holds: defaultdict[tuple[UUID, str], float] = defaultdict(float)
    for workload in [running.workload for running in snapshot.running] + started:
        holds[workload.project_id, ""] += workload.gang.resources.cpu
        holds[workload.project_id, workload.user] += workload.gang.resources.cpu
    for workload in started:
        quota = snapshot.quotas.get(workload.project_id, Quota())
        assert holds[workload.project_id, ""] <= quota.limit.cpu
        assert holds[workload.project_id, workload.user] <= quota.user_limit.cpu


def nobody_is_pushed_below_its_own_quota(snapshot: Snapshot, decision: Decision) -> None:
    claimants = {workload.id: workload for workload in snapshot.waiting}
    running = {each.workload.id: each for each in snapshot.running}
    staying: defaultdict[UUID, float] = defaultdict(float)
    for each in snapshot.running:
        staying[each.workload.project_id] += 0 if each.leaving else each.workload.gang.resources.cpu
    robbed = set()
    for preempted in decision.preempted:
        victim, claimant = running[preempted.id].workload, claimants[preempted.by]
        assert running[preempted.id].preemptible and not running[preempted.id].leaving
        if victim.project_id == claimant.project_id:
            assert victim.priority < claimant.priority
        else:
            staying[victim.project_id] -= victim.gang.resources.cpu
            robbed.add(victim.project_id)
    for project in robbed:
        assert staying[project] >= snapshot.quotas.get(project, Quota()).nominal.cpu


def everybody_gets_an_answer(snapshot: Snapshot, decision: Decision) -> None:
    answered = [each.id for each in (*decision.admitted, *decision.pending, *decision.refused)]
    assert sorted(answered) == sorted(workload.id for workload in snapshot.waiting)
    assert all(pending.reason and "needs  " not in pending.reason for pending in decision.pending)


def the_head_still_fits_when_it_was_promised(snapshot: Snapshot, decision: Decision) -> None:
    for pending in decision.pending:
        if pending.starts_at is not None:
            head = next(workload for workload in snapshot.waiting if workload.id == pending.id)
            asked = {preempted.id for preempted in decision.preempted}
            stays = [each for each in snapshot.running if not (each.leaving or each.workload.id in asked or ends_by(each, pending))]
            for workload, placement in admitted(snapshot, decision):
                fresh = Running(workload, placement, snapshot.now, snapshot.now)
                stays += [] if ends_by(fresh, pending) else [fresh]
            space, index = Space.of(snapshot.nodes), {node.id: i for i, node in enumerate(snapshot.nodes)}
            for each in stays:
                space.take(Shape(each.workload.gang), tuple((index[name], bundles) for name, bundles in each.placement))
            assert space.pack(Shape(head.gang)) is not None


def ends_by(running: Running, pending: policy.Pending) -> bool:
    limit_s = running.workload.limit_s
    return limit_s is not None and pending.starts_at is not None and running.started_at + timedelta(seconds=limit_s) <= pending.starts_at


def order_does_not_matter(snapshot: Snapshot, decision: Decision) -> None:
    turned = replace(snapshot, nodes=snapshot.nodes[::-1], waiting=snapshot.waiting[::-1], running=snapshot.running[::-1])
    assert policy.decide(turned) == decision


ALWAYS = (
    no_node_is_over_committed,
    the_cluster_is_not_over_committed,
    no_gang_is_placed_in_half,
    no_quota_is_passed,
    nobody_is_pushed_below_its_own_quota,
    everybody_gets_an_answer,
    order_does_not_matter,
)


class TestEveryTrace:
    @given(CLUSTERS, workloads(), QUOTAS)
    def test_commits_no_more_than_there_is_and_starts_all_that_can_ever_start(
        self, nodes: list[Node], trace: list[tuple[Workload, float, float | None]], quotas: dict[UUID, Quota]
    ) -> None:
        done = simulate(nodes, trace, quotas, *ALWAYS)
        for workload, _, _ in trace:
            quota = quotas.get(workload.project_id, Quota())
            allowed = workload.gang.resources.cpu <= min(quota.limit.cpu, quota.user_limit.cpu)
            execution = done.executions[workload.id]
            if can_ever_start(workload.gang, nodes):
                assert execution.first_started_s is None and execution.ended_s is not None
            elif allowed:
                assert execution.first_started_s is not None and execution.ended_s is not None
            else:
                assert execution.first_started_s is None and execution.ended_s is None

    @given(CLUSTERS, workloads())
    def test_keeps_the_promise_to_the_head(self, nodes: list[Node], trace: list[tuple[Workload, float, float | None]]) -> None:
        simulate(nodes, trace, {}, the_head_still_fits_when_it_was_promised)


class TestOneLine:
    @given(CLUSTERS, workloads(projects=1, bounded=True, priorities=1))
    def test_backfill_never_delays_the_head_beyond_its_first_promise(
        self, nodes: list[Node], trace: list[tuple[Workload, float, float | None]]
    ) -> None:
        promised: dict[UUID, float] = {}

        def remember(snapshot: Snapshot, decision: Decision) -> None:
            for pending in decision.pending:
                if pending.starts_at is not None:
                    promised.setdefault(pending.id, (pending.starts_at - EPOCH).total_seconds())

        done = simulate(nodes, trace, {}, remember)
        for id, promise_s in promised.items():
            started_s = done.executions[id].first_started_s
            assert started_s is not None and started_s <= promise_s + 1e-6
