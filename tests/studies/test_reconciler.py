"""What becomes of a study when its job ends by itself: begun again where it was killed, else the study's end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.securityvault.models import Scope
from cluster.db import Database
from tests.studies.examples import make_spec
from tests.support.tenant import admin_key, objects
from tests.trainos.conftest import cluster, reconciler, scope, take_step
from tests.trainos.fake_cluster import FakeCluster
from tune.studies import policy, service
from tune.studies.models import Study
from tune.studies.reconciler import StudyReconciler
from tune.trainos import service as trainos
from tune.trainos.models import Job, RayState
from tune.trainos.reconciler import JobReconciler

__all__ = ["admin_key", "cluster", "objects", "reconciler", "scope"]
pytestmark = pytest.mark.postgres
Fail = Callable[..., Awaitable[None]]


@pytest.fixture
async def study(database: Database, scope: Scope) -> Study:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await service.create_study(conn, scope, make_spec())


@pytest.fixture
def read(database: Database, scope: Scope) -> Callable[[], Awaitable[tuple[Study, Job]]]:
    """The study and its job as they are now."""

    async def find() -> tuple[Study, Job]:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            study = await service.get_study(conn, scope, "s")
            return study, await trainos.get_job(conn, scope, str(study.job_id))

    return find


async def make_due(database: Database) -> None:
    async with database.platform() as conn:
        await conn.execute("UPDATE trainos.jobs SET next_attempt_at = now(); UPDATE studies.studies SET next_attempt_at = now()")


@pytest.fixture
def end_job(database: Database, reconciler: JobReconciler, cluster: FakeCluster, read: Any) -> Fail:
    """The study's job runs and ends like this."""

    async def fail(state: RayState = RayState.FAILED, **changes: Any) -> None:
        while (await read())[1].submission_id not in cluster.jobs:
            await take_step(database, reconciler)
        name = (await read())[1].submission_id
        cluster.become(name, state, **{"error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", **changes})
        while not (await read())[1].state.final:
            await take_step(database, reconciler)

    return fail


class TestStudyReconciler:
    async def test_a_killed_driver_gets_another_job_of_the_same_submitter(
        self, database: Database, study: Study, end_job: Fail, read: Any
    ) -> None:
        _, before = await read()
        await end_job(exit_code=137)
        await make_due(database)
        assert await StudyReconciler(database).run_once() == 1
        now, job = await read()
        assert (now.state, now.restarts) == ("RUNNING", 1) and now.reason.startswith("begun again")
        assert job.id != before.id and now.job_ids == (before.id, job.id)
        assert (job.spec, job.inputs, job.submitter) == (before.spec, before.inputs, before.submitter)

    async def test_it_is_not_begun_again_for_ever(self, database: Database, study: Study, end_job: Fail, read: Any) -> None:
        for _ in range(policy.RESTARTS + 1):
            await end_job(exit_code=137)
            await make_due(database)
            await StudyReconciler(database).run_once()
        now, _ = await read()
        assert now.state == "FAILED" and len(now.job_ids) == policy.RESTARTS + 1

    async def test_a_driver_that_fails_by_itself_fails_the_study(self, database: Database, study: Study, end_job: Fail, read: Any) -> None:
        await end_job(exit_code=1, message="ModuleNotFoundError: no module named 'x'")
        await make_due(database)
        await StudyReconciler(database).run_once()
        now, _ = await read()
        assert (now.state, now.reason) == ("FAILED", "exit code 1; last line: ModuleNotFoundError: no module named 'x'")

    async def test_who_cancels_the_job_stops_the_study(self, database: Database, study: Study, scope: Scope, read: Any) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await trainos.cancel_job(conn, scope, str(study.job_id))
        await StudyReconciler(database).run_once()
        assert (await read())[0].state == "STOPPED"
        await make_due(database)
        assert await StudyReconciler(database).run_once() == 0, "one that does not run is left alone"

    async def test_a_job_that_waits_or_runs_is_left_alone_and_says_why_it_waits(self, database: Database, study: Study, read: Any) -> None:
        assert await StudyReconciler(database).run_once() == 1
        now, _ = await read()
        assert (now.state, now.restarts, len(now.job_ids)) == ("RUNNING", 0, 1)

    async def test_who_stopped_it_meanwhile_has_decided(
        self, database: Database, study: Study, scope: Scope, end_job: Fail, read: Any
    ) -> None:
        await end_job(exit_code=137)
        await make_due(database)
        looking = StudyReconciler(database)
        async with database.platform() as conn:
            (item,) = await looking.claim(conn, study.id, 30, 1)
        found = await looking.process(item)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.stop_study(conn, scope, "s")
        async with database.platform() as conn:
            assert await looking.apply(conn, item, study.id, found)
        now, _ = await read()
        assert now.state == "STOPPED" and len(now.job_ids) == 1

    async def test_a_stale_token_writes_nothing(self, database: Database, study: Study, end_job: Fail, read: Any, scope: Scope) -> None:
        await end_job(exit_code=137)
        await make_due(database)
        looking = StudyReconciler(database)
        async with database.platform() as conn:
            (item,) = await looking.claim(conn, study.id, 30, 1)
            assert not await looking.claim(conn, scope.project, 30, 1), "nobody else has it meanwhile"
        found = await looking.process(item)
        async with database.platform() as conn:
            assert not await looking.apply(conn, item, scope.project, found)
        assert len((await read())[0].job_ids) == 1
