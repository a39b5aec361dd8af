"""Who gives way, for whom, and who loses least."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tests.trainos.queue.snapshots import HOUR, decide, gang, job, node, of, own, preempted, reason, runs, snapshot, started
from tune.trainos.models import Resources
from tune.trainos.queue import policy
from tune.trainos.queue.models import Node, Quota

EIGHT_CPUS = [node("a", cpu=8)]
HALVES = {"vision": own(cpu=4), "text": own(cpu=4)}


class TestReclaim:
    owner = job("owner", cpu=4, project="text")

    def test_an_owner_gets_its_part_back_from_who_borrowed_it(self) -> None:
        running = [runs(job(f"v{i}", cpu=2), "a", unsaved_s=10 * (i + 1)) for i in range(4)]
        decision = decide(EIGHT_CPUS, [self.owner], running, quotas=HALVES)
        assert preempted(decision) == {of("v0"), of("v1")}, "those with the latest checkpoints"
        assert {each.by for each in decision.preempted} == {self.owner.id}
        assert reason(decision, self.owner) == "waits for another project's job and 1 more to save and stop"

    @pytest.mark.parametrize("shown", [0, 4, 8], ids=["nothing", "half", "all"])
    def test_also_from_jobs_of_which_nobody_knows_how_much_ray_shows_yet(self, shown: float) -> None:
        running = [runs(job(f"v{i}", cpu=4), "a", settled=False, for_s=20 + i) for i in range(2)]
        nodes = [Node("a", Resources(8), Resources(8 - shown))]
        decision = policy.decide(replace(snapshot(nodes, [self.owner], running, quotas=HALVES), nodes=nodes))
        assert preempted(decision) == {of("v0")}

    @pytest.mark.parametrize(("for_s", "asked"), [(2.0, set()), (20.0, {of("v0")})])
    def test_what_has_just_begun_leaves_for_nobody_in_vain(self, for_s: float, asked: set[UUID]) -> None:
        """Serving may hold all that Ray shows as taken: who had no time yet to place its workers would leave, and return, without end."""
        running = [runs(job("v0", cpu=2), "a", settled=False, for_s=for_s)]
        nodes = [Node("a", Resources(8), Resources(2))]
        found = snapshot(nodes, [self.owner], running, quotas={"text": own(cpu=4)})
        assert preempted(policy.decide(replace(found, nodes=nodes))) == asked

    def test_nobody_falls_below_its_own_quota(self) -> None:
        running = [runs(job("v0", cpu=3), "a"), runs(job("v1", cpu=3), "a")]
        decision = decide(EIGHT_CPUS, [self.owner], running, quotas=HALVES)
        assert not decision.preempted, "without either, vision would hold 3 of its 4"

    def test_nor_by_several_that_leave_together(self) -> None:
        running = [runs(job(f"v{i}", cpu=2), "a") for i in range(4)]
        quotas = {"vision": own(cpu=4), "text": own(cpu=6)}
        assert not decide(EIGHT_CPUS, [job("big", cpu=6, project="text")], running, quotas=quotas).preempted

    def test_who_would_borrow_asks_nobody_to_leave(self) -> None:
        running = [runs(job(f"v{i}", cpu=2), "a") for i in range(4)]
        assert not decide(EIGHT_CPUS, [job("big", cpu=6, project="text")], running, quotas=HALVES).preempted

    def test_what_waits_to_leave_is_awaited_and_nobody_else_asked(self) -> None:
        running = [runs(job(f"v{i}", cpu=2), "a", leaving=i < 2) for i in range(4)]
        decision = decide(EIGHT_CPUS, [self.owner], running, quotas=HALVES)
        assert not decision.preempted
        assert reason(decision, self.owner) == "waits for another project's job and 1 more to save and stop"

    def test_what_is_freed_for_one_is_not_given_to_another_meanwhile(self) -> None:
        running = [runs(job(f"v{i}", cpu=2), "a", leaving=i < 1) for i in range(3)]  # 2 free, 2 leave
        other = job("other", cpu=2, age_s=HOUR)
        decision = decide(EIGHT_CPUS, [other, self.owner], running, quotas=HALVES)
        assert not started(decision, other, self.owner)
        assert reason(decision, other) == "behind another project's job, which needs 4 CPU, 2 free"

    def test_what_is_left_over_of_a_victim_serves_the_next(self) -> None:
        running = [runs(job("v0", cpu=4), "a", unsaved_s=1), runs(job("v1", cpu=4), "a", unsaved_s=1000)]
        first, second = job("first", cpu=2, project="text", age_s=2), job("second", cpu=2, project="text", age_s=1)
        decision = decide(EIGHT_CPUS, [first, second], running, quotas=HALVES)
        assert preempted(decision) == {of("v0")}
        assert "to save and stop" in reason(decision, second)

    def test_an_owner_takes_back_all_that_is_its_own_in_one_look(self) -> None:
        nodes = [node(f"n{i}", gpu=8) for i in range(4)]
        running = [runs(job(f"v{i}", gpu=2), f"n{i % 4}", unsaved_s=i) for i in range(16)]
        waiting = [job(f"t{i}", gpu=4, project="text", age_s=100 - i) for i in range(6)]
        decision = decide(nodes, waiting, running, quotas={"vision": own(gpu=16), "text": own(gpu=16)})
        assert len(decision.preempted) == 8
        assert sum("to save and stop" in pending.reason for pending in decision.pending) == 4

    def test_what_may_never_be_asked_is_not(self) -> None:
        running = [runs(job(f"v{i}", cpu=2), "a", preemptible=False) for i in range(4)]
        assert not decide(EIGHT_CPUS, [self.owner], running, quotas=HALVES).preempted

    def test_another_resource_than_the_short_one_is_no_reason_to_leave(self) -> None:
        nodes = [node("a", cpu=8, gpu=2)]
        running = [runs(job("v0", cpu=4), "a"), runs(job("v1", cpu=2, gpu=1), "a"), runs(job("t0", cpu=2, project="text"), "a")]
        owner = job("owner", cpu=2, project="text")
        quotas = {"vision": own(cpu=6), "text": own(cpu=4)}
        assert not decide(nodes, [owner], running, quotas=quotas).preempted, "vision borrows a GPU, and the owner needs CPUs"


class TestPriority:
    low = runs(job("low", cpu=8, priority=-1), "a")

    def test_a_projects_own_lower_priority_gives_way(self) -> None:
        urgent = job("urgent", cpu=8, priority=1)
        decision = decide(EIGHT_CPUS, [urgent], [self.low])
        assert preempted(decision) == {of("low")}
        assert reason(decision, urgent) == "waits for low to save and stop"

    @pytest.mark.parametrize("waiting", [job("equal", cpu=8, priority=-1), job("other", cpu=8, priority=9, project="text")])
    def test_equal_priority_and_other_projects_do_not(self, waiting: object) -> None:
        assert not decide(EIGHT_CPUS, [waiting], [self.low]).preempted  # type: ignore[list-item]  # a workload

    def test_it_makes_room_in_the_projects_quota_too(self) -> None:
        running = [runs(job("low", cpu=4), "a")]
        urgent = job("urgent", cpu=4, priority=1)
        decision = decide(EIGHT_CPUS, [urgent], running, quotas={"vision": Quota(limit=Resources(cpu=4))})
        assert preempted(decision) == {of("low")}
        assert not decision.admitted, "the quota is not passed while the other saves"

    def test_a_quota_that_others_fill_asks_nobody_to_leave_in_vain(self) -> None:
        running = [runs(job("low", cpu=2), "a"), runs(job("peer", cpu=2, priority=1), "a")]
        urgent = job("urgent", cpu=4, priority=1)
        decision = decide(EIGHT_CPUS, [urgent], running, quotas={"vision": Quota(limit=Resources(cpu=4))})
        assert not decision.preempted
        assert reason(decision, urgent) == "project's quota: holds 4 of 4 CPU"


class TestLoss:
    urgent = job("urgent", cpu=4, priority=10)

    def victims(self, *running: object) -> set[str]:
        decision = decide(EIGHT_CPUS, [self.urgent], running)  # type: ignore[arg-type]  # running gangs
        return {next(each.workload.name for each in running if each.workload.id == id) for id in preempted(decision)}  # type: ignore[attr-defined]  # running gangs

    def test_the_latest_checkpoint_loses_least(self) -> None:
        assert self.victims(runs(job("stale", cpu=4), "a", unsaved_s=900), runs(job("fresh", cpu=4), "a", unsaved_s=30)) == {"fresh"}

    def test_of_two_the_lower_priority(self) -> None:
        assert self.victims(runs(job("low", cpu=4), "a"), runs(job("higher", cpu=4, priority=3), "a")) == {"low"}

    def test_one_large_rather_than_many_small_that_lose_more_together(self) -> None:
        small = [runs(job(f"s{i}", cpu=1), "a", unsaved_s=100) for i in range(4)]
        assert self.victims(*small, runs(job("large", cpu=4), "a", unsaved_s=90)) == {"large"}

    def test_nobody_superfluous(self) -> None:
        tiny = runs(job("tiny", cpu=1), "a", unsaved_s=1)
        assert self.victims(tiny, runs(job("rest", cpu=7), "a", unsaved_s=900)) == {"rest"}

    def test_one_node_is_emptied_rather_than_two_halved(self) -> None:
        nodes = [node("a", gpu=4), node("b", gpu=4)]
        running = [
            runs(job("a0", gpu=2), "a", unsaved_s=1),
            runs(job("a1", gpu=2), "a", unsaved_s=100),
            runs(job("b0", gpu=2), "b", unsaved_s=60),
            runs(job("b1", gpu=2), "b", unsaved_s=50),
        ]
        decision = decide(nodes, [job("urgent", gpu=4, priority=1)], running)
        assert preempted(decision) == {of("a0"), of("a1")}, "101 rather than 110, though b0 and b1 come before a1"

    def test_the_loss_is_said(self) -> None:
        running = runs(job("low", cpu=4, priority=1), "a", unsaved_s=100)
        (lost,) = decide(EIGHT_CPUS, [job("urgent", cpu=8, priority=2)], [running]).preempted
        assert lost.loss == 100 * 0.5 * 2, "100 s × half of the cluster × weight 2"

    def test_a_gang_on_several_nodes_leaves_whole(self) -> None:
        nodes = [node("a", gpu=4), node("b", gpu=4)]
        spread = runs(job("spread", gang=gang(gpu=4, workers=2)), ("a", 2), ("b", 1))
        decision = decide(nodes, [job("urgent", gpu=4, priority=1)], [spread])
        assert preempted(decision) == {of("spread")}


class TestWithAReservation:
    def test_an_owner_behind_a_head_that_nobody_can_help_still_gets_its_part(self) -> None:
        nodes = [node("a", gpu=8, cpu=8)]
        held = runs(job("held", gpu=8), "a", preemptible=False)
        borrower = runs(job("borrower", cpu=8, project="speech"), "a")
        head, owner = job("head", gpu=8, project="vision2", age_s=HOUR), job("owner", cpu=4, project="text")
        quotas = {"vision2": own(gpu=8), "text": own(cpu=4)}
        decision = decide(nodes, [head, owner], [held, borrower], quotas=quotas)
        assert preempted(decision) == {of("borrower")}
        assert {each.by for each in decision.preempted} == {owner.id}

    def test_room_that_the_head_waits_for_is_not_kept_for_another(self) -> None:
        running = [runs(job("unbounded", cpu=4), "a"), runs(job("low", cpu=4, project="text"), "a")]
        head, urgent = job("head", cpu=8, age_s=HOUR), job("urgent", cpu=4, project="text", priority=1)
        decision = decide(EIGHT_CPUS, [head, urgent], running, usage={"text": Resources(cpu=100 * HOUR)})
        assert not decision.preempted
        assert replace(decision.pending[0], starts_at=None).id == head.id


class TestWhoCannotBeHelped:
    def test_does_not_keep_others_from_getting_their_own_back(self) -> None:
        """The first owner's user has no quota left; the second asks for the same, and gets it."""
        nodes = [node("a", cpu=12)]
        running = [runs(job(f"v{i}", cpu=2), "a") for i in range(4)] + [runs(job("t0", cpu=4, project="text"), "a")]
        first = job("first", cpu=4, project="text", age_s=HOUR)
        second = job("second", cpu=4, project="speech")
        quotas = {"text": own(cpu=8, user_limit=Resources(cpu=4)), "speech": own(cpu=4)}
        decision = decide(nodes, [first, second], running, quotas=quotas)
        assert {each.by for each in decision.preempted} == {second.id}
        assert reason(decision, first) == "user ada holds 4 of 4 CPU"
