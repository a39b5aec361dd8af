"""Experiments and runs by MLflow's own client: what a script logs is there, natively too, and what is wrong is said as MLflow says it."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from typing import Any

import httpx
import mlflow
import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Dataset, DatasetInput, ExperimentTag, InputTag, LifecycleStage, Metric, Param, RunTag, ViewType

from aidos.client import Client
from aidos.schemas.modelhub import PointLog

pytestmark = pytest.mark.postgres
Ask = Callable[..., httpx.Response]
BAD_VALUES: list[tuple[str, dict[str, Any], str]] = [
    ("/runs/log-metric", {"key": "k" * 251, "value": 1, "timestamp": 1}, "key"),
    ("/runs/log-metric", {"key": "../up", "value": 1, "timestamp": 1}, "key"),
    ("/runs/log-metric", {"key": "a\u0000", "value": 1, "timestamp": 1}, "key"),
    ("/runs/log-metric", {"key": "a", "value": "many", "timestamp": 1}, "value"),
    ("/runs/log-metric", {"key": "a", "value": True, "timestamp": 1}, "value"),
    ("/runs/log-metric", {"key": "a", "timestamp": 1}, "value"),
    ("/runs/log-metric", {"key": "a", "value": 1}, "timestamp"),
    ("/runs/log-metric", {"key": "a", "value": 1, "timestamp": -1}, "timestamp"),
    ("/runs/log-metric", {"key": "a", "value": 1, "timestamp": 1, "step": 2**63}, "step"),
    ("/runs/log-parameter", {"key": "a", "value": 1}, "value"),
    ("/runs/log-parameter", {"value": "1"}, "key"),
    ("/runs/log-batch", {"metrics": [{"key": "a", "value": 1}]}, "metrics[0].timestamp"),
    ("/runs/log-batch", {"metrics": "none"}, "metrics"),
    ("/runs/update", {"status": "SLEEPING"}, "status"),
]
FILTERS = {
    "": ["nan", "two", "one"],
    "metrics.acc > 0.15": ["two"],
    "metrics.acc <= 0.2": ["two", "one"],
    "metrics.acc != 0.1": ["nan", "two"],
    "metrics.acc = 0.1": ["one"],
    "metric.`train/loss` < -0.5": ["nan", "two"],
    'metrics."train/loss" >= -1e0': ["two", "one"],
    "params.\"lr rate\" = '0.1'": ["two"],
    "params.`lr rate` != '0.1'": ["nan", "one"],
    "param.opt LIKE 'Ad%'": ["nan", "two"],
    "parameters.opt ILIKE 'adam'": ["nan", "two"],
    "params.opt LIKE 'adam'": [],
    'tags.team = "it\'s"': ["nan", "two"],
    "tags.team = 'it''s'": ["nan", "two"],
    "tag.only IS NULL": ["nan", "one"],
    "tags.only IS NOT NULL": ["two"],
    "tags.mlflow.runName = 'one'": ["one"],
    "attributes.run_name LIKE '%n%'": ["nan", "one"],
    "attr.`Run name` = 'two'": ["two"],
    "status = 'FINISHED'": ["one"],
    "attribute.status != 'FINISHED'": ["nan", "two"],
    "start_time >= 1001": ["nan", "two"],
    "attributes.created < 1001": ["one"],
    "run.end_time > 0": ["one"],
    "dataset.name = 'mnist'": ["two"],
    "datasets.digest LIKE 'd%' and dataset.context IN ('eval', 'train')": ["two"],
    "dataset.name != 'mnist'": [],
    "params.opt = 'Adam' AND metrics.acc < 1": ["two"],
    "params.none = 'x'": [],
}
ORDERS = [
    (["metrics.acc ASC"], ["one", "two", "nan"]),
    (["metrics.acc DESC"], ["two", "one", "nan"]),
    (["params.opt", "start_time"], ["two", "nan", "one"]),
    (["tags.only DESC"], ["two", "nan", "one"]),
    (["attributes.run_name asc"], ["nan", "one", "two"]),
    (["attributes.start_time"], ["one", "two", "nan"]),
    (["metrics.`train/loss`"], ["nan", "two", "one"]),
    (["end_time"], ["one", "nan", "two"]),
]
UNREADABLE = [
    ("metrics.acc > NaN", 15, "numeric"),
    ("metrics.acc > 'x'", 15, "numeric"),
    ("params.opt = 1", 14, "quoted"),
    ("params.opt > '1'", 12, "comparator"),
    ("nothing = 'x'", 1, "attribute key"),
    ("things.x = 'x'", 1, "entity type"),
    ("metrics.acc > 1 OR metrics.acc < 0", 17, "AND"),
    ("metrics.acc >", 14, "numeric"),
    ("params.opt = 'open", 14, "closed"),
    ("params.opt = 'x'; DROP TABLE runs", 17, "AND"),
    ("dataset.size = 'x'", 1, "dataset key"),
    ("metrics.acc IS NULL", 13, "comparator"),
]


@pytest.fixture
def experiment(tracking: MlflowClient) -> str:
    return tracking.create_experiment("digits")


@pytest.fixture
def run_id(tracking: MlflowClient, experiment: str) -> str:
    return tracking.create_run(experiment).info.run_id


@pytest.fixture
def ask(url: str, admin_key: str) -> Ask:
    """A request that the client would never send."""

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {"Authorization": f"Bearer {admin_key}"})
        return httpx.request(method, f"{url}/api/2.0/mlflow{path}", headers=headers, timeout=30, **options)

    return send


def refusal(call: Callable[[], object]) -> MlflowException:
    with pytest.raises(MlflowException) as refused:
        call()
    return refused.value


class TestExperiments:
    def test_are_created_with_tags_and_found_by_id_and_name(self, tracking: MlflowClient) -> None:
        id = tracking.create_experiment("My experiment / 1", tags={"team": "vision", "note": "a b"})
        by_id, by_name = tracking.get_experiment(id), tracking.get_experiment_by_name("My experiment / 1")
        assert by_name is not None and by_id.experiment_id == by_name.experiment_id == id
        assert (by_id.name, by_id.tags, by_id.lifecycle_stage) == ("My experiment / 1", {"team": "vision", "note": "a b"}, "active")
        assert by_id.artifact_location.startswith("mlflow-artifacts:/") and by_id.creation_time <= by_id.last_update_time

    def test_a_name_is_taken_once(self, tracking: MlflowClient, experiment: str) -> None:
        assert refusal(lambda: tracking.create_experiment("digits")).error_code == "RESOURCE_ALREADY_EXISTS"

    def test_what_is_not_there_is_not_found(self, tracking: MlflowClient) -> None:
        for id in ("12345", "0" * 31 + "1", "no such thing"):
            assert refusal(lambda id=id: tracking.get_experiment(id)).error_code == "RESOURCE_DOES_NOT_EXIST"
        assert tracking.get_experiment_by_name("nowhere") is None

    def test_deleted_ones_come_back_with_their_runs(self, tracking: MlflowClient, experiment: str, run_id: str) -> None:
        gone = tracking.create_run(experiment).info.run_id
        tracking.delete_run(gone)
        tracking.delete_experiment(experiment)
        assert tracking.get_experiment(experiment).lifecycle_stage == "deleted"
        assert tracking.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED
        assert experiment not in {e.experiment_id for e in tracking.search_experiments()}
        assert [e.experiment_id for e in tracking.search_experiments(view_type=ViewType.DELETED_ONLY)] == [experiment]
        tracking.restore_experiment(experiment)
        assert tracking.get_experiment(experiment).lifecycle_stage == "active"
        assert tracking.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE
        assert tracking.get_run(gone).info.lifecycle_stage == LifecycleStage.DELETED

    def test_a_deleted_ones_name_stays_taken(self, tracking: MlflowClient, experiment: str) -> None:
        tracking.delete_experiment(experiment)
        refused = refusal(lambda: tracking.create_experiment("digits"))
        assert refused.error_code == "RESOURCE_ALREADY_EXISTS" and "deleted state" in refused.message

    def test_are_renamed_and_tagged(self, tracking: MlflowClient, experiment: str) -> None:
        tracking.create_experiment("other")
        tracking.rename_experiment(experiment, "numbers")
        tracking.set_experiment_tag(experiment, "team", "a")
        tracking.set_experiment_tag(experiment, "team", "b")
        found = tracking.get_experiment(experiment)
        assert (found.name, found.tags) == ("numbers", {"team": "b"})
        tracking.delete_experiment_tag(experiment, "team")
        assert tracking.get_experiment(experiment).tags == {}
        assert refusal(lambda: tracking.rename_experiment(experiment, "other")).error_code == "RESOURCE_ALREADY_EXISTS"
        assert refusal(lambda: tracking.delete_experiment_tag(experiment, "team")).error_code == "RESOURCE_DOES_NOT_EXIST"

    def test_are_searched_and_paged(self, tracking: MlflowClient) -> None:
        for name in ("a-1", "a-2", "b-1"):
            tracking.create_experiment(name, tags={"team": name[0]})
        names = lambda **asked: [e.name for e in tracking.search_experiments(**asked)]  # noqa: E731 - a question of one line
        assert names() == ["b-1", "a-2", "a-1"]
        assert names(filter_string="name LIKE 'a-%'", order_by=["name ASC"]) == ["a-1", "a-2"]
        assert names(filter_string="tags.team = 'b'") == ["b-1"]
        assert names(filter_string="name ILIKE 'A-_' AND tags.team != 'b'", order_by=["name DESC"]) == ["a-2", "a-1"]
        first = tracking.search_experiments(max_results=2, order_by=["name"])
        second = tracking.search_experiments(max_results=2, order_by=["name"], page_token=first.token)
        assert ([e.name for e in first], [e.name for e in second], second.token) == (["a-1", "a-2"], ["b-1"], None)

    def test_the_default_is_there_when_it_is_asked_for(self, tracking: MlflowClient, client: Client) -> None:
        assert tracking.get_experiment("0").name == "Default"
        with mlflow.start_run() as run:
            mlflow.log_param("a", 1)
        assert run.info.experiment_id == "0"
        assert [found.info.run_id for found in tracking.search_runs(["0"])] == [run.info.run_id]
        assert [each.experiment for each in client.runs.list()] == ["Default"]


class TestRuns:
    def test_keep_what_they_were_created_with(self, tracking: MlflowClient, experiment: str) -> None:
        tags = {"mlflow.user": "ada", "team": "vision", "mlflow.parentRunId": "7"}
        run = tracking.create_run(experiment, start_time=1_700_000_000_123, tags=tags, run_name="first")
        found = tracking.get_run(run.info.run_id)
        assert (found.info.run_name, found.info.user_id, found.info.start_time) == ("first", "ada", 1_700_000_000_123)
        assert (found.info.status, found.info.end_time, found.info.experiment_id) == ("RUNNING", None, experiment)
        assert found.data.tags == {**tags, "mlflow.runName": "first"}

    def test_are_the_native_ones(self, tracking: MlflowClient, client: Client, run_id: str) -> None:
        tracking.log_param(run_id, "lr", "0.1")
        tracking.log_metric(run_id, "loss", 0.5, step=3)
        native = client.runs.get(run_id)
        assert (native.params, native.metrics["loss"].value, native.metrics["loss"].step) == ({"lr": "0.1"}, 0.5, 3)
        made = client.runs.create(experiment="native", params={"depth": "4"}, tags={"by": "aidos"})
        client.runs.log_metrics(str(made.id), points=[PointLog(key="acc", value=0.9, step=1)])
        found = tracking.get_run(made.id.hex)
        assert (found.data.params, found.data.metrics, found.data.tags["by"]) == ({"depth": "4"}, {"acc": 0.9}, "aidos")
        assert tracking.get_run(str(made.id)).info.run_id == made.id.hex

    def test_end_as_the_client_says_and_are_resumed(self, tracking: MlflowClient, run_id: str) -> None:
        tracking.set_terminated(run_id, end_time=1_800_000_000_000)
        ended = tracking.get_run(run_id).info
        assert (ended.status, ended.end_time) == ("FINISHED", 1_800_000_000_000)
        tracking.set_terminated(run_id, status="KILLED")
        assert tracking.get_run(run_id).info.status == "KILLED"
        with mlflow.start_run(run_id=run_id):
            assert tracking.get_run(run_id).info.status == "RUNNING"
        assert tracking.get_run(run_id).info.status == "FINISHED"

    def test_fail_when_their_block_raises(self, tracking: MlflowClient) -> None:
        with pytest.raises(ZeroDivisionError), mlflow.start_run() as run:
            mlflow.log_metric("a", 1 / 0)
        assert tracking.get_run(run.info.run_id).info.status == "FAILED"

    def test_take_what_is_logged_after_their_end(self, tracking: MlflowClient, run_id: str) -> None:
        """MLflow's own do: its automatic logging adds test scores to the run that a fit has ended."""
        tracking.set_terminated(run_id)
        tracking.log_metric(run_id, "test_accuracy", 0.9)
        tracking.log_param(run_id, "late", "1")
        assert tracking.get_run(run_id).data.metrics == {"test_accuracy": 0.9}

    def test_deleted_ones_take_nothing_and_come_back(self, tracking: MlflowClient, run_id: str) -> None:
        tracking.delete_run(run_id)
        assert tracking.get_run(run_id).info.lifecycle_stage == "deleted"
        assert refusal(lambda: tracking.log_metric(run_id, "a", 1)).error_code == "INVALID_PARAMETER_VALUE"
        tracking.restore_run(run_id)
        tracking.log_metric(run_id, "a", 1)

    def test_are_renamed_by_their_tag(self, tracking: MlflowClient, client: Client, run_id: str) -> None:
        tracking.set_tag(run_id, "mlflow.runName", "renamed")
        assert tracking.get_run(run_id).info.run_name == client.runs.get(run_id).name == "renamed"
        tracking.update_run(run_id, name="again")
        assert tracking.get_run(run_id).data.tags["mlflow.runName"] == "again"

    def test_nest(self, tracking: MlflowClient) -> None:
        with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
            pass
        found = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'", output_format="list")
        assert [run.info.run_id for run in found] == [child.info.run_id]


class TestLogging:
    def test_a_batch_is_there_whole(self, tracking: MlflowClient, run_id: str) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric("loss", float(step), now + step, step) for step in range(998)]
        tracking.log_batch(run_id, metrics=metrics, params=[Param("p", "1")], tags=[RunTag("t", "1")])
        found = tracking.get_run(run_id).data
        assert (found.metrics, found.params, found.tags["t"]) == ({"loss": 997.0}, {"p": "1"}, "1")
        history = tracking.get_metric_history(run_id, "loss")
        assert [(point.value, point.step, point.timestamp) for point in history] == [(m.value, m.step, m.timestamp) for m in metrics]

    def test_what_is_not_finite_survives(self, tracking: MlflowClient, run_id: str) -> None:
        values = [math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0]
        for step, value in enumerate(values):
            tracking.log_metric(run_id, "x", value, timestamp=1000 + step, step=step)
        assert [repr(point.value) for point in tracking.get_metric_history(run_id, "x")] == [repr(value) for value in values]
        tracking.log_metric(run_id, "nan", math.nan)
        assert math.isnan(tracking.get_run(run_id).data.metrics["nan"])

    def test_the_latest_is_that_of_the_highest_step(self, tracking: MlflowClient, run_id: str) -> None:
        for value, step in ((1.0, 5), (2.0, -3), (3.0, 4)):
            tracking.log_metric(run_id, "m", value, step=step)
        assert tracking.get_run(run_id).data.metrics == {"m": 1.0}

    def test_a_point_sent_twice_is_one(self, tracking: MlflowClient, run_id: str) -> None:
        for _ in range(2):
            tracking.log_batch(run_id, metrics=[Metric("m", 1.0, 1000, 1)])
        assert len(tracking.get_metric_history(run_id, "m")) == 1

    def test_history_is_paged(self, ask: Ask, tracking: MlflowClient, run_id: str) -> None:
        tracking.log_batch(run_id, metrics=[Metric("m", float(step), 1000 + step, step) for step in range(5)])
        asked, values = {"run_id": run_id, "metric_key": "m", "max_results": 2}, []
        token: str | None = ""
        while token is not None:
            page = ask("GET", "/metrics/get-history", params={**asked, "page_token": token}).json()
            values += [point["value"] for point in page["metrics"]]
            token = page.get("next_page_token")
        assert values == [0, 1, 2, 3, 4]

    def test_histories_of_many_runs_are_sampled_with_their_ends(self, ask: Ask, tracking: MlflowClient, experiment: str) -> None:
        runs = [tracking.create_run(experiment).info.run_id for _ in range(2)]
        for run in runs:
            tracking.log_batch(run, metrics=[Metric("m", float(step), 1000 + step, step) for step in range(500)])
        asked = {"run_ids": runs, "metric_key": "m", "max_results": 20, "start_step": 100, "end_step": 499}
        found = ask("GET", "/metrics/get-history-bulk-interval", params=asked).json()["metrics"]
        for run in runs:
            steps = [point["step"] for point in found if point["run_id"] == run]
            assert (steps[0], steps[-1]) == (100, 499) and 15 <= len(steps) <= 22
        whole = ask("GET", "/metrics/get-history-bulk", params={"run_id": runs, "metric_key": "m"}).json()["metrics"]
        assert len(whole) == 1000

    def test_a_param_is_set_once(self, tracking: MlflowClient, run_id: str) -> None:
        tracking.log_param(run_id, "lr", 0.1)
        tracking.log_param(run_id, "lr", 0.1)
        refused = refusal(lambda: tracking.log_batch(run_id, params=[Param("lr", "0.2")], tags=[RunTag("t", "1")]))
        assert refused.error_code == "INVALID_PARAMETER_VALUE" and "lr" in refused.message
        assert "t" not in tracking.get_run(run_id).data.tags, "a refused batch leaves nothing"

    def test_tags_change_and_go(self, tracking: MlflowClient, run_id: str) -> None:
        tracking.set_tag(run_id, "t", "1")
        tracking.set_tag(run_id, "t", "ä" * 100)
        assert tracking.get_run(run_id).data.tags["t"] == "ä" * 100
        tracking.delete_tag(run_id, "t")
        assert refusal(lambda: tracking.delete_tag(run_id, "t")).error_code == "RESOURCE_DOES_NOT_EXIST"

    def test_datasets_are_inputs(self, tracking: MlflowClient, ask: Ask, experiment: str, run_id: str) -> None:
        dataset = Dataset("train", "abc123", "local", '{"uri": "x.csv"}', schema="{}", profile="{}")
        tracking.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        tracking.log_inputs(run_id, [DatasetInput(dataset, [])])
        (found,) = tracking.get_run(run_id).inputs.dataset_inputs
        assert (found.dataset.to_dictionary(), found.tags[0].value) == (dataset.to_dictionary(), "training")
        names = ask("POST", "/experiments/search-datasets", json={"experiment_ids": [experiment]}).json()["dataset_summaries"]
        assert names == [{"experiment_id": experiment, "name": "train", "digest": "abc123", "context": "training"}]


class TestLimits:
    def test_of_a_batch(self, ask: Ask, run_id: str) -> None:
        """By hand: the client splits what is too large itself."""
        batches: list[tuple[dict[str, list[Any]], str]] = [
            ({"metrics": [Metric(f"m{n}", 1.0, 1, 0) for n in range(1001)]}, "at most 1000 metrics"),
            ({"params": [Param(f"p{n}", "1") for n in range(101)]}, "at most 100 params"),
            ({"tags": [RunTag(f"t{n}", "1") for n in range(101)]}, "at most 100 tags"),
            ({"metrics": [Metric(f"m{n}", 1.0, 1, 0) for n in range(1000)], "params": [Param("p", "1")]}, "at most 1000"),
            ({"params": [Param("p", "1"), Param("p", "2")]}, "Duplicate parameter keys"),
        ]
        for batch, says in batches:
            body = {what: [dict(each) for each in entities] for what, entities in batch.items()}
            answer = ask("POST", "/runs/log-batch", json={"run_id": run_id, **body})
            assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
            assert says in answer.json()["message"]

    def test_of_a_value_name_the_parameter(self, ask: Ask, run_id: str) -> None:
        for path, body, names in BAD_VALUES:
            answer = ask("POST", path, json={"run_id": run_id, **body})
            assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
            assert f"'{names}'" in answer.json()["message"]

    def test_long_values_are_cut_as_mlflow_does(self, ask: Ask, tracking: MlflowClient, run_id: str) -> None:
        assert ask("POST", "/runs/log-parameter", json={"run_id": run_id, "key": "p", "value": "x" * 7000}).status_code == 200
        assert len(tracking.get_run(run_id).data.params["p"]) == 6000

    def test_a_missing_run_id_is_said(self, ask: Ask) -> None:
        answer = ask("POST", "/runs/log-metric", json={"key": "a", "value": 1, "timestamp": 1})
        assert "Missing value for required parameter 'run_id'" in answer.json()["message"]

    def test_what_is_no_json_is_refused(self, ask: Ask) -> None:
        assert ask("POST", "/runs/search", content=b"{broken", headers=None).status_code == 401
        answer = ask("GET", "/no-such-thing")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


class TestCredentials:
    def test_may_be_the_password_of_basic_ones(self, ask: Ask, admin_key: str) -> None:
        basic = base64.b64encode(f"anything:{admin_key}".encode()).decode()
        assert ask("GET", "/experiments/get", params={"experiment_id": "0"}, headers={"Authorization": f"Basic {basic}"}).status_code == 200

    def test_that_are_wrong_are_refused(self, ask: Ask) -> None:
        for credential in ("Basic !!!", "Basic YTpi", "Bearer nonsense", "", f"Basic {'QQ==' * 3}"):
            answer = ask("GET", "/experiments/get", params={"experiment_id": "0"}, headers={"Authorization": credential})
            assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")

    def test_name_the_project_by_header(self, ask: Ask, admin_key: str) -> None:
        headers = {"Authorization": f"Bearer {admin_key}", "X-Aidos-Project": "nowhere"}
        answer = ask("GET", "/experiments/get", params={"experiment_id": "0"}, headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")

    def test_by_environment(self, environment: None, admin_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", admin_key)
        with mlflow.start_run() as run:
            mlflow.log_metrics({"a": 1, "b": 2})
        assert mlflow.get_run(run.info.run_id).data.metrics == {"a": 1, "b": 2}


class TestSearch:
    @pytest.fixture
    def runs(self, tracking: MlflowClient, experiment: str) -> dict[str, str]:
        """Three runs by name."""
        made = {}
        for number, (name, value) in enumerate((("one", 0.1), ("two", 0.2), ("nan", math.nan))):
            run = tracking.create_run(experiment, run_name=name, start_time=1000 + number)
            made[name] = run.info.run_id
            params = [Param("lr rate", f"0.{number}"), Param("opt", "Adam" if number else "sgd")]
            tags = [RunTag("team", "it's" if number else "ops"), *([RunTag("only", "1")] if number == 1 else [])]
            tracking.log_batch(run.info.run_id, [Metric("acc", value, 1, 0), Metric("train/loss", -number, 1, 0)], params, tags)
        tracking.set_terminated(made["one"])
        data = Dataset("mnist", "d1", "local", "{}")
        tracking.log_inputs(made["two"], [DatasetInput(data, [InputTag("mlflow.data.context", "eval")])])
        return made

    def test_filters(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        found = {asked: [run.info.run_name for run in tracking.search_runs([experiment], asked)] for asked in FILTERS}
        assert found == FILTERS

    def test_by_run_id(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        found = tracking.search_runs([experiment], f"run_id IN ('{runs['one']}', '{runs['nan']}', 'x')")
        assert [run.info.run_name for run in found] == ["nan", "one"]
        found = tracking.search_runs([experiment], f"attributes.run_id NOT IN ('{runs['one']}')")
        assert [run.info.run_name for run in found] == ["nan", "two"]

    def test_orders(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        for order, names in ORDERS:
            assert [run.info.run_name for run in tracking.search_runs([experiment], order_by=order)] == names, order

    def test_pages(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        first = tracking.search_runs([experiment], max_results=2, order_by=["metrics.acc"])
        second = tracking.search_runs([experiment], max_results=2, order_by=["metrics.acc"], page_token=first.token)
        assert [run.info.run_name for run in (*first, *second)] == ["one", "two", "nan"] and not second.token
        frame = mlflow.search_runs([experiment], order_by=["metrics.acc"])
        assert list(frame["tags.mlflow.runName"]) == ["one", "two", "nan"]

    def test_a_page_token_is_of_one_search(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        token = tracking.search_runs([experiment], max_results=1).token
        for asked in ({"filter_string": "status = 'RUNNING'"}, {"order_by": ["end_time"]}, {"run_view_type": ViewType.ALL}):
            refused = refusal(lambda asked=asked: tracking.search_runs([experiment], page_token=token, max_results=1, **asked))
            assert refused.error_code == "INVALID_PARAMETER_VALUE" and "page token" in refused.message.lower()
        assert refusal(lambda: tracking.search_runs([experiment], page_token="nonsense")).error_code == "INVALID_PARAMETER_VALUE"

    def test_says_where_a_filter_does_not_parse(self, tracking: MlflowClient, experiment: str) -> None:
        for asked, at, says in UNREADABLE:
            refused = refusal(lambda asked=asked: tracking.search_runs([experiment], asked))
            assert refused.error_code == "INVALID_PARAMETER_VALUE"
            assert f"at character {at}:" in refused.message and says in refused.message, refused.message

    def test_refuses_an_order_that_is_none(self, tracking: MlflowClient, experiment: str) -> None:
        for order in ("metrics.acc SIDEWAYS", "nothing", "metrics.acc DESC; DROP", ""):
            assert refusal(lambda order=order: tracking.search_runs([experiment], order_by=[order])).error_code == "INVALID_PARAMETER_VALUE"

    def test_refuses_too_large_a_page(self, ask: Ask, experiment: str) -> None:
        for most in (0, -1, 50_001):
            assert ask("POST", "/runs/search", json={"experiment_ids": [experiment], "max_results": most}).status_code == 400

    def test_sees_the_deleted_when_asked(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        tracking.delete_run(runs["one"])
        names = lambda view: {run.info.run_name for run in tracking.search_runs([experiment], run_view_type=view)}  # noqa: E731 - one line
        assert (names(ViewType.ACTIVE_ONLY), names(ViewType.DELETED_ONLY)) == ({"two", "nan"}, {"one"})
        assert names(ViewType.ALL) == {"one", "two", "nan"}

    def test_a_value_is_never_a_statement(self, tracking: MlflowClient, experiment: str, runs: dict[str, str]) -> None:
        for value in ("'' OR 1=1 --", "%(project_id)s", "{where}", "\\", "%s"):
            assert tracking.search_runs([experiment], f"params.opt = '{value}'") == []
            assert tracking.search_runs([experiment], f"tags.`{value.replace('`', '')}` = 'x'") == []


def test_tags_of_an_experiment_travel(tracking: MlflowClient, experiment: str) -> None:
    tracking.set_experiment_tag(experiment, "k", "v")
    (found,) = tracking.search_experiments(filter_string="tags.k = 'v'")
    assert [ExperimentTag(key, value) for key, value in found.tags.items()] == [ExperimentTag("k", "v")]
