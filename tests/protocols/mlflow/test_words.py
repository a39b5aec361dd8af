"""What client scripts compare word by word: refusals say what MLflow's own server says of the same request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Dataset, DatasetInput, InputTag

pytestmark = pytest.mark.postgres


@pytest.fixture
def run_id(tracking: MlflowClient) -> str:
    return str(tracking.create_run(tracking.create_experiment("digits")).info.run_id)


def ask(verb: str, path: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}"}
    return requests.request(verb, os.environ["MLFLOW_TRACKING_URI"] + path, headers=headers, timeout=20, **options)


class TestMessages:
    @pytest.mark.parametrize(
        ("path", "body", "words"),
        [
            ("experiments/create", {"name": 123}, "Invalid value 123 for parameter 'name' supplied"),
            ("experiments/create", {}, "Missing value for required parameter 'name'"),
            ("experiments/create", {"name": "e", "artifact_location": 9.0}, "Invalid value 9.0 for parameter 'artifact_location' supplied"),
            ("experiments/create", {"name": "e", "tags": "5"}, "Invalid value \"5\" for parameter 'tags' supplied"),
            ("runs/log-metric", {"run_id": 31, "key": "m", "value": 1, "timestamp": 1}, "Invalid value 31 for parameter 'run_id' supplied"),
            ("runs/log-metric", {"run_id": None, "key": "m", "value": 1, "timestamp": 1}, "Missing value for required parameter 'run_id'"),
            ("runs/set-tag", {"run_id": "RUN", "value": "v"}, "Missing value for required parameter 'key'"),
            ("runs/log-batch", {"run_id": "RUN", "metrics": "foo"}, "Invalid value \"foo\" for parameter 'metrics' supplied"),
            (
                "runs/log-batch",
                {"run_id": "RUN", "metrics": [{"key": "mae", "value": 2.5}]},
                "Missing value for required parameter 'metrics[0].timestamp'",
            ),
            ("runs/search", {"max_results": 123456789}, "Invalid value 123456789 for parameter 'max_results' supplied"),
            ("experiments/search-datasets", {"experiment_ids": []}, "Missing value for required parameter 'experiment_ids'"),
        ],
    )
    def test_say_which_parameter_and_its_value(self, run_id: str, path: str, body: dict[str, Any], words: str) -> None:
        sent = {name: run_id if value == "RUN" else value for name, value in body.items()}
        refused = ask("POST", f"/api/2.0/mlflow/{path}", json=sent)
        assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert words in refused.json()["message"]

    def test_name_what_is_not_there(self, tracking: MlflowClient, run_id: str) -> None:
        for call, words in (
            (lambda: tracking.delete_tag("fake_run_id", "t"), "Run with id=fake_run_id not found"),
            (lambda: tracking.delete_tag(run_id, "fakeTag"), "No tag with name: fakeTag"),
            (lambda: tracking.get_experiment("99"), "No Experiment with id=99 exists"),
            (lambda: tracking.get_registered_model("none"), "Registered Model with name=none not found"),
            (lambda: tracking.create_experiment("digits"), "Experiment(name=digits) already exists"),
        ):
            with pytest.raises(MlflowException) as refused:
                call()
            assert words in str(refused.value.message)

    def test_a_run_is_asked_for_by_either_name_of_its_id(self, run_id: str) -> None:
        for name in ("run_id", "run_uuid"):
            assert ask("GET", "/api/2.0/mlflow/runs/get", params={name: run_id}).json()["run"]["info"]["run_id"] == run_id
        assert "Missing value for required parameter 'run_id'" in ask("GET", "/api/2.0/mlflow/runs/get").json()["message"]

    def test_a_run_has_one_name(self, tracking: MlflowClient) -> None:
        with pytest.raises(MlflowException, match="with different values"):
            tracking.create_run("0", run_name="a", tags={"mlflow.runName": "b"})


class TestOrder:
    def test_runs_that_began_together_come_by_id(self, tracking: MlflowClient) -> None:
        experiment = tracking.create_experiment("digits")
        runs = sorted(tracking.create_run(experiment, start_time=1).info.run_id for _ in range(10))
        found, token = [], None
        while len(found) < 10:
            page = tracking.search_runs([experiment], max_results=4, page_token=token)
            token = page.token
            found += [run.info.run_id for run in page]
        assert found == runs

    def test_the_first_points_of_a_history_of_many_runs(self, tracking: MlflowClient, run_id: str) -> None:
        for value, at, step in ((10.0, 1, 2), (11.0, 1, 3), (12.0, 1, 3), (12.0, 2, 3)):
            tracking.log_metric(run_id, "acc", value, timestamp=at, step=step)
        found = ask(
            "GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", params={"run_id": [run_id], "metric_key": "acc", "max_results": 2}
        )
        assert [(point["value"], point["step"], point["run_id"]) for point in found.json()["metrics"]] == [
            (10.0, 2, run_id),
            (11.0, 3, run_id),
        ]

    def test_a_dataset_that_a_run_has_stays_as_it_was_said_first(self, tracking: MlflowClient, run_id: str) -> None:
        data = Dataset(name="digits", digest="d", source_type="local", source="{}")
        for context in ("training", "test"):
            tracking.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])
        (found,) = tracking.get_run(run_id).inputs.dataset_inputs
        assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]


class TestFilesByAddress:
    def test_are_uploaded_and_read(self, tracking: MlflowClient, run_id: str) -> None:
        named = {"run_uuid": run_id, "path": "t.txt"}
        assert ask("POST", "/ajax-api/2.0/mlflow/upload-artifact", params=named, data="hello").ok
        assert ask("GET", "/get-artifact", params=named).text == "hello"
        refused = ask("GET", "/get-artifact", params={**named, "path": "../t.txt"})
        assert (refused.status_code, refused.json()["message"]) == (400, "Invalid path")

    def test_come_all_by_a_dot(self, tracking: MlflowClient, run_id: str, tmp_path: Path) -> None:
        tracking.log_text(run_id, "a", "t.txt")
        tracking.log_text(run_id, "b", "d/u.txt")
        found = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=".", dst_path=str(tmp_path / "all"))
        assert sorted(str(file.relative_to(found)) for file in Path(found).rglob("*.txt")) == ["d/u.txt", "t.txt"]


class TestVersionsFromElsewhere:
    def test_are_registered_for_clients_and_served_by_nobody(self, tracking: MlflowClient) -> None:
        tracking.create_registered_model("digits")
        made = tracking.create_model_version("digits", "s3://theirs/model")
        assert (made.status, made.source) == ("READY", "s3://theirs/model")
        assert tracking.get_model_version_download_uri("digits", "1") == "s3://theirs/model"
        with pytest.raises(MlflowException, match="Invalid model version source"):
            tracking.create_model_version("digits", "s3://theirs/../model")
