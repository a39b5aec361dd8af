"""Jobs brought to their end, over the real database and object store and a cluster in the test's hand."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from actors.modelhub import service as modelhub
from actors.securityvault.models import Scope
from cluster import telemetry
from cluster.db import Database
from cluster.events import list_events
from cluster.objects import Objects
from tests.trainos.conftest import Submit, make_due, take_step, zip_of
from tests.trainos.fake_cluster import FakeCluster
from tune.trainos import admission, service, store
from tune.trainos.models import CheckpointFile, CheckpointSpec, Job, JobState, Outcome, RayJob, RayState, Resources
from tune.trainos.queue.reconciler import Admission
from tune.trainos.reconciler import CHUNK_BYTES, GIVE_UP_ATTEMPTS, JobReconciler, adopt_once

pytestmark = pytest.mark.postgres


async def run_steps(database: Database, reconciler: JobReconciler, steps: int = 1) -> None:
    """So many steps of every job that is due, however far off the next look is."""
    for _ in range(steps):
        await take_step(database, reconciler)


async def submission(job: Job, reread) -> str:
    return (await reread(job)).submission_id or ""


async def log_of(database: Database, objects: Objects, scope: Scope, job: Job) -> bytes:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        chunks = await service.list_chunks(conn, scope, job, 0, 500)
    return b"".join([await objects.get(chunk.key) for chunk in chunks])


async def event_types(database: Database, scope: Scope) -> list[str]:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return [event.type for event in await list_events(conn, after_seq=0) if event.type.startswith("trainos")]


class TestClaimJob:
    """Eligibility and order, unlock, stale token, contention."""

    async def test_takes_every_admitted_job_once_and_none_that_waits(self, database: Database, submit: Submit) -> None:
        first, _ = await submit("first"), await submit("second")
        async with database.platform() as conn:
            assert await store.claim_job(conn, uuid4(), 30, 10) == []
            await conn.execute("UPDATE trainos.jobs SET state = 'RUNNING' WHERE id = %s", (first.id,))
            assert [job.name for job in await store.claim_job(conn, uuid4(), 30, 10)] == ["first"]
            assert await store.claim_job(conn, uuid4(), 30, 10) == []

    async def test_a_claim_that_ran_out_is_taken_over(self, database: Database, submit: Submit) -> None:
        await submit()
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET state = 'RUNNING'")
            assert await store.claim_job(conn, uuid4(), -1, 1)
            assert await store.claim_job(conn, uuid4(), 30, 1)

    async def test_a_stale_token_writes_neither_state_nor_log(self, database: Database, submit: Submit, scope: Scope, reread) -> None:
        job = await submit()
        stale = uuid4()
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET state = 'RUNNING'")
            await store.claim_job(conn, stale, -1, 1)
            await store.claim_job(conn, uuid4(), 30, 1)
            end = await service.get_log_end(conn, scope, job)
            assert not await service.apply_outcome(conn, scope, job, stale, Outcome(JobState.FAILED, "stale"))
            assert not await service.keep_chunk(conn, job, stale, end, "key", 1)
        assert (await reread(job)).state is JobState.RUNNING

    async def test_two_reconcilers_share_no_job(self, database: Database, submit: Submit) -> None:
        for _ in range(4):
            await submit()
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET state = 'RUNNING'")

        async def claim() -> set[str]:
            async with database.platform() as conn:
                return {str(job.id) for job in await store.claim_job(conn, uuid4(), 30, 2)}

        left, right = await asyncio.gather(claim(), claim())
        assert len(left) == len(right) == 2 and not left & right


class TestQueue:
    async def test_a_job_starts_with_its_code_and_its_environment(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, upload_code, reread
    ) -> None:
        package = zip_of(main_py="print(1)")
        job = await submit(code_sha256=await upload_code(package))
        await run_steps(database, reconciler, 2)
        name = await submission(job, reread)
        environment = cluster.environments[name]
        assert name == f"aidos-{job.id}-1" and cluster.packages[name] == package
        assert (
            environment["AIDOS_JOB_ID"] == str(job.id)
            and environment["AIDOS_RUN_ID"] == str(job.run_id)
            and environment["AIDOS_WORKERS"] == "2"
        )

    async def test_its_trace_is_the_one_that_it_was_submitted_in(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit
    ) -> None:
        with telemetry.span("submitted", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
            job = await submit()
        await run_steps(database, reconciler, 2)
        (environment,) = cluster.environments.values()
        for traceparent in (job.traceparent, environment["TRACEPARENT"]):
            assert traceparent is not None and traceparent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"

    async def test_no_secret_is_in_the_environment_and_the_token_is_in_the_store(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit
    ) -> None:
        job = await submit()
        await run_steps(database, reconciler, 2)
        (token,) = cluster.notes.values()
        assert list(cluster.notes) == [f"job-token/{job.id}/1".encode()] and token.count(".") == 2
        (environment,) = cluster.environments.values()
        assert token not in str(environment) and not [name for name in environment if "TOKEN" in name or "KEY" in name or "SECRET" in name]

    async def test_what_can_never_fit_fails_at_once_with_the_reason(
        self, database: Database, reconciler: JobReconciler, submit: Submit, reread
    ) -> None:
        job = await submit(gpus_per_worker=4)
        await run_steps(database, reconciler)
        found = await reread(job)
        assert found.state is JobState.FAILED and found.reason == "can never start: needs 8 GPU, 0 in the whole cluster"

    async def test_the_gang_waits_whole_and_starts_when_the_other_ends(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, reread
    ) -> None:
        first, second = await submit("first", workers=5), await submit("second", workers=5)
        await run_steps(database, reconciler, 4)
        waiting = await reread(second)
        assert (waiting.state, waiting.reason) == (JobState.QUEUED, "needs 6 CPU, 2 free")
        cluster.become(await submission(first, reread), RayState.SUCCEEDED)
        await run_steps(database, reconciler, 3)
        assert (await reread(first)).state is JobState.SUCCEEDED and (await reread(second)).state is JobState.STARTING

    async def test_a_package_that_would_escape_fails_the_job(
        self, database: Database, reconciler: JobReconciler, submit: Submit, upload_code, reread
    ) -> None:
        job = await submit(code_sha256=await upload_code(zip_of(**{"../evil": "x"})))
        await run_steps(database, reconciler, 2)
        found = await reread(job)
        assert found.state is JobState.FAILED and "outside of its directory" in found.reason

    async def test_a_package_that_was_never_uploaded_fails_the_job(
        self, database: Database, reconciler: JobReconciler, submit: Submit, reread
    ) -> None:
        job = await submit(code_sha256="0" * 64)
        await run_steps(database, reconciler, 2)
        found = await reread(job)
        assert found.state is JobState.FAILED and "was never uploaded" in found.reason

    async def test_a_job_that_cannot_be_submitted_is_given_up(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, reread
    ) -> None:
        cluster.fails = RuntimeError("Ray is out of order")
        job = await submit()
        await run_steps(database, reconciler, 2)
        assert (await reread(job)).state is JobState.STARTING, "it is tried again"
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET attempts = %s", (GIVE_UP_ATTEMPTS,))
        await run_steps(database, reconciler)
        found = await reread(job)
        assert found.state is JobState.FAILED and found.reason == "could not be started: Ray is out of order"


class TestFollow:
    async def start(self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, job: Job, reread) -> str:
        await run_steps(database, reconciler, 2)
        name = await submission(job, reread)
        cluster.become(name, RayState.RUNNING)
        await run_steps(database, reconciler)
        return name

    async def test_a_job_that_succeeds_ends_its_run_lease_and_token(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, reread
    ) -> None:
        job = await submit()
        name = await self.start(database, reconciler, cluster, job, reread)
        assert (await reread(job)).started_at is not None
        cluster.become(name, RayState.SUCCEEDED, exit_code=0)
        await run_steps(database, reconciler)
        done = await reread(job)
        assert (done.state, done.exit_code, done.lease_id) == (JobState.SUCCEEDED, 0, None) and done.finished_at is not None
        assert cluster.notes == {}
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await modelhub.get_run(conn, scope, done.run_id)).state == "FINISHED"  # type: ignore[arg-type]  # it has one
        assert await event_types(database, scope) == [
            "trainos.job.queued",
            "trainos.lease.opened",
            "trainos.job.starting",
            "trainos.job.running",
            "trainos.lease.closed",
            "trainos.job.succeeded",
        ]

    async def test_one_that_saves_and_ends_by_itself_when_asked_to_give_way_goes_back_to_the_queue(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, reread
    ) -> None:
        job = await submit()
        name = await self.start(database, reconciler, cluster, job, reread)
        async with database.platform() as conn:
            await admission.preempt_jobs(conn, {job.id: "urgent"})
        asked, file = await reread(job), CheckpointFile("state", "0" * 64, 1)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            saved = {service.checkpoint_key(job, file): 1}
            await service.create_checkpoint(conn, scope, asked, CheckpointSpec(1, (file,), {}), saved)
        cluster.become(name, RayState.SUCCEEDED, exit_code=0)
        await run_steps(database, reconciler)
        found = await reread(job)
        assert (found.state, found.preemptions, found.reason) == (JobState.QUEUED, 1, "attempt 1 gave way to urgent")

    async def test_the_lease_says_driver_and_workers(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, reread
    ) -> None:
        job = await submit(cpus_per_worker=1.5, memory_gib_per_worker=2.0)
        await self.start(database, reconciler, cluster, job, reread)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            (opened,) = [event for event in await list_events(conn, after_seq=0) if event.type == "trainos.lease.opened"]
        assert opened.data["resources"] == {"cpu": 4.0, "gpu": 0.0, "memory_gib": 4.0} and opened.data["owner_id"] == str(job.id)

    async def test_a_job_that_the_cluster_lost_goes_on_as_its_next_attempt(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, objects: Objects, reread
    ) -> None:
        job = await submit()
        first = await self.start(database, reconciler, cluster, job, reread)
        cluster.logs[first] = b"one\n"
        cluster.jobs.clear()
        cluster.life = "session-2"
        await run_steps(database, reconciler, 3)
        second = await submission(job, reread)
        assert second.endswith("-2") and (await reread(job)).state is JobState.STARTING
        cluster.logs[second] = b"two\n"
        cluster.become(second, RayState.SUCCEEDED)
        await run_steps(database, reconciler)
        assert (await reread(job)).state is JobState.SUCCEEDED
        assert await log_of(database, objects, scope, job) == b"one\ntwo\n"

    async def test_a_process_killed_right_after_the_submission_leaves_one_job_with_token_and_log(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, objects: Objects, reread
    ) -> None:
        job = await submit()
        await Admission(database, cluster, "tests").look()
        async with database.platform() as conn:
            (claimed,) = await store.claim_job(conn, uuid4(), -1, 1)
        await reconciler.process(claimed)  # submitted; here the process dies
        cluster.notes.clear()
        name = await submission(job, reread)
        cluster.logs[name] = b"hello\n"
        cluster.become(name, RayState.RUNNING)
        await run_steps(database, reconciler)
        found = await reread(job)
        assert (found.state, found.attempt, found.log_directory) == (JobState.RUNNING, 1, "/logs") and found.token_renewed_at is not None
        assert len(cluster.notes) == 1 and await log_of(database, objects, scope, job) == b"hello\n"

    async def test_the_token_is_renewed_long_before_it_ends(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, reread
    ) -> None:
        job = await submit()
        await self.start(database, reconciler, cluster, job, reread)
        before = dict(cluster.notes)
        await run_steps(database, reconciler)
        assert cluster.notes == before, "a fresh one is left alone"
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET token_renewed_at = now() - interval '21 min'")
        await run_steps(database, reconciler)
        assert cluster.notes != before

    async def test_cancelling_while_a_step_is_under_way_is_not_forgotten(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, reread
    ) -> None:
        job = await submit()
        await self.start(database, reconciler, cluster, job, reread)
        token = uuid4()
        await make_due(database)
        async with database.platform() as conn:
            (claimed,) = await store.claim_job(conn, token, 30, 1)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await service.cancel_job(conn, scope, str(job.id))).state is JobState.CANCELLING
        async with database.platform() as conn:
            assert await reconciler.apply(conn, claimed, token, Outcome(JobState.RUNNING))
        assert (await reread(job)).state is JobState.CANCELLING
        await run_steps(database, reconciler, 2)
        assert (await reread(job)).state is JobState.CANCELLED and cluster.stopped

    async def test_a_waiting_job_is_cancelled_at_once(self, database: Database, submit: Submit, scope: Scope, cluster: FakeCluster) -> None:
        job = await submit()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await service.cancel_job(conn, scope, str(job.id))).state is JobState.CANCELLED


class TestLog:
    async def finish(self, database, reconciler, cluster, job, reread, log: bytes) -> None:
        await run_steps(database, reconciler, 2)
        name = await submission(job, reread)
        cluster.logs[name] = log
        cluster.become(name, RayState.SUCCEEDED)
        for _ in range(20):
            if (await reread(job)).state.final:
                return
            await run_steps(database, reconciler)
        raise AssertionError("the job did not end")

    async def test_a_long_one_is_kept_whole_in_pieces_that_end_with_a_line(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, objects: Objects, reread
    ) -> None:
        job = await submit()
        text = b"".join(b"line %d of many\n" % number for number in range(700_000))
        assert len(text) > 12 * CHUNK_BYTES
        await self.finish(database, reconciler, cluster, job, reread, text)
        assert await log_of(database, objects, scope, job) == text
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            chunks = await service.list_chunks(conn, scope, job, 0, 500)
        assert all(chunk.size_bytes <= CHUNK_BYTES for chunk in chunks)
        assert [chunk.offset_bytes for chunk in chunks] == [sum(c.size_bytes for c in chunks[:i]) for i in range(len(chunks))]

    async def test_one_without_line_ends_is_kept_too(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, objects: Objects, reread
    ) -> None:
        job = await submit()
        await self.finish(database, reconciler, cluster, job, reread, b"\xff" * (CHUNK_BYTES + 7))
        assert await log_of(database, objects, scope, job) == b"\xff" * (CHUNK_BYTES + 7)

    async def test_a_process_killed_between_piece_and_row_loses_and_doubles_nothing(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, submit: Submit, scope: Scope, objects: Objects, reread
    ) -> None:
        job = await submit()
        await run_steps(database, reconciler, 2)
        name = await submission(job, reread)
        cluster.logs[name] = b"first\n"
        cluster.become(name, RayState.RUNNING)
        await make_due(database)
        token = uuid4()
        async with database.platform() as conn:
            (claimed,) = await store.claim_job(conn, token, -1, 1)
        await reconciler.process(claimed)  # its rows are written, its outcome never is: here the process dies
        cluster.logs[name] += b"second\n"
        cluster.become(name, RayState.SUCCEEDED)
        await run_steps(database, reconciler)
        assert (await reread(job)).state is JobState.SUCCEEDED
        assert await log_of(database, objects, scope, job) == b"first\nsecond\n"


class TestAdoption:
    async def test_a_job_of_ray_itself_appears_once_with_its_log_and_end(
        self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, scope: Scope, objects: Objects, submit: Submit
    ) -> None:
        await submit()
        await run_steps(database, reconciler, 2)
        cluster.jobs["raysubmit_1"] = RayJob("raysubmit_1", RayState.RUNNING, entrypoint="python x.py")
        assert [await adopt_once(database, cluster), await adopt_once(database, cluster)] == [1, 0]
        cluster.logs["raysubmit_1"] = b"hello\n"
        await run_steps(database, reconciler)
        cluster.become("raysubmit_1", RayState.FAILED, exit_code=3, error_type="JOB_ENTRYPOINT_COMMAND_ERROR")
        await run_steps(database, reconciler)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            found = await service.get_job(conn, scope, "raysubmit_1")
        assert (found.origin, found.state, found.exit_code) == ("ray", JobState.FAILED, 3) and found.resources == Resources(cpu=1)
        assert await log_of(database, objects, scope, found) == b"hello\n"
        assert (await event_types(database, scope)).count("trainos.lease.opened") == 2
