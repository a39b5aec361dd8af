"""Arrays: many jobs of one submit, over the real database and a cluster in the test's hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from actors.modelhub import service as modelhub
from actors.securityvault.models import Scope
from aidos.client import Client
from aidos.errors import Conflict
from aidos.schemas.job_arrays import parse_array
from cluster.db import Database
from cluster.events import list_events
from tests.trainos.conftest import Submit, make_due
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_reconciler import run_steps
from tune.trainos import admission, service
from tune.trainos.errors import JobEnded, JobNotWaiting
from tune.trainos.models import Job, JobState, RayState, Resources
from tune.trainos.policy import end_of_array
from tune.trainos.queue import service as queue
from tune.trainos.queue.models import Quota
from tune.trainos.queue.reconciler import Admission
from tune.trainos.reconciler import JobReconciler

Reread = Callable[[Job], Awaitable[Job]]
Members = Callable[[Job], Awaitable[list[Job]]]
QUEUED, STARTING, RUNNING = JobState.QUEUED, JobState.STARTING, JobState.RUNNING


class TestParseArray:
    @pytest.mark.parametrize(
        ("text", "indices", "at_once"),
        [
            ("0-3", [0, 1, 2, 3], None),
            ("7", [7], None),
            ("1,3,7-9", [1, 3, 7, 8, 9], None),
            ("0-15:4%2", [0, 4, 8, 12], 2),
            ("2,0-2", [0, 1, 2], None),
        ],
    )
    def test_reads_what_slurm_reads(self, text: str, indices: list[int], at_once: int | None) -> None:
        assert parse_array(text) == (indices, at_once)

    @pytest.mark.parametrize("text", ["", "3-1", "0-9:0", "1-", "-1", "0-9%0", "0-9%", "a", "1,,2", "0-10000", "0-9999999", "٣"])
    def test_refuses_what_names_no_jobs_or_too_many(self, text: str) -> None:
        with pytest.raises(ValueError, match="must"):
            parse_array(text)


class TestEndOfArray:
    @pytest.mark.parametrize(
        ("counts", "cancelled", "end"),
        [
            ({"SUCCEEDED": 3}, False, (JobState.SUCCEEDED, "")),
            ({"SUCCEEDED": 2, "FAILED": 1}, False, (JobState.FAILED, "of 3 jobs 1 failed")),
            ({"CANCELLED": 1, "FAILED": 1}, False, (JobState.FAILED, "of 2 jobs 1 failed and 1 were cancelled")),
            ({"SUCCEEDED": 2, "CANCELLED": 1}, False, (JobState.CANCELLED, "of 3 jobs 1 were cancelled")),
            ({"CANCELLED": 1, "FAILED": 1}, True, (JobState.CANCELLED, "of 2 jobs 1 failed and 1 were cancelled")),
        ],
    )
    def test_it_succeeded_when_all_its_jobs_have(self, counts: dict[str, int], cancelled: bool, end: tuple[JobState, str]) -> None:
        assert end_of_array({JobState(state): jobs for state, jobs in counts.items()}, cancelled) == end


@pytest.fixture
def look(database: Database, cluster: FakeCluster) -> Callable[[], Awaitable[object]]:
    return lambda: Admission(database, cluster, "tests").look()


@pytest.fixture
def members(database: Database, scope: Scope) -> Members:
    """The jobs of an array, by index."""

    async def find(array: Job) -> list[Job]:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            return (await service.list_jobs(conn, scope, None, None, 10_000, str(array.id)))[::-1]

    return find


@pytest.fixture
def end(database: Database, reconciler: JobReconciler, cluster: FakeCluster, reread: Reread) -> Callable[..., Awaitable[None]]:
    """Let what was submitted to Ray end so."""

    async def finish(job: Job, state: RayState = RayState.SUCCEEDED) -> None:
        await run_steps(database, reconciler)
        cluster.become((await reread(job)).submission_id or "", state, exit_code=0 if state is RayState.SUCCEEDED else 1)
        await run_steps(database, reconciler)

    return finish


async def counted(members: Members, array: Job) -> Counter[JobState]:
    return Counter(job.state for job in await members(array))


@pytest.mark.postgres
class TestSubmit:
    async def test_makes_a_job_for_each_index_and_one_that_stands_for_all(
        self, database: Database, submit: Submit, scope: Scope, members: Members, reread: Reread
    ) -> None:
        array = await submit("sweep", array="1,4-5%2", workers=0, priority=3)
        jobs = await members(array)
        assert [(job.name, job.array_index, job.priority, job.spec.experiment) for job in jobs] == [
            ("sweep_1", 1, 3, "sweep"),
            ("sweep_4", 4, 3, "sweep"),
            ("sweep_5", 5, 3, "sweep"),
        ]
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert [job.id for job in await service.list_jobs(conn, scope, None, None, 10)] == [array.id]
            assert (await service.get_job(conn, scope, "sweep_4")).id == jobs[1].id
            assert await service.count_members(conn, scope, [array, jobs[0]]) == {array.id: {"QUEUED": 3}}

    async def test_each_job_knows_its_index_and_has_a_run_once_it_starts(
        self, database: Database, submit: Submit, scope: Scope, members: Members, cluster: FakeCluster, reconciler: JobReconciler
    ) -> None:
        array = await submit("sweep", array="3-4%1", workers=0)
        assert {job.run_id for job in await members(array)} == {None}
        await run_steps(database, reconciler, 2)
        begun, waits = await members(array)
        found = cluster.environments[begun.submission_id or ""]
        told = {name: found[f"AIDOS_ARRAY_{name}"] for name in ("ID", "INDEX", "SIZE")}
        assert told == {"ID": str(array.id), "INDEX": "3", "SIZE": "2"} and found["AIDOS_RUN_ID"] == str(begun.run_id)
        assert waits.run_id is None and waits.reason == "waits for others of its array"
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert begun.run_id is not None
            run = await modelhub.get_run(conn, scope, begun.run_id)
        assert (run.name, run.created_by) == ("sweep_3", scope.actor)

    async def test_an_array_tells_when_it_begins_and_ends_and_its_jobs_from_their_start_on(
        self, database: Database, submit: Submit, scope: Scope, members: Members, end, look
    ) -> None:
        array = await submit("sweep", array="0-1%1", workers=0)
        for job in await members(array):
            await look()
            await end(job)
        await look()
        first, _ = await members(array)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            told = [(event.subject, event.type.removeprefix("trainos.job.")) for event in await list_events(conn, after_seq=0)]
        assert [what for subject, what in told if subject == str(array.id)] == ["queued", "running", "succeeded"]
        assert [what for subject, what in told if subject == str(first.id) and "lease" not in what] == ["starting", "succeeded"]


@pytest.mark.postgres
class TestAtOnce:
    async def test_no_more_of_its_jobs_run_at_once_than_it_says(self, submit: Submit, members: Members, look, end, reread: Reread) -> None:
        array, other = await submit("sweep", array="0-4%2", workers=0), await submit("other", workers=0)
        await look()
        assert await counted(members, array) == {STARTING: 2, QUEUED: 3}
        assert (await reread(other)).state is STARTING, "what the array keeps back does not stand before others"
        assert (await reread(array)).state is RUNNING
        for done in range(1, 6):
            await end(next(job for job in await members(array) if job.state is not QUEUED and not job.state.final))
            await look()
            found = await counted(members, array)
            assert found[JobState.SUCCEEDED] == done and found[STARTING] + found[RUNNING] == min(2, 5 - done)
        ended = await reread(array)
        assert (ended.state, ended.reason) == (JobState.SUCCEEDED, "") and ended.finished_at is not None

    async def test_one_that_gave_way_keeps_its_place_among_them(
        self, database: Database, submit: Submit, members: Members, look, end, reconciler: JobReconciler
    ) -> None:
        array = await submit("sweep", array="0-2%1", workers=0)
        await look()
        first, _, _ = await members(array)
        await run_steps(database, reconciler)
        async with database.platform() as conn:
            await admission.preempt_jobs(conn, {first.id: "urgent"})
        await end(first, RayState.STOPPED)
        await look()
        first, *others = await members(array)
        assert (first.state, first.attempt) == (STARTING, 2) and {job.state for job in others} == {QUEUED}

    async def test_a_job_that_is_held_lets_another_go_and_comes_back_in_its_turn(
        self, database: Database, submit: Submit, scope: Scope, members: Members, look, end
    ) -> None:
        array = await submit("sweep", array="0-2%1", workers=0)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await admission.hold_job(conn, scope, "sweep_0")
        await look()
        assert [job.state for job in await members(array)] == [QUEUED, STARTING, QUEUED]
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await admission.release_job(conn, scope, "sweep_0")
        await look()
        assert [job.state for job in await members(array)] == [QUEUED, STARTING, QUEUED]
        await end((await members(array))[1])
        await look()
        assert [job.state for job in await members(array)] == [STARTING, JobState.SUCCEEDED, QUEUED]


@pytest.mark.postgres
class TestAsOne:
    async def test_its_jobs_are_cancelled_with_it(
        self, database: Database, submit: Submit, scope: Scope, members: Members, look, reconciler: JobReconciler, reread: Reread
    ) -> None:
        array = await submit("sweep", array="0-4%2", workers=0)
        await run_steps(database, reconciler)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await service.cancel_job(conn, scope, "sweep")).state is JobState.CANCELLING
        assert await counted(members, array) == {JobState.CANCELLING: 2, JobState.CANCELLED: 3}
        await run_steps(database, reconciler, 3)
        assert await counted(members, array) == {JobState.CANCELLED: 5}
        ended = await reread(array)
        assert (ended.state, ended.reason) == (JobState.CANCELLED, "of 5 jobs 5 were cancelled")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(JobEnded):
                await service.cancel_job(conn, scope, "sweep")

    async def test_its_jobs_that_wait_are_held_released_and_ordered_with_it(
        self, database: Database, submit: Submit, scope: Scope, members: Members, look, end, reread: Reread
    ) -> None:
        array = await submit("sweep", array="0-3%1", workers=0)
        await look()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await admission.hold_job(conn, scope, "sweep")).held_by == scope.actor
            await admission.set_priority(conn, scope, "sweep", 7)
        first, *others = await members(array)
        assert first.held_by is None and {(job.held_by, job.priority) for job in others} == {(scope.actor, 7)}
        await end(first)
        await look()
        assert await counted(members, array) == {JobState.SUCCEEDED: 1, QUEUED: 3}
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await admission.release_job(conn, scope, str(array.id))).held_by is None
        await look()
        assert await counted(members, array) == {JobState.SUCCEEDED: 1, STARTING: 1, QUEUED: 2}

    async def test_its_log_is_those_of_its_jobs(self, client: Client) -> None:
        array = client.jobs.create("sweep", command=["true"], array="0-1", workers=0)
        for ask in (lambda: client.jobs.chunks(str(array.id)), lambda: list(client.jobs.search(str(array.id), word="x"))):
            with pytest.raises(Conflict, match="aidos job list --array sweep"):
                ask()
        assert client.jobs.chunks("sweep_1").items == []

    async def test_one_of_which_nothing_waits_cannot_be_held(
        self, database: Database, submit: Submit, scope: Scope, look, reread: Reread
    ) -> None:
        array = await submit("sweep", array="0-1", workers=0)
        await look()
        with pytest.raises(JobNotWaiting):
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                await admission.hold_job(conn, scope, "sweep")
        assert (await reread(array)).held_by is None

    async def test_what_depends_on_it_begins_once_all_its_jobs_have_succeeded(
        self, submit: Submit, members: Members, look, end, reread: Reread
    ) -> None:
        array = await submit("sweep", array="0-1", workers=0)
        after = await submit("report", workers=0, after=("sweep",))
        await look()
        first, second = await members(array)
        await end(first)
        await look()
        assert (await reread(after)).state is QUEUED
        await end(second)
        await look()
        assert (await reread(after)).state is STARTING

    async def test_its_jobs_begin_once_what_it_depends_on_has_succeeded(
        self, submit: Submit, members: Members, look, end, reread: Reread
    ) -> None:
        before = await submit("prepare", workers=0)
        whole, few = (
            await submit("whole", array="0-2", workers=0, after=("prepare",)),
            await submit("few", array="0-2%1", workers=0, after=("prepare",)),
        )
        await look()
        assert [await counted(members, array) for array in (whole, few)] == [{QUEUED: 3}, {QUEUED: 3}]
        await end(before)
        await look()
        assert [await counted(members, array) for array in (whole, few)] == [{STARTING: 3}, {STARTING: 1, QUEUED: 2}]

    async def test_it_fails_with_its_jobs_when_what_it_depends_on_does(
        self, database: Database, submit: Submit, scope: Scope, members: Members, look, end, reread: Reread
    ) -> None:
        before = await submit("prepare", workers=0)
        array = await submit("sweep", array="0-2", workers=0, after=("prepare",))
        await look()
        await end(before, RayState.FAILED)
        await look()
        found = await reread(array)
        assert (found.state, found.reason) == (JobState.FAILED, "job prepare, which it waits for, did not succeed")
        assert await counted(members, array) == {JobState.FAILED: 3}
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            told = [event for event in await list_events(conn, after_seq=0) if event.type == "trainos.job.failed"]
        assert [(event.data["name"], event.actor) for event in told[1:]] == [("sweep", "trainos")]

    async def test_it_is_failed_when_its_jobs_can_never_start(
        self, database: Database, submit: Submit, members: Members, look, reread
    ) -> None:
        array = await submit("sweep", array="0-2%2", workers=100)
        await look()
        await look()
        await look()
        found = await reread(array)
        assert (found.state, found.reason) == (JobState.FAILED, "of 3 jobs 3 failed")

    async def test_a_quota_counts_its_jobs_and_not_itself(
        self, database: Database, submit: Submit, scope: Scope, members: Members, look
    ) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await queue.set_quota(conn, scope, Quota(limit=Resources(3, 1, 100)))
        array = await submit("sweep", array="0-9", workers=0)
        await look()
        await make_due(database)
        await look()
        assert await counted(members, array) == {STARTING: 3, QUEUED: 7}
