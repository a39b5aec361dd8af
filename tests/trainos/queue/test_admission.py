"""The queue over a real database: what one look at it starts, holds back and explains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.events import list_events
from tests.trainos.conftest import Submit, make_due
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_reconciler import run_steps
from tune.trainos import admission, service, store
from tune.trainos.errors import JobNotFound, JobNotWaiting, JobTooLarge
from tune.trainos.job_token import notice_key
from tune.trainos.models import CheckpointFile, CheckpointSpec, Job, JobState, RayState, Resources
from tune.trainos.queue import forecasts
from tune.trainos.queue import service as queue
from tune.trainos.queue.models import Coverage, Forecast, Gang, Node, Quota
from tune.trainos.queue.reconciler import Admission
from tune.trainos.queue.trace import read_nodes, to_traced
from tune.trainos.reconciler import JobReconciler

Look = Callable[[], Awaitable[object]]
Reread = Callable[[Job], Awaitable[Job]]


@pytest.fixture
def look(database: Database, cluster: FakeCluster) -> Look:
    """One look at the queue, as a process of its own would."""
    return lambda: Admission(database, cluster, "tests").look()


async def states(reread: Reread, *jobs: Job) -> list[JobState]:
    return [(await reread(job)).state for job in jobs]


class TestLook:
    async def test_starts_what_fits_and_says_why_the_rest_waits(self, submit: Submit, reread: Reread, look: Look) -> None:
        first, second, third = await submit("first", workers=5), await submit("second", workers=5), await submit("third", workers=20)
        await look()
        assert await states(reread, first, second, third) == [JobState.STARTING, JobState.QUEUED, JobState.FAILED]
        assert (await reread(second)).reason.startswith("needs 6 CPU, 2 free")
        assert (await reread(third)).reason == "can never start: needs 21 CPU, 8 in the whole cluster"
        started = await reread(first)
        assert started.submission_id == f"aidos-{first.id}-1" and started.lease_id is not None and started.admitted_at is not None

    async def test_asks_for_the_nodes_that_a_job_waits_for_and_withdraws_it_then(
        self, database: Database, submit: Submit, cluster: FakeCluster, reread: Reread
    ) -> None:
        has, node = cluster.total, Resources(4, 2, 16)
        admission = Admission(database, cluster, "tests", read_nodes("2x4:2:16"))
        await admission.look()
        assert cluster.requests == [[]], "what one before had asked for is withdrawn"
        job = await submit(workers=3, gpus_per_worker=1)
        await admission.look()
        await admission.look()
        worker = Resources(1, 1)
        assert cluster.requests[1:] == [[has, Resources(1), worker, worker, worker]], "beside the node that there is"
        cluster.more = [Node("two", node, node), Node("three", node, node)]
        await admission.look()
        assert (await reread(job)).state == JobState.STARTING and cluster.requests[2:] == [[]]

    async def test_refuses_what_is_beyond_the_autoscalers_maximum_and_takes_what_is_within(
        self, database: Database, submit: Submit, cluster: FakeCluster, reread: Reread
    ) -> None:
        await Admission(database, cluster, "tests", read_nodes("2x4:2:16")).look()
        assert (await submit(workers=4, gpus_per_worker=1)).state == JobState.QUEUED
        with pytest.raises(JobTooLarge, match="5 GPU, 4 in the whole cluster"):
            await submit(workers=5, gpus_per_worker=1)

    async def test_a_job_whose_node_is_taken_away_saves_and_goes_on_elsewhere(
        self, database: Database, submit: Submit, cluster: FakeCluster, reconciler: JobReconciler, reread: Reread, look: Look
    ) -> None:
        job = await submit(preemptible=False)
        await run_steps(database, reconciler, 2)
        cluster.become(f"aidos-{job.id}-1", RayState.RUNNING)
        await run_steps(database, reconciler, 1)
        cluster.leaving = True
        await look()
        asked = await reread(job)
        assert (asked.state, asked.reason) == (JobState.PREEMPTING, "asked to give way to the end of a node that it runs on")
        await run_steps(database, reconciler, 1)
        assert cluster.notes[notice_key(str(job.id), 1)] == "the end of a node that it runs on"
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET preempted_at = now() - interval '1 h'")
        await run_steps(database, reconciler, 2)
        waits = await reread(job)
        assert (waits.state, waits.preemptions) == (JobState.QUEUED, 1), "not refused: there were nodes for it"
        cluster.leaving = False
        await look()
        assert (await reread(job)).submission_id == f"aidos-{job.id}-2"

    async def test_a_job_that_waits_outlasts_the_absence_of_its_node(
        self, database: Database, submit: Submit, cluster: FakeCluster, reread: Reread, look: Look
    ) -> None:
        job = await submit(workers=7)
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET queued_at = now() - interval '1 h'")
        whole, cluster.total = cluster.total, Resources(2, 0, 16)
        await look()
        found = await reread(job)
        assert (found.state, found.reason) == (JobState.QUEUED, "can never start: needs 8 CPU, 2 in the whole cluster")
        cluster.total = whole
        await look()
        assert await states(reread, job) == [JobState.STARTING]

    async def test_opens_one_lease_a_start_however_many_look(
        self, database: Database, submit: Submit, cluster: FakeCluster, scope: Scope
    ) -> None:
        for _ in range(4):
            await submit(workers=0)
        looks = [Admission(database, cluster, f"process {number}").look() for number in range(3)]
        await asyncio.gather(*looks)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            types = [event.type for event in await list_events(conn, after_seq=0) if event.type.startswith("trainos")]
        assert types.count("trainos.lease.opened") == types.count("trainos.job.starting") == 4

    async def test_a_look_that_dies_before_its_end_has_decided_nothing(
        self, database: Database, submit: Submit, cluster: FakeCluster, reread: Reread, look: Look
    ) -> None:
        job = await submit()
        with pytest.raises(RuntimeError, match="planted"):
            async with database.platform() as conn:
                assert (await queue.look(conn, await cluster.nodes())).admitted
                raise RuntimeError("planted")
        assert await states(reread, job) == [JobState.QUEUED]
        await look()
        assert await states(reread, job) == [JobState.STARTING]

    async def test_the_higher_priority_goes_first_and_may_be_changed_while_it_waits(
        self, database: Database, submit: Submit, scope: Scope, reread: Reread, look: Look
    ) -> None:
        low, high, raised = await submit("low", workers=7), await submit("high", workers=7, priority=5), await submit("raised", workers=7)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await admission.set_priority(conn, scope, "raised", 9)
            assert [job.name for job in await admission.list_queue(conn, scope, 10)] == ["raised", "high", "low"]
        await look()
        assert await states(reread, low, high, raised) == [JobState.QUEUED, JobState.QUEUED, JobState.STARTING]


class TestHold:
    async def test_a_held_job_lets_the_others_pass_until_it_is_released(
        self, database: Database, submit: Submit, scope: Scope, reread: Reread, look: Look
    ) -> None:
        held, other = await submit("held", workers=7), await submit("other", workers=7)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await admission.hold_job(conn, scope, "held")).reason == f"held by {scope.actor}"
        await look()
        assert await states(reread, held, other) == [JobState.QUEUED, JobState.STARTING]
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(JobNotWaiting, match="STARTING"):
                await admission.hold_job(conn, scope, "other")
            await service.cancel_job(conn, scope, "other")
            await admission.release_job(conn, scope, "held")
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET state = 'CANCELLED' WHERE id = %s", (other.id,))
        await look()
        assert await states(reread, held) == [JobState.STARTING]


class TestDependencies:
    async def test_a_job_begins_once_all_before_it_have_succeeded(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, reread: Reread
    ) -> None:
        first = await submit("first", workers=0)
        second = await submit("second", workers=0, after=("first",))
        await run_steps(database, reconciler)
        assert await states(reread, first, second) == [JobState.STARTING, JobState.QUEUED]
        cluster.become((await reread(first)).submission_id or "", RayState.SUCCEEDED)
        await run_steps(database, reconciler, 2)
        assert await states(reread, first, second) == [JobState.SUCCEEDED, JobState.STARTING]

    async def test_one_that_did_not_succeed_ends_all_that_wait_for_it(
        self, database: Database, submit: Submit, scope: Scope, reread: Reread, look: Look
    ) -> None:
        await submit("first")
        second = await submit("second", after=("first",))
        third = await submit("third", after=("second",))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.cancel_job(conn, scope, "first")
        await look()
        await look()
        assert await states(reread, second, third) == [JobState.FAILED, JobState.FAILED]
        assert (await reread(third)).reason == "job second, which it waits for, did not succeed"

    async def test_one_that_is_made_again_does_not_wait_for_what_the_first_waited_for(
        self, database: Database, submit: Submit, scope: Scope, look: Look, reread: Reread
    ) -> None:
        await submit("first")
        second = await submit("second", after=("first",))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.cancel_job(conn, scope, "first")
            again = await service.submit_again(conn, second, scope)
            pinned = await service.submit_pinned(conn, scope, second.spec, second.inputs)
        await look()
        assert await states(reread, second, again, pinned) == [JobState.FAILED, JobState.STARTING, JobState.STARTING]
        assert again.spec.after == pinned.spec.after == ()

    async def test_a_job_cannot_wait_for_one_that_is_not_there(self, submit: Submit) -> None:
        with pytest.raises(JobNotFound, match="nowhere"):
            await submit("second", after=("nowhere",))


class TestQuota:
    async def test_a_limit_is_never_passed(self, database: Database, submit: Submit, scope: Scope, reread: Reread, look: Look) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await queue.set_quota(conn, scope, Quota(limit=Resources(4, 0, 100)))
        jobs = [await submit(f"job-{number}", workers=1) for number in range(3)]
        await look()
        assert await states(reread, *jobs) == [JobState.STARTING, JobState.STARTING, JobState.QUEUED]
        assert "quota" in (await reread(jobs[2])).reason


class TestClosing:
    async def test_of_a_closed_project_nothing_starts_and_what_runs_leaves_until_it_is_opened(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, scope: Scope, submit: Submit, reread: Reread
    ) -> None:
        runs, stays = await submit("runs", workers=1), await submit("stays", workers=1, preemptible=False)
        await run_steps(database, reconciler)
        for job in (runs, stays):
            cluster.become((await reread(job)).submission_id or "", RayState.RUNNING)
        await run_steps(database, reconciler)
        async with database.platform() as conn:
            await queue.close_project(conn, scope.org_id, scope.project, "its budget is spent", "tests")
        await run_steps(database, reconciler)
        assert await states(reread, runs, stays) == [JobState.PREEMPTING, JobState.RUNNING]
        assert (await reread(runs)).reason == "asked to give way to others: its budget is spent"
        late = await submit("late")
        await run_steps(database, reconciler)
        assert ((await reread(late)).state, (await reread(late)).reason) == (JobState.QUEUED, "its budget is spent")
        async with database.platform() as conn:
            await queue.open_project(conn, scope.org_id, scope.project, "tests")
        await run_steps(database, reconciler)
        assert (await reread(late)).state is JobState.STARTING


class TestPreemption:
    @pytest.fixture
    async def leaving(self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, reread: Reread) -> Job:
        """A job that runs, and that one of a higher priority has asked to give way."""
        job = await submit("long", workers=7)
        await run_steps(database, reconciler)
        cluster.become((await reread(job)).submission_id or "", RayState.RUNNING)
        await run_steps(database, reconciler)
        await submit("urgent", workers=7, priority=10)
        await run_steps(database, reconciler)
        found = await reread(job)
        assert (found.state, found.reason) == (JobState.PREEMPTING, "asked to give way to urgent")
        return found

    async def test_it_is_told_and_stopped_once_it_has_saved_and_goes_on_later(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, scope: Scope, leaving: Job, reread: Reread
    ) -> None:
        assert cluster.notes[f"job-notice/{leaving.id}/1".encode()] == "urgent" and not cluster.stopped
        file = CheckpointFile("state", "0" * 64, 1)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            spec = CheckpointSpec(7, (file,), {})
            await service.create_checkpoint(conn, scope, leaving, spec, {service.checkpoint_key(leaving, file): 1})
        await run_steps(database, reconciler, 2)
        found = await reread(leaving)
        assert cluster.stopped == [f"aidos-{leaving.id}-1"] and (found.state, found.preemptions) == (JobState.QUEUED, 1)
        await run_steps(database, reconciler)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            urgent = await service.get_job(conn, scope, "urgent")
        assert urgent.state is JobState.STARTING
        cluster.become(urgent.submission_id or "", RayState.SUCCEEDED)
        await run_steps(database, reconciler, 2)
        assert (await reread(leaving)).submission_id == f"aidos-{leaving.id}-2"

    async def test_one_without_workers_that_has_just_begun_gives_way_at_once(
        self, database: Database, reconciler: JobReconciler, submit: Submit, cluster: FakeCluster, reread: Reread
    ) -> None:
        job = await submit("young", workers=0, driver_cpus=7)
        await run_steps(database, reconciler)
        cluster.become((await reread(job)).submission_id or "", RayState.RUNNING)
        await run_steps(database, reconciler)
        cluster.free = cluster.total - Resources(7)
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET started_at = now() - interval '3 s'")
        await submit("urgent", workers=0, driver_cpus=7, priority=10)
        await run_steps(database, reconciler)
        assert (await reread(job)).state is JobState.PREEMPTING

    async def test_one_that_does_not_save_is_stopped_when_its_time_is_over(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, leaving: Job, reread: Reread
    ) -> None:
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET preempted_at = now() - interval '61 s' WHERE id = %s", (leaving.id,))
        await run_steps(database, reconciler, 2)
        assert cluster.stopped == [f"aidos-{leaving.id}-1"] and (await reread(leaving)).state is JobState.QUEUED

    async def test_what_it_is_told_is_not_lost_to_a_step_that_was_under_way(
        self, database: Database, reconciler: JobReconciler, submit: Submit, cluster: FakeCluster, reread: Reread, scope: Scope
    ) -> None:
        job = await submit("long", workers=7)
        await run_steps(database, reconciler)
        await make_due(database)
        token = uuid4()
        async with database.platform() as conn:
            (claimed,) = await store.claim_job(conn, token, 30, 1)
        outcome = await reconciler.process(claimed)
        await submit("urgent", workers=7, priority=10)
        await Admission(database, cluster, "tests").look()
        async with database.platform() as conn:
            assert await reconciler.apply(conn, claimed, token, outcome)
        assert (await reread(job)).state is JobState.PREEMPTING


class TestRetries:
    async def test_a_job_that_failed_by_itself_waits_out_its_pause(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, reread: Reread
    ) -> None:
        job = await submit(max_restarts_on_errors=1)
        await run_steps(database, reconciler)
        cluster.become((await reread(job)).submission_id or "", RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=1)
        await run_steps(database, reconciler, 2)
        found = await reread(job)
        assert (found.state, found.restarts) == (JobState.QUEUED, 1) and found.due_at is not None
        assert timedelta(0) < found.due_at - datetime.now(UTC) <= timedelta(seconds=5)
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET due_at = now()")
        await run_steps(database, reconciler)
        assert (await reread(job)).submission_id == f"aidos-{job.id}-2"


class TestCapacity:
    async def test_what_can_never_start_is_refused_when_it_is_submitted(self, submit: Submit, look: Look) -> None:
        await look()
        with pytest.raises(JobTooLarge, match="can never start: needs 21 CPU, 8 in the whole cluster"):
            await submit("huge", workers=20)
        assert (await submit("fits", workers=7)).state is JobState.QUEUED

    async def test_is_what_the_cluster_has_and_not_what_is_free(self, submit: Submit, look: Look, reread: Reread) -> None:
        first = await submit("first", workers=7)
        await look()
        assert await states(reread, first) == [JobState.STARTING]
        assert (await submit("second", workers=7)).state is JobState.QUEUED

    @pytest.mark.parametrize("seen", ["never", "long ago", "without nodes"])
    async def test_nothing_is_refused_by_what_is_not_known(
        self, database: Database, submit: Submit, look: Look, seen: str, reread: Reread
    ) -> None:
        if seen != "never":
            await look()
        async with database.platform() as conn:
            changes = "nodes = '[]'" if seen == "without nodes" else "seen_at = now() - interval '10 min'"
            await conn.execute(f"UPDATE trainos.capacity SET {changes}")  # type: ignore[arg-type]  # one of the two above
        huge = await submit("huge", workers=20)
        await look()
        assert await states(reread, huge) == [JobState.FAILED]

    async def test_a_resumed_job_may_not_ask_for_more_than_there_is(
        self, database: Database, submit: Submit, look: Look, scope: Scope
    ) -> None:
        job = await submit(workers=1)
        file = CheckpointFile("state", "0" * 64, 1)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_checkpoint(conn, scope, job, CheckpointSpec(7, (file,), {}), {service.checkpoint_key(job, file): 1})
            await service.cancel_job(conn, scope, str(job.id))
        await look()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(JobTooLarge):
                await service.resume_job(conn, scope, str(job.id), None, 20)


class TestForecasts:
    @pytest.fixture
    def foresee(self, database: Database, cluster: FakeCluster) -> Look:
        return lambda: Admission(database, cluster, "tests").foresee()

    async def read(self, database: Database, scope: Scope, *jobs: Job) -> dict[UUID, Forecast]:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            return await forecasts.list_forecasts(conn, scope, jobs)

    async def measure(self, database: Database, scope: Scope) -> Coverage:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            return await forecasts.measure_coverage(conn, scope)

    async def test_who_waits_learns_when_it_starts_and_ends(
        self, database: Database, submit: Submit, scope: Scope, look: Look, foresee: Look, reread: Reread
    ) -> None:
        first, second = await submit("first", workers=7, timeout_s=7200), await submit("second", workers=7, timeout_s=3600)
        await look()
        assert await foresee() == 1
        waiting = await reread(second)
        said = (await self.read(database, scope, await reread(first), waiting))[second.id]
        assert timedelta(minutes=119) < said.starts_at - said.made_at < timedelta(minutes=121)
        assert said.starts_from < said.starts_at < said.starts_until and said.ends_at - said.starts_at == timedelta(hours=1)

    async def test_jobs_of_the_past_say_how_long_such_jobs_run(
        self, database: Database, submit: Submit, scope: Scope, look: Look, foresee: Look
    ) -> None:
        for number in range(3):
            past = await submit(f"past-{number}", workers=7)
            async with database.platform() as conn:
                await conn.execute(
                    "UPDATE trainos.jobs SET state = 'SUCCEEDED', started_at = now() - interval '10 min', finished_at = now() WHERE id = %s",
                    (past.id,),
                )
        await submit("first", workers=7)
        second = await submit("second", workers=7)
        await look()
        await foresee()
        said = (await self.read(database, scope, second))[second.id]
        assert timedelta(minutes=9) < said.starts_at - said.made_at < timedelta(minutes=11)
        assert said.ends_at - said.starts_at == timedelta(minutes=10)

    async def test_a_held_job_and_one_that_nobody_looked_at_of_late_are_told_nothing(
        self, database: Database, submit: Submit, scope: Scope, look: Look, foresee: Look
    ) -> None:
        await submit("first", workers=7)
        second, held = await submit("second", workers=7), await submit("held", workers=7)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await admission.hold_job(conn, scope, "held")
        await look()
        assert await foresee() == 1 and set(await self.read(database, scope, second, held)) == {second.id}
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.forecasts SET made_at = now() - interval '10 min'")
        assert await self.read(database, scope, second) == {}

    async def test_the_first_word_is_the_promise_and_what_came_is_held_against_it(
        self, database: Database, submit: Submit, scope: Scope, look: Look, foresee: Look
    ) -> None:
        await submit("first", workers=7, timeout_s=3600)
        waiting = [await submit(f"waits-{number}", workers=7) for number in range(3)]
        await look()
        assert await foresee() == 3 and await self.measure(database, scope) == Coverage(0, 0, 0, 0)
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.forecasts SET promised_start = tstzrange(now(), now() + '1 h')")
            began = "UPDATE trainos.jobs SET state = 'SUCCEEDED', attempt = 1, admitted_at = %s, finished_at = %s WHERE id = %s"
            now = datetime.now(UTC)
            soon, late = now + timedelta(minutes=5), now + timedelta(hours=3)
            await conn.execute("UPDATE trainos.forecasts SET promised_end = tstzrange(now(), now() + '1 h')")
            await conn.execute(began, (soon, soon, waiting[0].id))
            await conn.execute(began, (soon, late, waiting[1].id))
        await foresee()
        assert await self.measure(database, scope) == Coverage(2, 2, 2, 1), "a later word changes no promise"
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.forecasts SET promised_start = tstzrange(NULL, now() - interval '1 min')")
        overdue = await self.measure(database, scope)
        assert (overdue.starts, overdue.starts_within) == (3, 0), "one waits still and should have begun"


class TestHistory:
    async def test_gives_what_has_run_as_a_trace(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, reread: Reread
    ) -> None:
        job = await submit("digits", workers=2, gpus_per_worker=0.0, timeout_s=100)
        await submit("waits", workers=7)
        await run_steps(database, reconciler)
        cluster.become((await reread(job)).submission_id or "", RayState.SUCCEEDED)
        await run_steps(database, reconciler)
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET started_at = finished_at - interval '50 s' WHERE id = %s", (job.id,))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            (row,) = await queue.list_history(conn, scope, 30, 10)
        assert (row.project, row.user, row.run_s, row.limit_s) == ("default", scope.actor, 50.0, 100.0)
        assert to_traced(row).workload.gang == Gang(Resources(1), Resources(1), 2)
        assert 29 * 86400 < row.submit_s <= 30 * 86400
