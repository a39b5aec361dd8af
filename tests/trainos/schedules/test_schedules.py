"""Schedules over a real database: due, missed, passed over, paused; by whichever process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from actors.securityvault import service as securityvault
from actors.securityvault.models import Role, Scope
from aidos.client import Client
from cluster.db import Connection, Database, new_id
from cluster.events import list_events
from tests.trainos.test_api import command
from tune.trainos import service as trainos
from tune.trainos.errors import ScheduleExists, ScheduleInvalid, ScheduleNotFound
from tune.trainos.models import Job, JobSpec, JobState
from tune.trainos.schedules import service
from tune.trainos.schedules.models import Schedule
from tune.trainos.schedules.reconciler import run_due

pytestmark = pytest.mark.postgres
HOURLY = "0 * * * *"


class World:
    """What a test does to a schedule and its time."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self.database, self.scope = database, scope

    @asynccontextmanager
    async def tenant(self) -> AsyncIterator[Connection]:
        async with self.database.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id) as conn:
            yield conn

    async def create(self, name: str = "nightly", **fields: object) -> Schedule:
        spec = JobSpec(**{"name": name, "command": ("true",), **fields})  # type: ignore[arg-type]  # as named
        async with self.tenant() as conn:
            return await service.create_schedule(conn, self.scope, name, HOURLY, "UTC", spec)

    async def make_due(self, ago: str = "1 s") -> None:
        async with self.database.platform() as conn:
            await conn.execute("UPDATE trainos.schedules SET next_at = now() - %s::interval", (ago,))

    async def read(self, name: str = "nightly") -> Schedule:
        async with self.tenant() as conn:
            return await service.get_schedule(conn, self.scope, name)

    async def jobs(self) -> list[Job]:
        async with self.tenant() as conn:
            return await trainos.list_jobs(conn, self.scope, None, None, 100)


@pytest.fixture
def world(database: Database, scope: Scope) -> World:
    return World(database, scope)


class TestRun:
    async def test_a_job_is_queued_when_it_is_due_and_not_before(self, world: World) -> None:
        made = await world.create(workers=3, priority=5)
        assert datetime.now(UTC) < made.next_at <= datetime.now(UTC) + timedelta(hours=1)
        assert not await run_due(world.database) and await world.jobs() == []
        await world.make_due()
        due_at = (await world.read()).next_at
        assert await run_due(world.database) and not await run_due(world.database)
        (job,) = await world.jobs()
        now = await world.read()
        assert (job.name, job.spec.workers, job.priority, job.state) == ("nightly", 3, 5, JobState.QUEUED)
        assert (now.last_job_id, now.last_at, now.last_reason) == (job.id, due_at, "") and now.next_at == made.next_at

    async def test_times_that_were_missed_make_one_job(self, world: World) -> None:
        await world.create()
        await world.make_due("3 days")
        while await run_due(world.database):
            pass
        assert len(await world.jobs()) == 1 and (await world.read()).next_at > datetime.now(UTC)

    async def test_each_time_is_one_job_however_many_look(self, world: World) -> None:
        for number in range(3):
            await world.create(f"schedule-{number}")
        await world.make_due()
        await asyncio.gather(*(run_due(world.database) for _ in range(12)))
        while await run_due(world.database):
            pass
        assert sorted(job.name for job in await world.jobs()) == ["schedule-0", "schedule-1", "schedule-2"]

    async def test_the_job_is_of_who_made_the_schedule_and_acts_with_no_more_rights(self, world: World) -> None:
        await world.create()
        await world.make_due()
        await run_due(world.database)
        (job,) = await world.jobs()
        assert job.submitter == trainos.submitter_of(world.scope) and job.created_by == world.scope.actor

    async def test_of_who_left_the_project_no_job_is_queued_any_more(self, database: Database, scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            ada, _ = await securityvault.create_user(conn, scope, f"ada-{new_id()}@example.org", None)
            await securityvault.put_member(conn, scope, str(ada.id), Role.DEVELOPER)
        world = World(database, replace(scope, role=Role.DEVELOPER, principal=replace(scope.principal, id=ada.id, user_id=ada.id)))
        await world.create()
        await world.make_due()
        assert await run_due(database) and len(await world.jobs()) == 1
        async with database.platform() as conn:
            await conn.execute("UPDATE trainos.jobs SET state = 'SUCCEEDED'")
        async with world.tenant() as conn:
            await securityvault.put_member(conn, scope, str(ada.id), Role.VIEWER)
        await world.make_due()
        assert await run_due(database) and "may submit no job here any more" in (await world.read()).last_reason
        async with world.tenant() as conn:
            await securityvault.delete_member(conn, scope, str(ada.id))
        await world.make_due()
        assert await run_due(database) and len(await world.jobs()) == 1

    async def test_a_time_at_which_the_last_job_has_not_ended_is_passed_over(self, world: World) -> None:
        await world.create()
        for _ in range(2):
            await world.make_due()
            await run_due(world.database)
        (job,) = await world.jobs()
        assert (await world.read()).last_reason == f"job {job.id} of the time before has not ended"
        async with world.tenant() as conn:
            await trainos.cancel_job(conn, world.scope, str(job.id))
        await world.make_due()
        await run_due(world.database)
        assert len(await world.jobs()) == 2 and (await world.read()).last_reason == ""

    async def test_a_job_that_is_refused_is_told_of_and_stops_no_other(self, world: World) -> None:
        await world.create("broken", datasets=("nowhere@main",))
        await world.create("whole")
        await world.make_due()
        while await run_due(world.database):
            pass
        assert [job.name for job in await world.jobs()] == ["whole"]
        broken = await world.read("broken")
        assert "nowhere" in broken.last_reason and broken.last_job_id is None and broken.next_at > datetime.now(UTC)
        async with world.tenant() as conn:
            events = [event.type for event in await list_events(conn, after_seq=0)]
        assert events.count("trainos.schedule.passed_over") == 1

    async def test_a_run_that_dies_before_its_end_has_queued_nothing(self, world: World) -> None:
        made = await world.create()
        await world.make_due()
        with pytest.raises(RuntimeError, match="planted"):
            async with world.database.platform() as conn:
                assert await service.run_schedule(conn, made.id)
                raise RuntimeError("planted")
        assert await world.jobs() == []
        await run_due(world.database)
        assert len(await world.jobs()) == 1


class TestVerbs:
    async def test_a_pause_is_not_made_up_for(self, world: World) -> None:
        await world.create()
        async with world.tenant() as conn:
            assert (await service.pause_schedule(conn, world.scope, "nightly")).paused_by == world.scope.actor
        await world.make_due("2 h")
        assert not await run_due(world.database)
        async with world.tenant() as conn:
            resumed = await service.resume_schedule(conn, world.scope, "nightly")
        assert resumed.paused_by is None and resumed.next_at > datetime.now(UTC)
        assert not await run_due(world.database) and await world.jobs() == []

    async def test_what_is_deleted_is_due_no_more_and_its_jobs_stay(self, world: World) -> None:
        await world.create()
        await world.make_due()
        await run_due(world.database)
        await world.make_due()
        async with world.tenant() as conn:
            await service.delete_schedule(conn, world.scope, "nightly")
            with pytest.raises(ScheduleNotFound):
                await service.get_schedule(conn, world.scope, "nightly")
        assert not await run_due(world.database) and len(await world.jobs()) == 1

    async def test_a_name_is_taken_once(self, world: World) -> None:
        await world.create()
        with pytest.raises(ScheduleExists, match="nightly"):
            await world.create()


class TestCommand:
    def test_the_whole_way(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text("print(1)")
        asked = ("schedule", "create", "nightly", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--workers", "2", "--json")
        made = json.loads(command(*asked, "--", "python", "train.py", cwd=tmp_path).stdout)
        assert made["spec"]["command"] == ["python", "train.py"] and len(made["spec"]["code_sha256"]) == 64
        assert [schedule.id for schedule in client.schedules.list()] == [UUID(made["id"])]
        assert client.schedules.pause("nightly").paused_by and client.schedules.resume(made["id"]).paused_by is None
        client.schedules.delete("nightly")
        assert list(client.schedules.list()) == []
        refused = command("schedule", "create", "n", "--cron", "0 3 * * 9", "--", "true", cwd=tmp_path)
        assert refused.returncode == 2 and "'0 3 * * 9' is no cron expression" in refused.stderr

    def test_pages_by_name(self, client: Client) -> None:
        for name in "bca":
            client.schedules.create(name, cron=HOURLY, job={"name": name, "command": ["true"]})
        assert [schedule.name for schedule in client.schedules.list(limit=2)] == ["a", "b"]
        assert [schedule.name for schedule in client.schedules.list(limit=None)] == ["a", "b", "c"]
        with pytest.raises(ScheduleInvalid, match="Atlantis"):
            client.schedules.create("d", cron=HOURLY, timezone="Atlantis", job={"name": "d", "command": ["true"]})
