"""What may start before the one whose turn it is: only what does not delay it."""

from __future__ import annotations

from tests.trainos.queue.snapshots import HOUR, NOW, ago, decide, gang, job, node, of, reason, runs, started
from tune.trainos.models import Resources
from tune.trainos.queue.models import Decision, Gang, Quota

EIGHT_CPUS = [node("a", cpu=8)]
ENDS_IN_AN_HOUR = runs(job("bounded", cpu=6, limit_s=2 * HOUR), "a", for_s=HOUR)


def backfilled(decision: Decision) -> list[bool]:
    return [admitted.backfilled for admitted in decision.admitted]


class TestHead:
    head = job("head", cpu=6, age_s=HOUR)

    def test_is_told_what_it_waits_for_and_until_when(self) -> None:
        decision = decide(EIGHT_CPUS, [self.head], [ENDS_IN_AN_HOUR])
        assert reason(decision, self.head) == "needs 6 CPU, 2 free; job bounded frees 6 CPU at about 13:00 UTC"
        assert decision.pending[0].starts_at == ago(-HOUR)

    def test_several_that_end_are_counted(self) -> None:
        running = [runs(job(f"r{i}", cpu=2, limit_s=(i + 1) * HOUR, age_s=9 - i), "a", for_s=0) for i in range(4)]
        assert reason(decide(EIGHT_CPUS, [self.head], running), self.head) == (
            "needs 6 CPU, 0 free; job r0 and 2 more free 6 CPU at about 15:00 UTC"
        )

    def test_other_projects_jobs_are_not_named(self) -> None:
        running = [runs(job("secret", cpu=6, project="text", limit_s=2 * HOUR), "a", for_s=HOUR)]
        head, behind = job("head", cpu=8, age_s=HOUR), job("behind", cpu=2, project="text")
        decision = decide(EIGHT_CPUS, [head, behind], running)
        assert reason(decision, head) == "needs 8 CPU, 2 free; another project's job frees 6 CPU at about 13:00 UTC"
        assert reason(decision, behind) == "behind another project's job, which needs 8 CPU, 2 free"

    def test_the_day_is_said_where_it_is_not_today(self) -> None:
        decision = decide(EIGHT_CPUS, [self.head], [runs(job("long", cpu=8, limit_s=30 * HOUR), "a", for_s=0)])
        assert reason(decision, self.head).endswith("at about 02 Jan 18:00 UTC")

    def test_no_time_is_promised_where_nothing_bounds_what_runs(self) -> None:
        decision = decide(EIGHT_CPUS, [self.head], [runs(job("unbounded", cpu=6), "a")])
        assert reason(decision, self.head) == "needs 6 CPU, 2 free"
        assert decision.pending[0].starts_at is None

    def test_a_job_past_its_limit_ends_any_moment(self) -> None:
        decision = decide(EIGHT_CPUS, [self.head], [runs(job("late", cpu=6, limit_s=60), "a", for_s=90)])
        assert decision.pending[0].starts_at == NOW


class TestBackfill:
    head = job("head", cpu=6, age_s=HOUR)

    def test_what_ends_before_the_head_can_start_starts_now(self) -> None:
        short, long = job("short", cpu=2, limit_s=HOUR), job("long", cpu=2, limit_s=HOUR + 1, age_s=70)
        decision = decide(EIGHT_CPUS, [job("head", cpu=8, age_s=HOUR), long, short], [ENDS_IN_AN_HOUR])
        assert (started(decision, short, long), backfilled(decision)) == (["short"], [True])

    def test_what_has_no_bound_waits_behind_the_head(self) -> None:
        unbounded = job("unbounded", cpu=2)
        running = [runs(job("bounded", cpu=5, limit_s=2 * HOUR), "a", for_s=HOUR), runs(job("stays", cpu=1), "a")]
        decision = decide(EIGHT_CPUS, [job("head", cpu=7, age_s=HOUR), unbounded], running)
        assert not decision.admitted
        assert reason(decision, unbounded) == "behind head, which needs 7 CPU, 2 free"

    def test_what_fits_beside_the_head_starts_without_a_bound(self) -> None:
        beside, more = job("beside", cpu=2, age_s=50), job("more", cpu=1, age_s=40)
        running = [runs(job("bounded", cpu=5, limit_s=2 * HOUR), "a", for_s=HOUR)]
        decision = decide(EIGHT_CPUS, [self.head, beside, more], running)
        assert started(decision, beside, more) == ["beside"], "the head needs the third free CPU"

    def test_nothing_is_backfilled_by_a_bound_where_the_heads_time_is_unknown(self) -> None:
        decision = decide(
            EIGHT_CPUS, [job("head", cpu=8, age_s=HOUR), job("short", cpu=2, limit_s=1)], [runs(job("unbounded", cpu=6), "a")]
        )
        assert not decision.admitted

    def test_other_nodes_than_the_heads_go_on_being_used(self) -> None:
        nodes = [node("a", gpu=8), node("b", gpu=8)]
        running = [runs(job("older", gpu=6), "a", for_s=HOUR), runs(job("younger", gpu=6), "b", for_s=60)]
        small = [job(f"s{i}", gpu=1, age_s=50 - i) for i in range(4)]
        decision = decide(nodes, [job("head", gpu=8, age_s=HOUR), *small], running)
        assert [admitted.placement for admitted in decision.admitted] == [(("b", 1),)] * 2, (
            "a is kept for the head: what runs there is older"
        )

    def test_the_head_does_not_wait_for_what_has_run_without_a_bound_for_a_day(self) -> None:
        nodes = [node("a", gpu=8), node("b", gpu=8)]
        running = [runs(job("endless", gpu=6), "a", for_s=48 * HOUR), runs(job("younger", gpu=6), "b", for_s=HOUR)]
        decision = decide(nodes, [job("head", gpu=8, age_s=HOUR), job("small", gpu=1)], running)
        assert [admitted.placement for admitted in decision.admitted] == [(("a", 1),)], "b is kept for the head"

    def test_who_waits_for_a_quota_reserves_nothing(self) -> None:
        over = job("over", cpu=6, age_s=HOUR)
        small = job("small", cpu=2, project="text")
        running = [ENDS_IN_AN_HOUR]
        decision = decide(EIGHT_CPUS, [over, small], running, quotas={"vision": Quota(limit=Resources(cpu=8))})
        assert started(decision, small) == ["small"]

    def test_the_whole_gang_of_the_head_is_kept_free(self) -> None:
        nodes = [node(name, gpu=4) for name in "abc"]
        running = [runs(job("r", gpu=2, limit_s=2 * HOUR), "a", for_s=HOUR), runs(job("s", gpu=2, limit_s=2 * HOUR), "b", for_s=HOUR)]
        head = job("head", gang=gang(gpu=4, workers=3), age_s=HOUR)
        decision = decide(nodes, [head, job("small", gpu=1)], running)
        assert not decision.admitted

    def test_a_job_on_resources_that_the_head_does_not_need_starts(self) -> None:
        nodes = [node("a", cpu=8, gpu=2)]
        running = [runs(job("unbounded", cpu=1, gpu=1), "a")]
        decision = decide(nodes, [job("head", cpu=1, gpu=2, age_s=HOUR), cpu_only := job("cpu", cpu=6)], running)
        assert started(decision, cpu_only) == ["cpu"]

    def test_a_gang_of_bundles_is_backfilled_whole_or_not(self) -> None:
        short = job("short", gang=Gang(Resources(1), Resources(1), 2), limit_s=60)
        decision = decide(EIGHT_CPUS, [self.head, short], [ENDS_IN_AN_HOUR])
        assert of("short") not in {admitted.id for admitted in decision.admitted}
