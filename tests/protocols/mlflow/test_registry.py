"""The registry and logged models by MLflow's own client: automatic logging, registration, aliases, loading, and what is never served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as lightning
import torch
import xgboost
from mlflow import MlflowClient, MlflowException
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from actors.modelhub.errors import VersionNotReady
from aidos.client import Client
from cluster.settings import Settings
from serve_apps.deployengine.errors import ModelNotServable
from tests.modelhub.inspecting import inspecting
from tests.support.onnx_models import linear

pytestmark = pytest.mark.postgres
X, Y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
FILES = {"MLmodel": b"flavors: {}\n", "model.pkl": b"\x80\x05N.", "requirements.txt": b"scikit-learn\n"}


@pytest.fixture
def registry(environment: None, settings: Settings) -> Iterator[MlflowClient]:
    """A client of a platform that inspects what is registered."""
    with inspecting(settings):
        yield MlflowClient()


@pytest.fixture
def source(registry: MlflowClient, tmp_path: Path) -> str:
    """Files of a run that make a model."""
    run = registry.create_run(registry.create_experiment("digits"))
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
        registry.log_artifact(run.info.run_id, str(tmp_path / name), "model")
    return f"{run.info.artifact_uri}/model"


@pytest.fixture
def two(registry: MlflowClient, source: str) -> str:
    """A model of two versions."""
    registry.create_registered_model("digits", tags={"team": "vision"}, description="numbers")
    for _ in range(2):
        registry.create_model_version("digits", source, run_id=source.split("/")[2], tags={"k": "v"}, description="made")
    return "digits"


def code_of(refused: pytest.ExceptionInfo[MlflowException]) -> str:
    return refused.value.error_code


class TestModels:
    def test_are_the_native_ones(self, registry: MlflowClient, client: Client, two: str) -> None:
        native = client.models.get(two)
        assert (native.last_version, native.description) == (2, "numbers")
        (first, second) = sorted(client.models.versions(two), key=lambda version: version.version)
        assert [file.path for file in second.files] == sorted(FILES)
        assert (first.flavour, first.state) == ("mlflow", "QUARANTINED") and "model.pkl" in first.reason and "pickle" in first.reason
        found = registry.get_registered_model(two)
        assert (found.tags, [v.version for v in found.latest_versions]) == ({"team": "vision"}, ["2"])

    def test_are_named_once_and_properly(self, registry: MlflowClient, two: str) -> None:
        with pytest.raises(MlflowException) as refused:
            registry.create_registered_model(two)
        assert code_of(refused) == "RESOURCE_ALREADY_EXISTS"
        for name in ("a/b", "a:b", ""):
            with pytest.raises(MlflowException) as refused:
                registry.create_registered_model(name)
            assert code_of(refused) == "INVALID_PARAMETER_VALUE"
        with pytest.raises(MlflowException) as refused:
            registry.get_registered_model("nowhere")
        assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"

    def test_change(self, registry: MlflowClient, two: str) -> None:
        registry.update_registered_model(two, "new words")
        registry.set_registered_model_tag(two, "a", "1")
        registry.delete_registered_model_tag(two, "team")
        registry.rename_registered_model(two, "numbers")
        renamed = registry.get_registered_model("numbers")
        assert (renamed.name, renamed.description, renamed.tags) == ("numbers", "new words", {"a": "1"})
        registry.delete_registered_model("numbers")
        assert registry.search_registered_models() == []
        registry.create_registered_model(two)

    def test_are_searched_and_paged(self, registry: MlflowClient) -> None:
        for name in ("a-1", "a-2", "b-1"):
            registry.create_registered_model(name, tags={"of": name[0]})
        names = lambda **asked: [model.name for model in registry.search_registered_models(**asked)]  # noqa: E731 - a question of one line
        assert names() == ["a-1", "a-2", "b-1"]
        assert names(filter_string="name LIKE 'a%'", order_by=["name DESC"]) == ["a-2", "a-1"]
        assert names(filter_string="tags.of = 'b'") == ["b-1"]
        first = registry.search_registered_models(max_results=2)
        assert [model.name for model in registry.search_registered_models(max_results=2, page_token=first.token)] == ["b-1"]


class TestVersions:
    def test_are_numbered_described_and_tagged(self, registry: MlflowClient, two: str, source: str) -> None:
        found = registry.get_model_version(two, "2")
        assert (found.version, found.status, found.source, found.tags, found.description) == ("2", "READY", source, {"k": "v"}, "made")
        registry.update_model_version(two, "2", "better")
        registry.set_model_version_tag(two, "2", "a", "1")
        registry.delete_model_version_tag(two, "2", "k")
        found = registry.get_model_version(two, "2")
        assert (found.description, found.tags) == ("better", {"a": "1"})
        registry.delete_model_version(two, "2")
        with pytest.raises(MlflowException) as refused:
            registry.get_model_version(two, "2")
        assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"

    def test_are_searched(self, registry: MlflowClient, two: str, source: str) -> None:
        numbers = lambda asked, **more: [v.version for v in registry.search_model_versions(asked, **more)]  # noqa: E731 - one line
        assert numbers(f"name = '{two}'", order_by=["version_number ASC"]) == ["1", "2"]
        assert numbers(f"run_id = '{source.split('/')[2]}' AND version_number > 1") == ["2"]
        assert numbers("tags.k = 'nothing'") == numbers("name = 'other'") == []
        assert numbers(f"source_path = '{source}'", max_results=1, order_by=["version_number DESC"]) == ["2"]

    def test_move_through_stages(self, registry: MlflowClient, two: str) -> None:
        registry.transition_model_version_stage(two, "1", "Production")
        assert registry.transition_model_version_stage(two, "2", "production", archive_existing_versions=True).current_stage == "Production"
        assert registry.get_model_version(two, "1").current_stage == "Archived"
        assert [v.version for v in registry.get_latest_versions(two, ["Production"])] == ["2"]
        with pytest.raises(MlflowException) as refused:
            registry.transition_model_version_stage(two, "1", "Nowhere")
        assert code_of(refused) == "INVALID_PARAMETER_VALUE"

    def test_have_aliases_that_move(self, registry: MlflowClient, client: Client, two: str) -> None:
        registry.set_registered_model_alias(two, "champion", "1")
        registry.set_registered_model_alias(two, "champion", "2")
        assert registry.get_model_version_by_alias(two, "champion").version == "2"
        assert registry.get_registered_model(two).aliases == {"champion": "2"} and client.models.get(two).aliases == {"champion": 2}
        registry.delete_registered_model_alias(two, "champion")
        with pytest.raises(MlflowException) as refused:
            registry.get_model_version_by_alias(two, "champion")
        assert code_of(refused) == "INVALID_PARAMETER_VALUE"
        for alias in ("latest", "v1", "a b"):
            with pytest.raises(MlflowException) as refused:
                registry.set_registered_model_alias(two, alias, "1")
            assert code_of(refused) == "INVALID_PARAMETER_VALUE"

    def test_without_what_a_protected_alias_asks_for_are_not_named_by_it(self, registry: MlflowClient, client: Client, two: str) -> None:
        client.models.protect(two, "champion", required_checks=["eval"])
        client.models.protect(two, "production", required_checks=["eval"])
        for name in (
            lambda: registry.set_registered_model_alias(two, "champion", "2"),
            lambda: registry.transition_model_version_stage(two, "2", "Production"),
        ):
            with pytest.raises(MlflowException, match="check 'eval' has not been reported") as refused:
                name()
            assert code_of(refused) == "RESOURCE_CONFLICT"
        client.models.set_check(two, "2", "eval", state="passed")
        registry.set_registered_model_alias(two, "champion", "2")
        assert registry.transition_model_version_stage(two, "2", "Production").current_stage == "Production"
        for undo in (
            lambda: registry.delete_registered_model_alias(two, "champion"),
            lambda: registry.delete_model_version(two, "2"),
            lambda: registry.rename_registered_model(two, "numbers"),
            lambda: registry.delete_registered_model(two),
        ):
            with pytest.raises(MlflowException, match="protected") as refused:
                undo()
            assert code_of(refused) == "RESOURCE_CONFLICT"
        assert registry.get_model_version_by_alias(two, "champion").version == "2"

    def test_are_copied(self, registry: MlflowClient, client: Client, two: str) -> None:
        copied = registry.copy_model_version(f"models:/{two}/1", "other")
        assert (copied.name, copied.version) == ("other", "1")
        assert [f.sha256 for f in client.models.version("other", "1", wait="30s").files] == [
            f.sha256 for f in client.models.version(two, "1").files
        ]

    def test_come_of_files_of_the_project_alone(self, registry: MlflowClient, two: str, source: str) -> None:
        nowhere = "0" * 31 + "1"
        for bad in (
            "s3://bucket/../model", "file:///etc", "/etc/passwd", "https://example.com/m", f"runs:/{nowhere}/model", f"models:/m-{nowhere}",
            f"{source}/nothing", f"{source}/../..", "models:/nowhere/1", "mlflow-artifacts://other-host/runs/x/artifacts/y", "",
            "ftp://host/x", f"mlflow-artifacts:/runs/{nowhere}/artifacts/model",
        ):  # fmt: skip
            with pytest.raises(MlflowException) as refused:
                registry.create_model_version(two, bad)
            assert code_of(refused) == "INVALID_PARAMETER_VALUE", bad
        assert len(registry.search_model_versions(f"name = '{two}'")) == 2

    def test_that_can_hold_code_are_kept_and_never_served(self, registry: MlflowClient, client: Client, two: str) -> None:
        registry.set_registered_model_alias(two, "champion", "1")
        with pytest.raises((ModelNotServable, VersionNotReady), match="QUARANTINED"):
            client.endpoints.create(name="digits", model=f"{two}@champion")

    def test_in_onnx_are_ready_to_be_served(self, registry: MlflowClient, client: Client, tmp_path: Path) -> None:
        """As ``mlflow.onnx.log_model`` writes them."""
        run = registry.create_run("0").info.run_id
        for name, data in {"MLmodel": b"flavors: {}\n", "model.onnx": linear(), "requirements.txt": b"onnx\n"}.items():
            (tmp_path / name).write_bytes(data)
            registry.log_artifact(run, str(tmp_path / name), "model")
        made = mlflow.register_model(f"runs:/{run}/model", "linear")
        native = client.models.version("linear", made.version)
        assert (native.flavour, native.state, str(native.run_id).replace("-", "")) == ("onnx", "READY", run)
        assert native.signature is not None and native.signature["inputs"]
        assert client.endpoints.create(name="linear", model="linear@1").name == "linear"

    def test_say_what_mlflow_wrote_of_them(self, registry: MlflowClient, client: Client) -> None:
        with mlflow.start_run():
            model = LogisticRegression().fit(X, Y)
            logged = mlflow.sklearn.log_model(
                model, name="m", signature=infer_signature(X, Y), input_example=X[:2], serialization_format="cloudpickle"
            )
        made = mlflow.register_model(logged.model_uri, "numbers")
        native = client.models.version("numbers", made.version, wait="30s")
        assert native.signature == {
            "inputs": [{"name": "", "dtype": "float64", "shape": [None, 1]}],
            "outputs": [{"name": "", "dtype": "int64", "shape": [None]}],
        }
        assert native.input_example == [[0.0], [1.0]] and any(line.startswith("scikit-learn") for line in native.requirements)


class TestLoggedModels:
    def test_go_from_pending_to_ready(self, registry: MlflowClient) -> None:
        run = registry.create_run("0")
        made = registry.create_logged_model(
            "0", name="tree", source_run_id=run.info.run_id, tags={"a": "1"}, params={f"p{n}": str(n) for n in range(150)}, model_type="x"
        )
        assert (made.status, made.name, made.tags, len(made.params)) == (LoggedModelStatus.PENDING, "tree", {"a": "1"}, 150)
        registry.set_logged_model_tags(made.model_id, {"b": "2"})
        registry.delete_logged_model_tag(made.model_id, "a")
        assert registry.finalize_logged_model(made.model_id, LoggedModelStatus.READY).status == LoggedModelStatus.READY
        registry.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, 3)])
        (output,) = registry.get_run(run.info.run_id).outputs.model_outputs
        assert (output.model_id, output.step, registry.get_logged_model(made.model_id).tags) == (made.model_id, 3, {"b": "2"})
        registry.delete_logged_model(made.model_id)
        with pytest.raises(MlflowException) as refused:
            registry.get_logged_model(made.model_id)
        assert code_of(refused) == "RESOURCE_DOES_NOT_EXIST"

    def test_are_searched_by_what_was_measured_on_which_data(self, registry: MlflowClient) -> None:
        run = registry.create_run("0").info.run_id
        made = {name: registry.create_logged_model("0", name=name, params={"depth": name[-1]}).model_id for name in ("m-1", "m-2")}
        for name, (train, test) in {"m-1": (0.9, 0.5), "m-2": (0.8, 0.6)}.items():
            for data, value in (("train", train), ("test", test)):
                metric = Metric("acc", value, 1, 1, model_id=made[name], dataset_name=data, dataset_digest="d")
                registry.log_batch(run, metrics=[metric])
        names = lambda **asked: [model.name for model in registry.search_logged_models(["0"], **asked)]  # noqa: E731 - one line
        assert names() == ["m-2", "m-1"]
        assert names(filter_string="params.depth = '1' AND name LIKE 'm-%'") == ["m-1"]
        assert names(filter_string="metrics.acc > 0.85") == ["m-1"]
        assert names(filter_string="metrics.acc > 0.55", datasets=[{"dataset_name": "test"}]) == ["m-2"]
        by = lambda data: [{"field_name": "metrics.acc", "ascending": False, "dataset_name": data}]  # noqa: E731 - one line
        assert (names(order_by=by("train")), names(order_by=by("test"))) == (["m-1", "m-2"], ["m-2", "m-1"])
        assert {m.value for m in registry.get_logged_model(made["m-1"]).metrics} == {0.9, 0.5}
        first = registry.search_logged_models(["0"], max_results=1)
        assert [m.name for m in registry.search_logged_models(["0"], max_results=1, page_token=first.token)] == ["m-1"]


class TestAutologging:
    def test_of_scikit_learn(self, registry: MlflowClient) -> None:
        mlflow.sklearn.autolog()
        try:
            with mlflow.start_run() as run:
                model = LogisticRegression(C=0.5).fit(X, Y)
            predicted = model.predict(X)
            accuracy_score(Y, predicted)
        finally:
            mlflow.sklearn.autolog(disable=True)
        found = registry.get_run(run.info.run_id)
        assert found.data.params["C"] == "0.5" and found.data.metrics["training_accuracy_score"] == 1.0
        assert found.inputs.dataset_inputs, "the training data are an input"
        (logged,) = registry.search_logged_models(["0"])
        assert logged.source_run_id == run.info.run_id and logged.status == LoggedModelStatus.READY
        version = mlflow.register_model(f"models:/{logged.model_id}", "digits")
        registry.set_registered_model_alias("digits", "champion", version.version)
        for uri in ("models:/digits@champion", "models:/digits/1", "models:/digits/latest", f"models:/{logged.model_id}"):
            assert list(mlflow.pyfunc.load_model(uri).predict(X)) == list(predicted), uri

    def test_of_xgboost(self, registry: MlflowClient) -> None:
        mlflow.xgboost.autolog()
        try:
            with mlflow.start_run() as run:
                data = xgboost.DMatrix(X, label=Y)
                xgboost.train({"max_depth": 2, "nthread": 1}, data, num_boost_round=3, evals=[(data, "train")])
        finally:
            mlflow.xgboost.autolog(disable=True)
        found = registry.get_run(run.info.run_id)
        assert found.data.params["max_depth"] == "2" and len(registry.get_metric_history(run.info.run_id, "train-rmse")) == 3
        assert [model.source_run_id for model in registry.search_logged_models(["0"])] == [run.info.run_id]

    def test_of_pytorch(self, registry: MlflowClient, tmp_path: Path) -> None:
        mlflow.pytorch.autolog(log_models=False)
        try:
            with mlflow.start_run() as run:
                trainer = lightning.Trainer(
                    max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=str(tmp_path)
                )
                trainer.fit(Line(), torch.utils.data.DataLoader(list(zip(torch.ones(8, 1), torch.ones(8, 1), strict=True)), batch_size=4))
        finally:
            mlflow.pytorch.autolog(disable=True)
        found = registry.get_run(run.info.run_id)
        assert found.data.params["epochs"] == "2" and "loss" in found.data.metrics

    def test_by_hand_registers_in_one_call(self, registry: MlflowClient, client: Client) -> None:
        with mlflow.start_run() as run:
            model = LogisticRegression().fit(X, Y)
            signature = infer_signature(X, model.predict(X))
            named = {"name": "model", "registered_model_name": "digits", "serialization_format": "cloudpickle"}
            mlflow.sklearn.log_model(model, signature=signature, input_example=X[:1], **named)
        native = client.models.version("digits", "1")
        assert str(native.run_id).replace("-", "") == run.info.run_id and native.state == "QUARANTINED"
        assert registry.get_model_version("digits", "1").status == "READY"
        assert list(mlflow.sklearn.load_model("models:/digits/1").predict(X)) == list(model.predict(X))
        assert list(mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(pd.DataFrame(X))) == list(model.predict(X))


class Line(lightning.LightningModule):
    """The smallest module that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)
