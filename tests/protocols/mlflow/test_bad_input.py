"""What MLflow's unmodified client can get wrong: each is refused in its own words, and leaves nothing behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Metric, Param, RunTag
from requests import HTTPError

from actors.modelhub.errors import RunEnded
from aidos.client import Client
from aidos.schemas.modelhub import PointLog
from cluster.settings import Settings
from tests.modelhub.inspecting import inspecting

pytestmark = pytest.mark.postgres
CLIMBING = ("../x", "../../x", "a/../../x", "/etc/x", "a/..", "..", "a/../..", "%2e%2e/x", "..%2fx", "a\\..\\x")


@pytest.fixture
def experiment(tracking: MlflowClient) -> str:
    return tracking.create_experiment("digits")


@pytest.fixture
def run_id(tracking: MlflowClient, experiment: str) -> str:
    return tracking.create_run(experiment).info.run_id


def refusal(call: Callable[[], object], code: str = "INVALID_PARAMETER_VALUE") -> str:
    """What the client says."""
    with pytest.raises(MlflowException) as refused:
        call()
    assert refused.value.error_code == code
    return str(refused.value.message)


class TestKeysAndValues:
    def test_a_key_has_at_most_250_characters(self, tracking: MlflowClient, run_id: str) -> None:
        for length, logs in ((250, True), (251, False)):
            key = "k" * length
            calls: tuple[Callable[[], object], ...] = (
                lambda key=key: tracking.log_metric(run_id, key, 1.0),
                lambda key=key: tracking.log_batch(run_id, metrics=[Metric(key, 1.0, 1, 0)]),
                lambda key=key: tracking.log_param(run_id, key, "1"),
                lambda key=key: tracking.set_tag(run_id, key, "1"),
            )
            for call in calls:
                if logs:
                    call()
                else:
                    assert "250" in refusal(call)
        found = tracking.get_run(run_id).data
        assert set(found.metrics) == set(found.params) == {"k" * 250} <= set(found.tags) and "k" * 251 not in found.tags

    def test_a_param_that_is_set_is_not_changed(self, tracking: MlflowClient, run_id: str) -> None:
        tracking.log_param(run_id, "lr", 0.1)
        assert "lr" in refusal(lambda: tracking.log_batch(run_id, params=[Param("lr", "0.2")], metrics=[Metric("m", 1.0, 1, 0)]))
        with mlflow.start_run(run_id=run_id):
            for change in (lambda: mlflow.log_param("lr", 0.2), lambda: mlflow.log_params({"new": 1, "lr": 0.3})):
                assert "lr" in refusal(change)
        found = tracking.get_run(run_id).data
        assert (found.params, found.metrics) == ({"lr": "0.1"}, {}), "a refused batch leaves nothing"

    def test_101_params_are_one_too_many_for_a_batch_and_the_client_sends_two(self, tracking: MlflowClient, run_id: str) -> None:
        with mlflow.start_run(run_id=run_id):
            mlflow.log_params({f"p{number}": number for number in range(101)})
        assert len(tracking.get_run(run_id).data.params) == 101
        too_many = [Param(f"q{number}", "1") for number in range(101)]
        assert "100" in refusal(lambda: tracking._tracking_client.store.log_batch(run_id, [], too_many, []))
        assert len(tracking.get_run(run_id).data.params) == 101

    def test_nan_is_logged_but_nothing_to_search_for(self, tracking: MlflowClient, experiment: str, run_id: str) -> None:
        tracking.log_metric(run_id, "acc", math.nan)
        for asked, at in (("metrics.acc = NaN", 15), ("metrics.acc > nan", 15), ("params.a = 'x' AND metrics.acc != NaN", 35)):
            assert f"at character {at}:" in refusal(lambda asked=asked: tracking.search_runs([experiment], asked))
        for asked in ("metrics.acc = 0", "metrics.acc < 1e308", "metrics.acc >= -1e308"):
            assert not tracking.search_runs([experiment], asked)
        assert len(tracking.search_runs([experiment], order_by=["metrics.acc DESC"])) == 1

    def test_a_filter_that_does_not_parse_says_where(self, tracking: MlflowClient, experiment: str) -> None:
        searches: tuple[tuple[Callable[[str], object], str, int], ...] = (
            (lambda asked: tracking.search_runs([experiment], asked), "metrics.acc > 0.9 AND", 22),
            (lambda asked: tracking.search_runs([experiment], asked), "params.a = 'open", 12),
            (lambda asked: tracking.search_experiments(filter_string=asked), "name LIKE 'a' OR name = 'b'", 15),
            (lambda asked: tracking.search_registered_models(asked), "name ~ 'a'", 6),
            (lambda asked: tracking.search_model_versions(asked), "colour = 'red'", 1),
            (lambda asked: tracking.search_logged_models([experiment], asked), "metrics.acc > ", 15),
            (lambda asked: tracking.search_traces(locations=[experiment], filter_string=asked), "status ==", 9),
        )
        for search, asked, at in searches:
            said = refusal(lambda search=search, asked=asked: search(asked))
            assert f"at character {at}:" in said, (asked, said)


class TestArtifacts:
    def test_paths_that_climb_out_are_written_and_read_nowhere(self, tracking: MlflowClient, run_id: str, tmp_path: Path) -> None:
        file = tmp_path / "file.txt"
        file.write_text("inside")
        tracking.log_artifact(run_id, str(file), "a")
        other = tracking.create_run("0").info.run_id
        tracking.log_text(other, "theirs", "x")
        for path in (*CLIMBING, f"../../{other}/artifacts/x"):
            for call in (
                lambda path=path: tracking.log_artifact(run_id, str(file), path),
                lambda path=path: tracking.log_text(run_id, "outside", path),
                lambda path=path: tracking.download_artifacts(run_id, path, str(tmp_path)),
                lambda path=path: mlflow.artifacts.load_text(f"runs:/{run_id}/{path}"),
                lambda path=path: mlflow.artifacts.load_text(f"mlflow-artifacts:/runs/{run_id}/artifacts/{path}"),
            ):
                with pytest.raises((MlflowException, HTTPError, OSError, ValueError)):
                    call()
        assert [entry.path for entry in tracking.list_artifacts(run_id)] == ["a"]
        assert [entry.path for entry in tracking.list_artifacts(run_id, "a")] == ["a/file.txt"]
        assert mlflow.artifacts.load_text(f"runs:/{other}/x") == "theirs"


class TestRuns:
    def test_one_that_ended_takes_more_from_this_client_and_a_deleted_one_nothing(
        self, tracking: MlflowClient, client: Client, run_id: str
    ) -> None:
        """MLflow's automatic logging logs to ended runs; natively that is refused."""
        tracking.set_terminated(run_id)
        tracking.log_metric(run_id, "late", 1.0)
        assert tracking.get_run(run_id).info.status == "FINISHED" and tracking.get_run(run_id).data.metrics == {"late": 1.0}
        with pytest.raises(RunEnded):
            client.runs.log_metrics(run_id, points=[PointLog(key="later", value=1.0)])
        tracking.delete_run(run_id)
        for call in (
            lambda: tracking.log_metric(run_id, "later", 1.0),
            lambda: tracking.log_param(run_id, "later", 1),
            lambda: tracking.set_tag(run_id, "later", 1),
            lambda: tracking.log_batch(run_id, tags=[RunTag("later", "1")]),
        ):
            assert "Current state is deleted" in refusal(call)
        tracking.restore_run(run_id)
        assert tracking.get_run(run_id).data.metrics == {"late": 1.0}

    def test_a_page_token_is_of_the_search_that_gave_it(self, tracking: MlflowClient, experiment: str) -> None:
        for number in range(3):
            run = tracking.create_run(experiment)
            tracking.create_experiment(f"e{number}")
            tracking.create_registered_model(f"m{number}")
            tracking.create_logged_model(experiment, name=f"l{number}", source_run_id=run.info.run_id)
        other = tracking.create_experiment("other")
        searches: dict[str, Callable[..., object]] = {
            "runs": lambda **asked: tracking.search_runs([experiment], max_results=1, **asked),
            "other runs": lambda **asked: tracking.search_runs([other], max_results=1, **asked),
            "filtered runs": lambda **asked: tracking.search_runs([experiment], "status = 'RUNNING'", max_results=1, **asked),
            "ordered runs": lambda **asked: tracking.search_runs([experiment], order_by=["end_time"], max_results=1, **asked),
            "experiments": lambda **asked: tracking.search_experiments(max_results=1, **asked),
            "filtered experiments": lambda **asked: tracking.search_experiments(filter_string="name LIKE 'e%'", max_results=1, **asked),
            "models": lambda **asked: tracking.search_registered_models(max_results=1, **asked),
            "logged models": lambda **asked: tracking.search_logged_models([experiment], max_results=1, **asked),
        }
        tokens = {name: search().token for name, search in searches.items() if name != "other runs"}  # type: ignore[attr-defined]  # a page
        assert all(tokens.values())
        for given, token in tokens.items():
            for name, search in searches.items():
                if name == given:
                    assert search(page_token=token)
                else:
                    assert "page token" in refusal(lambda search=search, token=token: search(page_token=token)).lower(), (given, name)
        for nonsense in ("nonsense", "0", "-1", "eyJ9", "ä", "a" * 10_000):
            refusal(lambda nonsense=nonsense: tracking.search_runs([experiment], page_token=nonsense))


class TestNames:
    def test_a_deleted_experiments_name_is_taken_until_it_is_restored(
        self, tracking: MlflowClient, client: Client, experiment: str, run_id: str
    ) -> None:
        tracking.delete_experiment(experiment)
        assert "deleted" in refusal(lambda: tracking.create_experiment("digits"), "RESOURCE_ALREADY_EXISTS")
        assert "deleted" in refusal(lambda: mlflow.set_experiment("digits"))
        assert "'active' state" in refusal(lambda: tracking.create_run(experiment), "INVALID_PARAMETER_VALUE")
        other = tracking.create_experiment("other")
        assert "digits" in refusal(lambda: tracking.rename_experiment(other, "digits"), "RESOURCE_ALREADY_EXISTS")
        tracking.restore_experiment(experiment)
        assert mlflow.set_experiment("digits").experiment_id == experiment
        assert [run.info.run_id for run in tracking.search_runs([experiment])] == [run_id]

    def test_one_that_was_taken_meanwhile_is_not_taken_back(self, tracking: MlflowClient, client: Client, experiment: str) -> None:
        """Natively the name of a deleted experiment is free."""
        tracking.delete_experiment(experiment)
        made = client.experiments.create("digits")
        assert "digits" in refusal(lambda: tracking.restore_experiment(experiment), "RESOURCE_ALREADY_EXISTS")
        found = tracking.get_experiment_by_name("digits")
        assert found is not None and found.experiment_id == made.id.hex


class TestAliases:
    def test_that_are_moved_at_once_each_name_one_version(
        self, tracking: MlflowClient, client: Client, settings: Settings, run_id: str, tmp_path: Path
    ) -> None:
        """Eight clients move two aliases between three versions; whoever looks meanwhile finds each of them, and the last move stands."""
        (tmp_path / "model.pkl").write_bytes(b"\x80\x05N.")
        tracking.log_artifact(run_id, str(tmp_path / "model.pkl"), "model")
        tracking.create_registered_model("digits")
        with inspecting(settings):
            for _ in range(3):
                tracking.create_model_version("digits", f"runs:/{run_id}/model")
        for alias in ("champion", "challenger"):
            tracking.set_registered_model_alias("digits", alias, "1")
        moves = [(alias, str(version)) for _ in range(6) for version in (1, 2, 3) for alias in ("champion", "challenger")]

        def move(alias: str, version: str) -> str:
            own = MlflowClient()
            own.set_registered_model_alias("digits", alias, version)
            return str(own.get_model_version_by_alias("digits", alias).version)

        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda asked: move(*asked), moves))
        assert set(seen) <= {"1", "2", "3"}
        aliases = tracking.get_registered_model("digits").aliases
        assert set(aliases) == {"champion", "challenger"} and client.models.get("digits").aliases == {k: int(v) for k, v in aliases.items()}
        held = [alias for version in ("1", "2", "3") for alias in tracking.get_model_version("digits", version).aliases]
        assert sorted(held) == ["challenger", "champion"], "no version keeps an alias that has moved on"
        tracking.set_registered_model_alias("digits", "champion", "3")
        assert tracking.get_model_version_by_alias("digits", "champion").version == "3"

    def test_to_a_version_that_is_not_there_stay_where_they_are(self, tracking: MlflowClient, run_id: str) -> None:
        tracking.create_registered_model("digits")
        refusal(lambda: tracking.set_registered_model_alias("digits", "champion", "7"), "RESOURCE_DOES_NOT_EXIST")
        assert tracking.get_registered_model("digits").aliases == {}
