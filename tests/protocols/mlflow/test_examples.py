"""``examples/mlflow_*.py`` know nothing of AI-DOS: two variables bring them here, and they log what they log to MLflow's own store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_digits

from aidos.client import Client
from cluster.settings import Settings
from tests.modelhub.inspecting import inspecting

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]
EXAMPLES = Path(__file__).parents[3] / "examples"
SHOW = [sys.executable, "-c", "from aidos.cli import main; main()", "--json", "run", "show"]


@dataclass(frozen=True)
class Example:
    """A script, the model that it registers, and what a run of it must have."""

    script: str
    model: str
    params: dict[str, str]
    metrics: set[str]
    artifact: str


EXAMPLES_BY_LIBRARY = {
    "scikit-learn": Example(
        "mlflow_sklearn.py", "digits-svm", {"svc__C": "10", "svc__gamma": "0.01"}, {"accuracy", "training_f1_score"}, "predictions.txt"
    ),
    "PyTorch": Example("mlflow_pytorch.py", "digits-network", {"epochs": "8", "lr": "0.003"}, {"accuracy", "loss"}, "summary.txt"),
}


def run_script(script: str, folder: Path, **variables: str) -> str:
    """What it prints, in an environment that has nothing of AI-DOS."""
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIDOS_", "MLFLOW_"))}
    environment = {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **variables}
    command = [sys.executable, str(EXAMPLES / script)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def logged(client: MlflowClient) -> tuple[dict[str, str], dict[str, float]]:
    """Parameters and metrics of the one run of the experiment that both examples name."""
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run.data.params, run.data.metrics


@pytest.mark.parametrize("example", EXAMPLES_BY_LIBRARY.values(), ids=EXAMPLES_BY_LIBRARY)
class TestExamples:
    def test_run_by_two_variables_and_log_what_they_log_to_mlflow_alone(
        self,
        example: Example,
        environment: None,
        client: Client,
        url: str,
        admin_key: str,
        settings: Settings,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with inspecting(settings):
            said = run_script(example.script, tmp_path / "here", MLFLOW_TRACKING_URI=url, MLFLOW_TRACKING_TOKEN=admin_key)
        assert "loaded again it agrees on 100%" in said
        (run,) = client.runs.list(experiment="digits")
        shown: dict[str, Any] = json.loads(subprocess.run([*SHOW, str(run.id)], capture_output=True, text=True, check=True).stdout)
        assert shown["run"]["state"] == "FINISHED" and shown["run"]["params"].items() >= example.params.items()
        assert shown["run"]["metrics"].keys() >= example.metrics and shown["run"]["metrics"]["accuracy"]["value"] > 0.9
        assert example.artifact in {artifact["path"] for artifact in shown["artifacts"]}
        version = client.models.version(example.model, "1")
        assert (version.run_id, version.state) == (run.id, "QUARANTINED"), (
            "kept for MLflow's clients; a pickle or an archive is never served"
        )
        model = mlflow.pyfunc.load_model(f"models:/{example.model}/latest")
        (dtype,) = model.metadata.get_input_schema().numpy_types()
        assert len(model.predict(load_digits().data[:5].astype(dtype))) == 5
        alone = {"MLFLOW_TRACKING_URI": (tmp_path / "store").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
        run_script(example.script, tmp_path / "alone", **alone)
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        assert logged(MlflowClient()) == logged(MlflowClient(alone["MLFLOW_TRACKING_URI"]))


def test_the_examples_do_not_mention_the_platform() -> None:
    for example in EXAMPLES_BY_LIBRARY.values():
        assert "aidos" not in (EXAMPLES / example.script).read_text().lower().replace("-", "")
