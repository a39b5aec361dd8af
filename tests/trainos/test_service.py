"""What is asked of jobs, over the real database."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from cluster.db import Database, new_id
from cluster.events import list_events
from tests.trainos.conftest import Submit
from tune.trainos import service
from tune.trainos.errors import CheckpointIncomplete, JobEnded, JobNotFound
from tune.trainos.models import CheckpointFile, CheckpointSpec, Job, JobState, Submitter

pytestmark = pytest.mark.postgres


@pytest.fixture
def stranger() -> Scope:
    """An owner in another organisation."""
    org, project = new_id(), new_id()
    principal = Principal(PrincipalKind.USER, new_id(), "eve", org, {project: Role.OWNER})
    return Scope(principal, org, project, "default", Role.OWNER)


class TestTenants:
    async def test_a_job_of_another_tenant_is_not_there(self, database: Database, submit: Submit, stranger: Scope) -> None:
        job = await submit()
        async with database.tenant(org_id=stranger.org_id, project_id=stranger.project_id) as conn:
            assert await service.list_jobs(conn, stranger, None, None, 50) == []
            for verb in (service.get_job, service.cancel_job, service.get_running_job):
                with pytest.raises(JobNotFound):
                    await verb(conn, stranger, str(job.id))

    async def test_the_second_wall_hides_it_from_a_query_that_forgot_the_first(
        self, database: Database, submit: Submit, scope: Scope, stranger: Scope
    ) -> None:
        job = await submit()
        async with database.tenant(org_id=stranger.org_id, project_id=stranger.project_id) as conn:
            with pytest.raises(JobNotFound):
                await service.get_job(conn, scope, str(job.id))


class TestSubmitJob:
    async def test_remembers_what_its_submitter_may_do(self, database: Database, submit: Submit, scope: Scope, reread) -> None:
        assert (await reread(await submit())).submitter == Submitter("developer", None, scope.principal.user_id)

    async def test_says_so_in_its_own_transaction(self, database: Database, submit: Submit, scope: Scope) -> None:
        job = await submit()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            events = [event for event in await list_events(conn, after_seq=0) if event.type.startswith("trainos")]
        assert [(event.type, event.subject) for event in events] == [("trainos.job.queued", str(job.id))]


class TestCancelJob:
    async def test_twice_is_no_error_while_it_lasts(self, database: Database, submit: Submit, scope: Scope) -> None:
        job = await submit()
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET state = 'RUNNING' WHERE id = %s", (job.id,))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert [(await service.cancel_job(conn, scope, "digits")).state for _ in range(2)] == [JobState.CANCELLING] * 2

    async def test_one_that_has_ended_stays_as_it_ended(self, database: Database, submit: Submit, scope: Scope) -> None:
        job = await submit()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.cancel_job(conn, scope, str(job.id))
            with pytest.raises(JobEnded):
                await service.cancel_job(conn, scope, str(job.id))


class TestCheckpoints:
    FILE = CheckpointFile("a", "0" * 64, 3)

    def save(self, job: Job, step: int) -> CheckpointSpec:
        return CheckpointSpec(step, (self.FILE,))

    async def test_a_short_file_is_none(self, database: Database, submit: Submit, scope: Scope) -> None:
        job = await submit()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(CheckpointIncomplete):
                await service.create_checkpoint(conn, scope, job, self.save(job, 1), {service.checkpoint_key(job, self.FILE): 2})

    async def test_the_highest_step_is_the_latest_whatever_came_last(self, database: Database, submit: Submit, scope: Scope) -> None:
        job = await submit()
        stored = {service.checkpoint_key(job, self.FILE): 3}
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            for step in (3, 7, 5):
                await service.create_checkpoint(conn, scope, job, self.save(job, step), stored)
            assert (await service.get_checkpoint(conn, scope, job, "latest")).step == 7
            assert [found.step for found in await service.list_checkpoints(conn, scope, job, 7, 1)] == [5]

    async def test_user_code_saves_into_its_own_job_only(self, database: Database, submit: Submit, scope: Scope) -> None:
        job = await submit()
        inside, outside = (
            replace(scope, principal=replace(scope.principal, kind=PrincipalKind.JOB, job_id=id)) for id in (job.id, uuid4())
        )
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await service.get_running_job(conn, inside, str(job.id))).id == job.id
            with pytest.raises(JobNotFound):
                await service.get_running_job(conn, outside, str(job.id))
