"""Who starts, and why the others wait, by example."""

from __future__ import annotations

import pytest

from tests.trainos.queue.snapshots import HOUR, NOW, decide, gang, job, node, of, own, reason, runs, snapshot, started
from tune.trainos.models import Resources
from tune.trainos.queue import policy
from tune.trainos.queue.models import Gang, Node, Quota, Running, Snapshot, Workload
from tune.trainos.queue.policy import PATIENCE_S, can_ever_start

EIGHT_CPUS = [node("a", cpu=8)]
LONG_AGO_S = PATIENCE_S + 1


class TestFree:
    def test_a_job_that_fits_starts_with_a_plan_of_its_bundles(self) -> None:
        decision = decide(EIGHT_CPUS, [job("one", gang=Gang(Resources(1), Resources(2), 3))])
        assert decision.admitted[0].placement == (("a", 4),), "the driver and three workers"

    def test_nothing_starts_in_half(self) -> None:
        assert not decide(EIGHT_CPUS, [job("big", cpu=2, workers=4), job("half", cpu=2)]).admitted[1:]

    def test_what_was_admitted_and_does_not_show_in_rays_account_yet_is_not_given_twice(self) -> None:
        running = runs(job("starting", cpu=6), "a", settled=False)
        assert reason(decide(EIGHT_CPUS, [two := job("two", cpu=4)], [running]), two) == "needs 4 CPU, 2 free"

    def test_nor_on_its_node(self) -> None:
        running = runs(job("starting", cpu=6), "a", settled=False)
        decision = decide([node("a", cpu=8), node("b", cpu=9)], [job("two", cpu=4)], [running])
        assert decision.admitted[0].placement == (("b", 1),)

    def test_what_a_job_leases_and_does_not_use_stays_its_own(self) -> None:
        decision = on([Node("a", Resources(8), Resources(8))], two := job("two", cpu=4), runs(job("idle", cpu=6), "a"))
        assert reason(decision, two) == "needs 4 CPU, 2 free"

    def test_what_serving_uses_is_not_free(self) -> None:
        assert reason(on([Node("a", Resources(8), Resources(3))], two := job("two", cpu=4)), two) == "needs 4 CPU, 3 free"

    def test_two_gangs_never_hold_half_of_the_cluster_each(self) -> None:
        first, second = job("first", cpu=1, workers=3, age_s=2), job("second", cpu=1, workers=3, age_s=1)
        decision = decide([node("a", cpu=2), node("b", cpu=2)], [second, first])
        assert started(decision, first, second) == ["first"]
        assert reason(decision, second) == "needs 3 CPU, 1 free"

    def test_a_bundle_lies_on_one_node(self) -> None:
        running = [runs(job("left", gpu=2), "a"), runs(job("right", gpu=2), "b")]
        decision = decide([node("a", gpu=4), node("b", gpu=4)], [two := job("two", gpu=4)], running)
        assert reason(decision, two) == "needs 4 GPU on one node, 2 free"

    def test_a_cluster_without_nodes_refuses_nothing(self) -> None:
        decision = decide([], [one := job("one", cpu=1)])
        assert not decision.refused
        assert reason(decision, one) == "no node of the cluster is up"

    def test_a_job_on_a_node_that_left_the_cluster_keeps_its_lease(self) -> None:
        decision = on([Node("a", Resources(8), Resources(8))], two := job("two", cpu=4), runs(job("lost", cpu=6), "gone"))
        assert reason(decision, two) == "needs 4 CPU, 2 free"


def on(nodes: list[Node], waiting: Workload, *running: Running) -> policy.Decision:
    """With what is available said, not computed."""
    return policy.decide(Snapshot(NOW, nodes, [waiting], running))


class TestNever:
    def test_more_than_the_whole_cluster(self) -> None:
        decision = decide(EIGHT_CPUS, [big := job("big", gpu=8)])
        assert [refused.id for refused in decision.refused] == [big.id]
        assert reason(decision, big) == "can never start: needs 8 GPU, 0 in the whole cluster"

    def test_a_bundle_larger_than_every_node(self) -> None:
        nodes = [node("a", gpu=4), node("b", gpu=4)]
        assert can_ever_start(gang(gpu=8), nodes, []) == "can never start: needs 8 GPU on one node, 4 in the whole cluster"

    def test_what_no_node_has_together(self) -> None:
        nodes = [node("a", cpu=2, gpu=4), node("b", cpu=32)]
        assert can_ever_start(gang(cpu=8, gpu=1), nodes, []) == "can never start: needs (1 GPU, 8 CPU) on one node, 0 in the whole cluster"

    def test_more_bundles_than_the_nodes_hold_whole(self) -> None:
        nodes = [node("a", gpu=4), node("b", gpu=4)]
        assert can_ever_start(gang(gpu=3, workers=2), nodes, []) is None
        wanted = "can never start: needs room for 5 × 1.5 GPU, 4 of them in the whole cluster"
        assert can_ever_start(gang(gpu=1.5, workers=5), nodes, []) == wanted

    def test_what_an_autoscaler_may_add_counts(self) -> None:
        assert can_ever_start(gang(gpu=8), EIGHT_CPUS, [node("new", gpu=8)]) is None

    def test_a_million_gpus(self) -> None:
        assert can_ever_start(gang(gpu=1, workers=10**6), [node("a", gpu=8)], []) == (
            "can never start: needs 1000000 GPU, 8 in the whole cluster"
        )


class TestOrderInAProject:
    def test_priority_stands_before_age(self) -> None:
        old, urgent = job("old", cpu=8, age_s=HOUR), job("urgent", cpu=8, age_s=1, priority=5)
        assert started(decide(EIGHT_CPUS, [old, urgent]), old, urgent) == ["urgent"]

    def test_the_older_of_equals_is_first(self) -> None:
        old, young = job("old", cpu=8, age_s=2), job("young", cpu=8, age_s=1)
        assert started(decide(EIGHT_CPUS, [young, old]), old, young) == ["old"]

    def test_what_has_waited_a_day_stands_before_priority(self) -> None:
        old, urgent = job("old", cpu=8, age_s=LONG_AGO_S), job("urgent", cpu=8, age_s=1, priority=5)
        assert started(decide(EIGHT_CPUS, [old, urgent]), old, urgent) == ["old"]


class TestOrderBetweenProjects:
    def test_who_holds_less_is_next(self) -> None:
        running = [runs(job("holds", cpu=4), "a")]
        mine, other = job("mine", cpu=4, age_s=HOUR), job("other", cpu=4, project="text", age_s=1)
        assert started(decide(EIGHT_CPUS, [mine, other], running), mine, other) == ["other"]

    def test_who_asks_in_large_pieces_is_not_always_the_one_with_more(self) -> None:
        running = [runs(job("v", cpu=4), "a"), runs(job("t", cpu=4, project="text"), "a")]
        large, small = job("large", cpu=4, age_s=HOUR), job("small", cpu=1, project="text", age_s=1)
        assert started(decide([node("a", cpu=12)], [large, small], running), large, small) == ["small"]

    def test_who_holds_nothing_is_not_put_behind_for_what_it_asks(self) -> None:
        running = [runs(job("t", cpu=1, project="text"), "a")]
        whole, small = job("whole", cpu=7, age_s=1), job("small", cpu=1, project="text", age_s=HOUR)
        assert started(decide(EIGHT_CPUS, [whole, small], running), whole, small) == ["whole"]

    def test_shares_move_with_every_admission(self) -> None:
        vision = [job(f"v{i}", cpu=2, age_s=100 - i) for i in range(4)]
        text = [job(f"t{i}", cpu=2, project="text", age_s=50 - i) for i in range(4)]
        assert started(decide(EIGHT_CPUS, [*vision, *text]), *vision, *text) == ["v0", "t0", "v1", "t1"]

    def test_the_dominant_resource_counts(self) -> None:
        """Ghodsi et al., figure 3: 9 CPUs and 18 GB; A's tasks ask <1 CPU, 4 GB>, B's <3 CPUs, 1 GB>: A gets 3 tasks, B 2."""
        a = [job(f"a{i}", cpu=1, memory_gib=4, project="A", age_s=100) for i in range(9)]
        b = [job(f"b{i}", cpu=3, memory_gib=1, project="B", age_s=100) for i in range(9)]
        names = started(decide([node("a", cpu=9, memory_gib=18)], [*a, *b]), *a, *b)
        assert (sum(name[0] == "a" for name in names), sum(name[0] == "b" for name in names)) == (3, 2)

    def test_a_weight_of_two_is_twice_the_share(self) -> None:
        vision = [job(f"v{i}", cpu=1, age_s=100) for i in range(9)]
        text = [job(f"t{i}", cpu=1, project="text", age_s=100) for i in range(9)]
        names = started(decide([node("a", cpu=9)], [*vision, *text], quotas={"vision": Quota(weight=2)}), *vision, *text)
        assert sum(name[0] == "v" for name in names) == 6

    def test_what_was_used_of_late_counts(self) -> None:
        mine, other = job("mine", cpu=8, age_s=HOUR), job("other", cpu=8, project="text", age_s=1)
        decision = decide(EIGHT_CPUS, [mine, other], usage={"vision": Resources(cpu=8 * HOUR)})
        assert started(decision, mine, other) == ["other"]

    def test_within_its_own_quota_a_project_stands_before_who_borrows(self) -> None:
        running = [runs(job("holds", cpu=4, project="text"), "a")]
        borrower, owner = job("borrower", cpu=4, age_s=HOUR), job("owner", cpu=4, project="text", age_s=1)
        decision = decide(EIGHT_CPUS, [borrower, owner], running, quotas={"text": own(cpu=8)})
        assert started(decision, borrower, owner) == ["owner"]

    def test_what_has_waited_a_day_stands_before_all_that_borrows(self) -> None:
        running = [runs(job("holds", cpu=4), "a")]
        starved, other = job("starved", cpu=4, age_s=LONG_AGO_S), job("other", cpu=4, project="text", age_s=1)
        assert started(decide(EIGHT_CPUS, [starved, other], running), starved, other) == ["starved"]

    def test_a_days_backlog_of_a_borrower_does_not_stand_before_an_owner(self) -> None:
        backlog = [job(f"v{i}", cpu=8, age_s=LONG_AGO_S + i) for i in range(3)]
        owner = job("owner", cpu=4, project="text", age_s=1)
        assert started(decide(EIGHT_CPUS, [*backlog, owner], quotas={"text": own(cpu=4)}), owner, *backlog) == ["owner"]

    def test_an_idle_owners_part_is_borrowed_and_said_to_be(self) -> None:
        waiting = [job("one", cpu=4, age_s=2), job("two", cpu=4, age_s=1)]
        decision = decide(EIGHT_CPUS, waiting, quotas={"vision": own(cpu=4), "text": own(cpu=4)})
        assert [admitted.borrows for admitted in decision.admitted] == [False, True]


class TestQuota:
    def test_a_projects_limit_is_never_passed_and_does_not_block_others(self) -> None:
        running = [runs(job("holds", gpu=8), "a")]
        more, other = job("more", gpu=1, age_s=HOUR), job("other", gpu=1, project="text")
        decision = decide([node("a", gpu=16)], [more, other], running, quotas={"vision": Quota(limit=Resources(64, 8, 512))})
        assert started(decision, more, other) == ["other"]
        assert reason(decision, more) == "project's quota: holds 8 of 8 GPU"

    def test_a_users_limit_holds_for_each_user(self) -> None:
        running = [runs(job("holds", gpu=3), "a")]
        adas, bobs = job("adas", gpu=2, age_s=HOUR), job("bobs", gpu=4, user="bob")
        decision = decide([node("a", gpu=16)], [adas, bobs], running, quotas={"vision": Quota(user_limit=Resources(64, 4, 512))})
        assert started(decision, adas, bobs) == ["bobs"]
        assert reason(decision, adas) == "user ada holds 3 of 4 GPU, this needs 2"

    def test_what_alone_is_more_than_the_quota_says_so(self) -> None:
        big = job("big", gpu=9)
        decision = decide([node("a", gpu=16)], [big], quotas={"vision": Quota(limit=Resources(64, 8, 512))})
        assert reason(decision, big) == "project's quota: may hold 8 GPU, this needs 9"

    def test_what_starts_in_the_same_look_counts(self) -> None:
        waiting = [job(f"v{i}", cpu=2, age_s=10 - i) for i in range(3)]
        decision = decide(EIGHT_CPUS, waiting, quotas={"vision": Quota(limit=Resources(cpu=4))})
        assert started(decision, *waiting) == ["v0", "v1"]


class TestAutoscaler:
    def test_is_asked_for_what_does_not_fit_and_could(self) -> None:
        waiting = job("two", gpu=4, workers=2)
        decision = decide(EIGHT_CPUS, [waiting], ceiling=[node("n1", gpu=4), node("n2", gpu=4)])
        assert decision.wanted == (Resources(gpu=4), Resources(gpu=4))
        assert reason(decision, waiting) == "needs 8 GPU, 0 free; asked the autoscaler for 2 × 4 GPU"

    def test_is_asked_for_no_more_than_its_maximum(self) -> None:
        first, second = job("first", gpu=4, age_s=2), job("second", gpu=4, age_s=1)
        decision = decide(EIGHT_CPUS, [first, second], ceiling=[node("n1", gpu=4)])
        assert decision.wanted == (Resources(gpu=4),)
        assert reason(decision, second) == "needs 4 GPU, 0 free"

    def test_is_not_asked_where_a_quota_keeps_a_job_waiting(self) -> None:
        big = job("big", gpu=4)
        assert not decide(EIGHT_CPUS, [big], ceiling=[node("n1", gpu=4)], quotas={"vision": Quota(limit=Resources(cpu=8))}).wanted

    def test_what_waits_for_new_nodes_keeps_nobody_waiting(self) -> None:
        big, small = job("big", gpu=4, age_s=HOUR), job("small", cpu=8)
        assert started(decide(EIGHT_CPUS, [big, small], ceiling=[node("n1", gpu=4)]), big, small) == ["small"]


class TestDeterminism:
    @pytest.mark.parametrize("turn", range(3))
    def test_the_order_in_which_a_snapshot_lists_things_does_not_matter(self, turn: int) -> None:
        running = [runs(job(f"r{i}", cpu=2, project=f"p{i}"), f"n{i}") for i in range(3)]
        waiting = [job(f"w{i}", cpu=i % 3 + 1, project=f"p{i % 4}", age_s=60) for i in range(12)]
        nodes = [node(f"n{i}", cpu=4) for i in range(3)]
        turned = decide(nodes[turn:] + nodes[:turn], waiting[turn:] + waiting[:turn], running[turn:] + running[:turn])
        assert turned == policy.decide(snapshot(nodes, waiting, running))


class TestLeavingNodes:
    """Of two nodes with 8 CPUs one is about to be taken away."""

    NODES = (node("a", cpu=8), node("b", cpu=8, leaving=True, jobs=frozenset({of("worker there")})))

    def test_what_runs_there_leaves_and_nothing_starts_there(self) -> None:
        fits, fits_not = job("fits", cpu=3, age_s=9), job("fits not", cpu=3)
        there, stays = runs(job("there", cpu=2), "b", preemptible=False), runs(job("stays", cpu=2), "a")
        decision = decide(self.NODES, [fits, fits_not], [there, stays])
        assert [(item.id, item.by) for item in decision.preempted] == [(of("there"), None)]
        assert [placed.placement for placed in decision.admitted] == [(("a", 1),)]

    def test_so_does_what_ray_put_there_against_the_plan(self) -> None:
        decision = decide(self.NODES, [], [runs(job("worker there", cpu=2), "a")])
        assert [item.id for item in decision.preempted] == [of("worker there")]

    def test_it_is_asked_once(self) -> None:
        assert not decide(self.NODES, [], [runs(job("there", cpu=2), "b", leaving=True)]).preempted


class TestClosed:
    def test_of_a_closed_project_nothing_starts_and_it_keeps_nobody_waiting(self) -> None:
        shut, other = job("shut", cpu=2, project="spent", age_s=2), job("other", cpu=8)
        decision = decide(EIGHT_CPUS, [shut, other], closed={"spent": "its budget is spent"})
        assert started(decision, shut, other) == ["other"] and reason(decision, shut) == "its budget is spent"

    def test_what_runs_of_it_leaves_and_its_room_goes_to_others(self) -> None:
        runs_on = runs(job("stays", cpu=1, project="spent"), "a", preemptible=False)
        leaves, other = runs(job("leaves", cpu=7, project="spent"), "a"), job("other", cpu=7)
        decision = decide(EIGHT_CPUS, [other], [runs_on, leaves], closed={"spent": "its budget is spent"})
        assert [(item.id, item.by) for item in decision.preempted] == [(leaves.workload.id, None)]
        assert "to save and stop" in reason(decision, other)

    def test_it_is_asked_once(self) -> None:
        leaving = runs(job("leaves", cpu=7, project="spent"), "a", leaving=True)
        assert not decide(EIGHT_CPUS, [], [leaving], closed={"spent": "its budget is spent"}).preempted
