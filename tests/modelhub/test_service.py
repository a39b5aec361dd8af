"""Experiments, runs, metrics, artifacts and the registry on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from actors.modelhub import service
from actors.modelhub.errors import (
    ArtifactExists,
    ArtifactNotFound,
    ExperimentExists,
    ExperimentNotFound,
    InvalidModelFiles,
    ParamChanged,
    RunEnded,
    RunIdTaken,
    RunNotFound,
    TooManyParams,
    UploadIncomplete,
    VersionInUse,
    VersionNotFound,
    VersionNotReady,
    WrongRunState,
)
from actors.modelhub.governance import service as governance
from actors.modelhub.models import ArtifactSpec, Flavour, Point, Run, RunFilter, RunSpec, RunState, VersionSpec, VersionState
from actors.securityvault.models import Scope
from cluster.db import Connection, Database, new_id
from cluster.events import list_events
from tests.modelhub.conftest import announce

pytestmark = pytest.mark.postgres
START = datetime(2026, 11, 1, tzinfo=UTC)


def tenant(database: Database, scope: Scope):
    return database.tenant(org_id=scope.org_id, project_id=scope.project_id)


async def make_ready(conn: Connection, version_id: UUID) -> None:
    await conn.execute("UPDATE modelhub.versions SET state = 'READY' WHERE id = %s", (version_id,))


async def register(conn: Connection, scope: Scope, run: Run, model: str = "digits"):
    await announce(conn, scope, run.id, {"model.onnx": b"x"})
    return await service.register_version(conn, scope, model, VersionSpec(run.id, Flavour.ONNX, ("model.onnx",)))


class TestExperiments:
    async def test_a_name_is_taken_once(self, conn: Connection, scope: Scope) -> None:
        await service.create_experiment(conn, scope, "digits")
        with pytest.raises(ExperimentExists):
            await service.create_experiment(conn, scope, "digits")

    async def test_a_deleted_ones_name_is_free_and_its_runs_are_gone(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.delete_experiment(conn, scope, "digits")
        with pytest.raises(RunNotFound):
            await service.get_run(conn, scope, run.id)
        again = await service.create_experiment(conn, scope, "digits")
        assert again.id != run.experiment_id

    async def test_another_projects_is_not_there(self, database: Database, run: Run, other_scope: Scope) -> None:
        async with tenant(database, other_scope) as conn:
            with pytest.raises(ExperimentNotFound):
                await service.get_experiment(conn, other_scope, "digits")
            with pytest.raises(RunNotFound):
                await service.get_run(conn, other_scope, run.id)
            assert not await service.list_runs(conn, other_scope, RunFilter(), None, 10)

    async def test_two_first_runs_at_once_share_the_experiment(self, database: Database, scope: Scope) -> None:
        async def begin() -> Run:
            async with tenant(database, scope) as conn:
                return await service.create_run(conn, scope, RunSpec("race"))

        runs = await asyncio.gather(*(begin() for _ in range(5)))
        assert len({run.experiment_id for run in runs}) == 1


class TestRuns:
    @pytest.mark.parametrize("state", [RunState.FINISHED, RunState.FAILED, RunState.KILLED])
    async def test_ends_and_publishes(self, conn: Connection, scope: Scope, state: RunState) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        ended = await service.update_run(conn, scope, run.id, state=state)
        assert ended.state is state and ended.ended_at is not None
        events = [event.type for event in await list_events(conn, after_seq=0, subject=str(run.id))]
        assert events == ["modelhub.run.created", "modelhub.run.ended"]

    async def test_what_finished_stays_so(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.update_run(conn, scope, run.id, state=RunState.FINISHED)
        with pytest.raises(WrongRunState):
            await service.update_run(conn, scope, run.id, state=RunState.RUNNING)
        await service.finish_run(conn, scope, run.id, RunState.FAILED)
        assert (await service.get_run(conn, scope, run.id)).state is RunState.FINISHED

    async def test_what_failed_can_be_resumed(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.finish_run(conn, scope, run.id, RunState.FAILED)
        resumed = await service.update_run(conn, scope, run.id, state=RunState.RUNNING)
        assert resumed.state is RunState.RUNNING and resumed.ended_at is None

    async def test_a_job_ends_a_deleted_run_without_harm(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.delete_run(conn, scope, run.id)
        await service.finish_run(conn, scope, run.id)

    async def test_nothing_is_logged_to_an_ended_run_but_tags(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.finish_run(conn, scope, run.id)
        with pytest.raises(RunEnded):
            await service.log_metrics(conn, scope, run.id, [Point("loss", 1.0, 0, START)])
        with pytest.raises(RunEnded):
            await service.set_params(conn, scope, run.id, {"lr": "1"})
        await service.set_tags(conn, scope, run.id, {"note": "good"})

    async def test_are_listed_newest_first_by_pages_and_filters(self, conn: Connection, scope: Scope) -> None:
        made = [await service.create_run(conn, scope, RunSpec("digits", f"r{i}")) for i in range(5)]
        other = await service.create_run(conn, scope, RunSpec("other"))
        await service.finish_run(conn, scope, made[0].id)
        first = await service.list_runs(conn, scope, RunFilter(made[0].experiment_id), None, 3)
        rest = await service.list_runs(conn, scope, RunFilter(made[0].experiment_id), first[-1].id, 3)
        assert [run.name for run in first + rest] == ["r4", "r3", "r2", "r1", "r0"]
        assert [run.id for run in await service.list_runs(conn, scope, RunFilter(state=RunState.FINISHED), None, 9)] == [made[0].id]
        assert other.id not in {run.id for run in first + rest}


class TestChosenIds:
    async def test_the_same_run_asked_for_twice_is_one(self, database: Database, scope: Scope) -> None:
        spec = RunSpec("digits", "mine", params={"lr": "0.1"}, started_at=START, id=new_id())

        async def begin() -> Run:
            async with tenant(database, scope) as conn:
                return await service.create_run(conn, scope, spec)

        runs = await asyncio.gather(*(begin() for _ in range(5)))
        assert {run.id for run in runs} == {spec.id} and {run.started_at for run in runs} == {START}
        async with tenant(database, scope) as conn:
            assert len(await list_events(conn, after_seq=0, subject=str(spec.id))) == 1

    async def test_another_experiments_a_deleted_and_another_tenants_are_refused(
        self, database: Database, conn: Connection, scope: Scope, run: Run, other_scope: Scope
    ) -> None:
        with pytest.raises(RunIdTaken):
            await service.create_run(conn, scope, RunSpec("other", id=run.id))
        async with tenant(database, other_scope) as theirs:
            with pytest.raises(RunIdTaken):
                await service.create_run(theirs, other_scope, RunSpec("digits", id=run.id))
        await service.delete_run(conn, scope, run.id)
        with pytest.raises(RunIdTaken):
            await service.create_run(conn, scope, RunSpec("digits", id=run.id))


class TestParams:
    async def test_are_set_once(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits", params={"lr": "0.1"}))
        await service.set_params(conn, scope, run.id, {"lr": "0.1", "epochs": "3"})
        assert (await service.get_run(conn, scope, run.id)).params == {"lr": "0.1", "epochs": "3"}
        with pytest.raises(ParamChanged, match="'lr'.*'0.1'.*'0.2'"):
            await service.set_params(conn, scope, run.id, {"lr": "0.2", "z": "1"})

    async def test_two_writers_of_one_param_cannot_both_win(self, database: Database, scope: Scope, run: Run) -> None:
        async def write(value: str) -> str:
            async with tenant(database, scope) as conn:
                await service.set_params(conn, scope, run.id, {"lr": value})
            return value

        results = await asyncio.gather(*(write(str(i)) for i in range(6)), return_exceptions=True)
        won = [result for result in results if isinstance(result, str)]
        assert len(won) == 1 and sum(isinstance(result, ParamChanged) for result in results) == 5
        async with tenant(database, scope) as conn:
            assert (await service.get_run(conn, scope, run.id)).params == {"lr": won[0]}

    async def test_have_a_limit(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits", params={f"p{i}": "1" for i in range(1000)}))
        with pytest.raises(TooManyParams):
            await service.set_params(conn, scope, run.id, {"one-more": "1"})

    async def test_tags_move_and_go(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits", tags={"a": "1", "b": "1"}))
        await service.set_tags(conn, scope, run.id, {"a": "2", "b": None, "c": "3"})
        assert (await service.get_run(conn, scope, run.id)).tags == {"a": "2", "c": "3"}


class TestMetrics:
    async def test_a_batch_comes_back_whole(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        values = [0.5, math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0]
        points = [Point("train/loss", value, step, START) for step, value in enumerate(values)]
        await service.log_metrics(conn, scope, run.id, points)
        back = [point.value for point in await service.list_points(conn, scope, run.id, "train/loss", None, 100)]
        assert [repr(value) for value in back] == [repr(value) for value in values]

    async def test_the_latest_is_that_of_the_highest_step_whatever_came_last(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.log_metrics(
            conn, scope, run.id, [Point("acc", 0.9, 9, START), Point("acc", 0.5, 5, START), Point("nan", math.nan, 0, START)]
        )
        await service.log_metrics(conn, scope, run.id, [Point("acc", 0.7, 7, START)])
        metrics = (await service.get_run(conn, scope, run.id)).metrics
        assert (metrics["acc"].value, metrics["acc"].step) == (0.9, 9) and math.isnan(metrics["nan"].value)

    async def test_a_batch_sent_twice_is_stored_once(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        batch = [Point("loss", 1.0, 1, START), Point("loss", math.nan, 2, START), Point("loss", 1.0, 1, START + timedelta(seconds=1))]
        await service.log_metrics(conn, scope, run.id, batch)
        await service.log_metrics(conn, scope, run.id, batch)
        assert len(await service.list_points(conn, scope, run.id, "loss", None, 100)) == 3

    async def test_history_comes_in_pages_across_equal_steps(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        points = [Point("loss", float(i % 7), i // 4, START) for i in range(40)]
        await service.log_metrics(conn, scope, run.id, points)
        seen: list[Point] = []
        while page := await service.list_points(
            conn, scope, run.id, "loss", (seen[-1].step, seen[-1].at, seen[-1].value) if seen else None, 7
        ):
            seen += page
        assert len(seen) == len(set(points)) and seen == sorted(seen, key=lambda p: (p.step, p.at, p.value))

    async def test_a_spike_survives_downsampling(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        values = [float(i % 10) for i in range(4000)]
        values[1234], values[2345], values[3000] = 1e6, -1e6, math.nan
        await service.log_metrics(conn, scope, run.id, [Point("loss", value, step, START) for step, value in enumerate(values)])
        plotted = await service.plot_points(conn, scope, run.id, "loss", 100)
        assert len(plotted) <= 100
        assert {1e6, -1e6} <= {point.value for point in plotted}
        assert [point.step for point in plotted] == sorted(point.step for point in plotted)

    async def test_concurrent_batches_of_one_run_all_arrive(self, database: Database, scope: Scope, run: Run) -> None:
        async def log(writer: int) -> None:
            async with tenant(database, scope) as conn:
                keys = [f"k{k}" for k in range(20)]
                await service.log_metrics(conn, scope, run.id, [Point(k, 1.0, writer, START) for k in (keys if writer % 2 else keys[::-1])])

        await asyncio.gather(*(log(writer) for writer in range(12)))
        async with tenant(database, scope) as conn:
            for key in ("k0", "k19"):
                assert len(await service.list_points(conn, scope, run.id, key, None, 100)) == 12
            assert (await service.get_run(conn, scope, run.id)).metrics["k7"].step == 11


class TestArtifacts:
    async def test_is_there_once_its_bytes_are(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        spec = ArtifactSpec("plots/a.png", "0" * 64, 3)
        (artifact,) = await service.announce_artifacts(conn, scope, run.id, [spec])
        assert not artifact.stored and not await service.list_artifacts(conn, scope, run.id, "", None, 10)
        with pytest.raises(UploadIncomplete, match="3 bytes.*has 0"):
            await service.complete_artifacts(conn, scope, run.id, [artifact], {artifact.id: None})
        with pytest.raises(ArtifactNotFound):
            await service.get_artifacts(conn, scope, run.id, ["plots/a.png"])

    async def test_the_same_bytes_again_need_no_upload_and_others_are_refused(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await announce(conn, scope, run.id, {"a": b"1"})
        stored = (await service.get_artifacts(conn, scope, run.id, ["a"]))[0]
        (again,) = await service.announce_artifacts(conn, scope, run.id, [ArtifactSpec("a", stored.sha256, 1)])
        assert again.stored and again.key == stored.key
        with pytest.raises(ArtifactExists):
            await service.announce_artifacts(conn, scope, run.id, [ArtifactSpec("a", "f" * 64, 1)])

    async def test_an_upload_that_broke_off_may_change_its_bytes(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        (first,) = await service.announce_artifacts(conn, scope, run.id, [ArtifactSpec("a", "0" * 64, 1)])
        (second,) = await service.announce_artifacts(conn, scope, run.id, [ArtifactSpec("a", "f" * 64, 2)])
        assert first.id == second.id and second.size_bytes == 2

    async def test_are_listed_by_path_and_prefix(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await announce(conn, scope, run.id, {f"plots/{i}.png": b"x" for i in range(5)} | {"log.txt": b"y"})
        first = await service.list_artifacts(conn, scope, run.id, "plots/", None, 3)
        rest = await service.list_artifacts(conn, scope, run.id, "plots/", first[-1].path, 3)
        assert [artifact.path for artifact in first + rest] == [f"plots/{i}.png" for i in range(5)]


class TestVersions:
    async def test_are_numbered_without_gap_or_double(self, database: Database, scope: Scope, run: Run) -> None:
        async with tenant(database, scope) as conn:
            await announce(conn, scope, run.id, {"model.onnx": b"x"})

        async def add() -> int:
            async with tenant(database, scope) as conn:
                return (await service.register_version(conn, scope, "digits", VersionSpec(run.id, Flavour.ONNX, ("model.onnx",)))).version

        numbers = await asyncio.gather(*(add() for _ in range(20)))
        assert sorted(numbers) == list(range(1, 21))

    async def test_share_no_folder_in_their_paths(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await announce(conn, scope, run.id, {"out/model/model.onnx": b"x", "out/model/meta/labels.json": b"{}"})
        spec = VersionSpec(run.id, Flavour.ONNX, ("out/model/model.onnx", "out/model/meta/labels.json"))
        version = await service.register_version(conn, scope, "digits", spec)
        assert [file.path for file in version.files] == ["meta/labels.json", "model.onnx"]
        assert version.state is VersionState.PENDING and version.reference == "digits@1"

    @pytest.mark.parametrize("path", ["model.pkl", "model.pt", "weights.safetensors", "labels.json"])
    async def test_need_a_file_of_their_flavour(self, conn: Connection, scope: Scope, path: str) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await announce(conn, scope, run.id, {path: b"x"})
        with pytest.raises(InvalidModelFiles):
            await service.register_version(conn, scope, "digits", VersionSpec(run.id, Flavour.ONNX, (path,)))

    async def test_need_stored_artifacts(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await service.announce_artifacts(conn, scope, run.id, [ArtifactSpec("model.onnx", "0" * 64, 1)])
        with pytest.raises(ArtifactNotFound):
            await service.register_version(conn, scope, "digits", VersionSpec(run.id, Flavour.ONNX, ("model.onnx",)))

    @pytest.mark.parametrize("name", ["2", "99999999999999999999", "champion", "latest"])
    async def test_what_is_not_there_is_said(self, conn: Connection, scope: Scope, name: str) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await register(conn, scope, run)
        with pytest.raises(VersionNotFound):
            await service.get_version(conn, scope, "digits", name)


class TestAliases:
    async def test_only_a_ready_version_takes_one(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        version = await register(conn, scope, run)
        with pytest.raises(VersionNotReady, match="digits@1 is PENDING"):
            await governance.move_alias(conn, scope, "digits", "champion", "1")
        await make_ready(conn, version.id)
        moved = await governance.move_alias(conn, scope, "digits", "champion", "1")
        assert moved.aliases == ("champion",)
        assert (await service.get_version(conn, scope, "digits", "latest")).version == 1

    async def test_moves_in_one_step_under_readers(self, database: Database, scope: Scope, run: Run) -> None:
        async with tenant(database, scope) as conn:
            for _ in range(2):
                await make_ready(conn, (await register(conn, scope, run)).id)
            await governance.move_alias(conn, scope, "digits", "champion", "1")

        async def move(times: int) -> None:
            for i in range(times):
                async with tenant(database, scope) as conn:
                    await governance.move_alias(conn, scope, "digits", "champion", str(i % 2 + 1))

        async def read(times: int) -> set[int]:
            seen = set()
            for _ in range(times):
                async with tenant(database, scope) as conn:
                    seen.add((await service.get_version(conn, scope, "digits", "champion")).version)
            return seen

        results = await asyncio.gather(move(20), move(20), read(60), read(60))
        assert results[2] | results[3] <= {1, 2}
        async with tenant(database, scope) as conn:
            assert (await service.get_model(conn, scope, "digits")).aliases in ({"champion": 1}, {"champion": 2})
            moves = [e.data for e in await list_events(conn, after_seq=0, limit=1000) if e.type == "modelhub.alias.moved"]
        # A chain: each move starts from where the one before ended.
        assert [move["moved_from"] for move in moves[1:]] == [move["moved_to"] for move in moves[:-1]]

    async def test_hold_their_version(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await make_ready(conn, (await register(conn, scope, run)).id)
        await governance.move_alias(conn, scope, "digits", "champion", "1")
        with pytest.raises(VersionInUse, match="champion"):
            await service.delete_version(conn, scope, "digits", "champion")
        await governance.delete_alias(conn, scope, "digits", "champion")
        await service.delete_version(conn, scope, "digits", "1")
        assert (await register(conn, scope, run)).version == 2

    async def test_a_deleted_models_name_is_free(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits"))
        await make_ready(conn, (await register(conn, scope, run)).id)
        await governance.move_alias(conn, scope, "digits", "champion", "1")
        await service.delete_model(conn, scope, "digits")
        assert (await register(conn, scope, run)).version == 1


class TestTenants:
    async def test_rows_of_one_project_are_not_the_others(self, database: Database, scope: Scope, other_scope: Scope, run: Run) -> None:
        async with tenant(database, scope) as conn:
            await service.log_metrics(conn, scope, run.id, [Point("loss", 1.0, 0, START)])
            await register(conn, scope, run)
        tables = ["experiments", "runs", "metrics", "metric_points", "artifacts", "models", "versions", "version_files", "edges"]
        async with tenant(database, other_scope) as conn:
            for table in tables:
                rows = await (await conn.execute(f"SELECT 1 FROM modelhub.{table}")).fetchall()
                assert not rows, table

    async def test_a_foreign_run_takes_no_metrics(self, database: Database, other_scope: Scope, run: Run) -> None:
        async with tenant(database, other_scope) as conn:
            with pytest.raises(RunNotFound):
                await service.log_metrics(conn, other_scope, run.id, [Point("loss", 1.0, 0, START)])
            with pytest.raises(RunNotFound):
                await service.update_run(conn, other_scope, new_id(), state=RunState.FAILED)
