"""Prompts, evaluation datasets and scorers by MLflow's own client: as its documentation uses them."""

from __future__ import annotations

import httpx
import mlflow
import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.entities import DatasetRecordSource

from aidos.client import Client
from aidos.errors import Conflict

pytestmark = pytest.mark.postgres


class TestPrompts:
    def test_are_registered_formatted_and_found_by_version_and_alias(self, tracking: MlflowClient, client: Client) -> None:
        first = mlflow.genai.register_prompt("greeting", "Hello {{name}}!", commit_message="first", tags={"task": "greet"})
        second = mlflow.genai.register_prompt("greeting", [{"role": "user", "content": "Hi {{name}}"}], commit_message="shorter")
        assert (first.version, second.version) == (1, 2)
        mlflow.genai.set_prompt_alias("greeting", alias="production", version=1)
        loaded = mlflow.genai.load_prompt("prompts:/greeting@production")
        assert (loaded.format(name="Ada"), loaded.tags["task"], loaded.commit_message) == ("Hello Ada!", "greet", "first")
        assert mlflow.genai.load_prompt("prompts:/greeting/2").template == [{"role": "user", "content": "Hi {{name}}"}]
        assert mlflow.genai.load_prompt("greeting", allow_missing=True, version=7) is None
        assert [found.name for found in mlflow.genai.search_prompts("name LIKE 'greet%'")] == ["greeting"]
        assert [model.name for model in tracking.search_registered_models()] == [], "a prompt is no model"
        assert mlflow.genai.load_prompt("greeting").version == mlflow.genai.load_prompt("prompts:/greeting@latest").version == 2
        mlflow.genai.delete_prompt_alias("greeting", "production")
        tracking.delete_prompt_version("greeting", "1")
        assert mlflow.genai.load_prompt("prompts:/greeting/1", allow_missing=True) is None

    def test_are_linked_to_the_runs_that_load_them(self, tracking: MlflowClient) -> None:
        mlflow.genai.register_prompt("greeting", "Hello {{name}}!")
        with mlflow.start_run() as run:
            mlflow.genai.load_prompt("prompts:/greeting/1")
        assert "greeting" in tracking.get_run(run.info.run_id).data.tags["mlflow.linkedPrompts"]

    def test_are_never_served(self, tracking: MlflowClient, client: Client) -> None:
        mlflow.genai.register_prompt("greeting", "Hello {{name}}!")
        version = client.models.version("greeting", "1")
        assert (version.state, version.reason) == ("QUARANTINED", "a prompt is read, not served")
        with pytest.raises(Conflict, match="greeting"):
            client.endpoints.create("greeter", model="greeting@1")


@pytest.fixture
def dataset(tracking: MlflowClient) -> mlflow.genai.datasets.EvaluationDataset:
    experiment = mlflow.set_experiment("llm")
    return mlflow.genai.datasets.create_dataset("questions", experiment_id=experiment.experiment_id, tags={"stage": "draft"})


RECORDS = [
    {"inputs": {"question": "2+2"}, "expectations": {"answer": "4"}, "tags": {"level": "easy"}},
    {"inputs": {"question": "why?"}, "outputs": "because", "source": {"source_type": "HUMAN", "source_data": {"user_name": "ada"}}},
]


class TestEvaluationDatasets:
    def test_keep_one_record_for_each_input(self, tracking: MlflowClient, dataset: mlflow.genai.datasets.EvaluationDataset) -> None:
        dataset.merge_records(RECORDS)
        dataset.merge_records([{"inputs": {"question": "2+2"}, "expectations": {"unit": "none"}}, {"inputs": {"question": "3"}}])
        found = mlflow.genai.datasets.get_dataset(dataset_id=dataset.dataset_id)
        table = found.to_df().set_index(found.to_df()["inputs"].map(lambda inputs: inputs["question"]))
        assert list(table.index) == ["2+2", "why?", "3"]
        assert table.loc["2+2", "expectations"] == {"answer": "4", "unit": "none"} and table.loc["2+2", "tags"]["level"] == "easy"
        assert table.loc["why?", "outputs"] == "because"
        assert DatasetRecordSource.from_dict(RECORDS[1]["source"]).source_type == table.loc["why?", "source_type"]
        assert '"num_records": 3' in found.profile and '"question": "string"' in found.schema
        record = next(each for each in tracking.get_dataset(dataset.dataset_id).records if each.inputs["question"] == "3")
        assert tracking._tracking_client.store.delete_dataset_records(dataset.dataset_id, [record.dataset_record_id]) == 1
        assert len(tracking.get_dataset(dataset.dataset_id).records) == 2

    def test_of_many_records_come_in_pages(self, tracking: MlflowClient, dataset: mlflow.genai.datasets.EvaluationDataset) -> None:
        dataset.merge_records([{"inputs": {"number": at}} for at in range(2500)])
        records = tracking.get_dataset(mlflow.genai.datasets.get_dataset(name="questions").dataset_id).records
        assert [record.inputs["number"] for record in records] == list(range(2500))

    def test_are_searched_tagged_linked_and_deleted(self, tracking: MlflowClient, dataset: mlflow.genai.datasets.EvaluationDataset) -> None:
        other = tracking.create_experiment("other")
        mlflow.genai.datasets.create_dataset("more", experiment_id=other)
        assert [found.name for found in mlflow.genai.datasets.search_datasets(experiment_ids=other)] == ["more"]
        assert [found.name for found in tracking.search_datasets(filter_string="tags.stage = 'draft'")] == ["questions"]
        assert [found.name for found in tracking.search_datasets(order_by=["name ASC"])] == ["more", "questions"]
        first = tracking.search_datasets(max_results=1)
        assert len(first) == 1 and [found.name for found in tracking.search_datasets(max_results=1, page_token=first.token)] == [
            "questions"
        ]
        mlflow.genai.datasets.set_dataset_tags(dataset_id=dataset.dataset_id, tags={"stage": "done", "team": "llm"})
        mlflow.genai.datasets.delete_dataset_tag(dataset_id=dataset.dataset_id, key="team")
        mlflow.genai.datasets.add_dataset_to_experiments(dataset_id=dataset.dataset_id, experiment_ids=[other])
        found = mlflow.genai.datasets.get_dataset(dataset_id=dataset.dataset_id)
        assert found.tags["stage"] == "done" and "team" not in found.tags and other in found.experiment_ids
        mlflow.genai.datasets.remove_dataset_from_experiments(dataset_id=dataset.dataset_id, experiment_ids=[other])
        assert other not in mlflow.genai.datasets.get_dataset(dataset_id=dataset.dataset_id).experiment_ids
        mlflow.genai.datasets.delete_dataset(dataset_id=dataset.dataset_id)
        with pytest.raises(MlflowException) as refused:
            mlflow.genai.datasets.get_dataset(dataset_id=dataset.dataset_id)
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"

    @pytest.mark.parametrize("records", ['{"a": 1}', "[1]", '[{"inputs": [1]}]', "[{", '[{"inputs": {"x": NaN}}]'])
    def test_refuse_what_is_no_record(
        self, client: Client, dataset: mlflow.genai.datasets.EvaluationDataset, records: str, url: str, admin_key: str
    ) -> None:
        answer = httpx.post(
            f"{url}/api/3.0/mlflow/datasets/{dataset.dataset_id}/records",
            json={"records": records},
            headers={"Authorization": f"Bearer {admin_key}"},
            trust_env=False,
        )
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


class TestScorers:
    def test_have_versions_in_their_experiment(self, tracking: MlflowClient) -> None:
        experiment = mlflow.set_experiment("llm").experiment_id
        store = tracking._tracking_client.store
        for text in ('{"name": "short", "n": 1}', '{"name": "short", "n": 2}'):
            store.register_scorer(experiment, "short", text)
        store.register_scorer(experiment, "long", '{"name": "long"}')
        assert [(each.scorer_name, each.scorer_version) for each in store.list_scorers(experiment)] == [("long", 1), ("short", 2)]
        assert [each.scorer_version for each in store.list_scorer_versions(experiment, "short")] == [1, 2]
        assert store.get_scorer(experiment, "short", 1)._serialized_scorer == '{"name": "short", "n": 1}'
        assert store.get_online_scoring_configs([store.get_scorer(experiment, "short").scorer_id]) == [], "nothing judges by itself"
        store.delete_scorer(experiment, "short", 2)
        assert store.get_scorer(experiment, "short").scorer_version == 1
        store.delete_scorer(experiment, "short")
        with pytest.raises(MlflowException) as refused:
            store.get_scorer(experiment, "short")
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"
