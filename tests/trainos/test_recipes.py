"""Trainings that are configured instead of written, on two Ray nodes: what they measure and register, and that they go on when killed."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from sklearn.datasets import load_breast_cancer

from aidos.client import Client
from aidos.schemas.modelhub import RunRead
from aidos.transfers.directories import push
from cluster.settings import Settings
from tests.modelhub.inspecting import inspecting
from tests.support.ray_nodes import RayNodes
from tests.support.running import ROOT, RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
Train = Callable[..., RunRead]
TABLE = {"target": "diagnosis", "drop": ["patient"]}
STEPS, EVERY, LAST_PASS = 14, 5, 12
NETWORK = '''
import os, pathlib, signal
import numpy, torch, torch.distributed

class Network(torch.nn.Sequential):
    """The second worker counts its forward passes in a file; it dies by kill -9 in so many of them."""
    def __init__(self, passes, dies_in=None):
        super().__init__(torch.nn.Linear(30, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        self.passes, self.dies_in = pathlib.Path(passes), dies_in

    def forward(self, inputs):
        if self.training and torch.distributed.get_rank() == 1:
            with self.passes.open("a") as file:
                file.write(".")
            if self.passes.stat().st_size == self.dies_in:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(inputs)

def transform(sample):
    inputs = numpy.array([value for name, value in sorted(sample.items()) if name.startswith("x")], numpy.float32)
    return {"inputs": inputs / numpy.float32(100), "target": int(sample["diagnosis"])}
'''


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    """Two Ray nodes of one CPU each: two workers are on both of them."""
    home = Path(tempfile.mkdtemp(prefix="aidos-recipes-"))
    cluster = RayNodes(home)
    try:
        cluster.start_head("--include-dashboard=false")
        cluster.start_node()
        yield cluster
    finally:
        wait_until(lambda: not RunningPlatform(home).kill(), within_s=30, every_s=0.2)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def tumours(client: Client, tmp_path: Path) -> str:
    """569 real tumours, 30 measurements each: every fourth in the split ``test``."""
    found = load_breast_cancer()
    for split, rows in (("train", np.arange(569) % 4 != 0), ("test", np.arange(569) % 4 == 0)):
        columns = {f"x{number:02d}": found.data[rows, number] for number in range(30)}
        table = pyarrow.table({"patient": [f"p{row}" for row in np.flatnonzero(rows)], **columns, "diagnosis": found.target[rows]})
        (tmp_path / "tumours" / split).mkdir(parents=True)
        pyarrow.parquet.write_table(table, tmp_path / "tumours" / split / "rows.parquet", row_group_size=50)
    push(tmp_path / "tumours", "tumours", client=client)
    return "tumours@main"


@pytest.fixture
def train(client: Client, settings: Settings, tumours: str, tmp_path: Path, nodes: RayNodes) -> Iterator[Train]:
    """Runs a recipe as the command of a job of its own, in as many workers as asked; the job's run afterwards."""
    (tmp_path / "network.py").write_text(NETWORK)

    def run(workers: int = 1, **recipe: Any) -> RunRead:
        defaults = {"dataset": tumours, "train": "train/*", "eval": "test/*", "model": "tumours"}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(defaults | recipe))
        job = client.jobs.create("tumours", command=["true"])
        found = {
            "AIDOS_URL": client.config.url,
            "AIDOS_API_KEY": client.config.api_key or "",
            "AIDOS_JOB_ID": str(job.id),
            "AIDOS_RUN_ID": str(job.run_id),
            "AIDOS_WORKERS": str(workers),
            "AIDOS_CACHE_DIR": str(tmp_path / "cache"),
            "RAY_ADDRESS": nodes.address,
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
        }
        command = [sys.executable, "-m", "tune.trainos.recipes", str(tmp_path / "recipe.yaml")]
        to_workers = json.dumps({"runtime_env": {"env_vars": found}})
        done = nodes.spawn(command, RAY_JOB_CONFIG_JSON_ENV_VAR=to_workers, **found).wait(300)
        assert done == 0, nodes.logs()[-8000:]
        return client.runs.get(str(job.run_id))

    with inspecting(settings):
        yield run


def value(run: RunRead, metric: str) -> float:
    return run.metrics[metric].value


class TestTabular:
    @pytest.mark.parametrize(
        ("workers", "recipe"),
        [
            (1, {"recipe": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 30}}),
            (2, {"recipe": "xgboost", "rounds": 30}),
            (2, {"recipe": "lightgbm", "rounds": 30}),
        ],
        ids=lambda given: given["recipe"] if isinstance(given, dict) else "",
    )
    def test_learns_from_rows_and_registers_what_it_measured(
        self, train: Train, client: Client, workers: int, recipe: dict[str, Any]
    ) -> None:
        run = train(workers, **TABLE, **recipe)
        assert value(run, "eval/accuracy") > 0.93
        (version,) = client.models.versions("tumours")
        assert version.signature and version.signature["inputs"][0]["shape"][-1] == 30
        assert sum(read.rows_read or 0 for read in client.reads.list(run=str(run.id))) == 569


class TestTorch:
    def test_a_training_whose_worker_is_killed_ends_as_an_undisturbed_one(self, train: Train, tmp_path: Path) -> None:
        recipe = {"recipe": "torch", "module": "network:Network", "transform": "network:transform", "eval": None}
        steps = {"batch_size": 32, "epochs": 2, "max_steps": STEPS, "checkpoint_every": EVERY, "learning_rate": 0.01}
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        undisturbed = train(2, **recipe, **steps, arguments={"passes": str(whole)})
        killed = train(2, **recipe, **steps, arguments={"passes": str(cut), "dies_in": LAST_PASS})
        assert whole.stat().st_size == STEPS
        latest, before = LAST_PASS + STEPS - 2 * EVERY, LAST_PASS + STEPS - EVERY
        assert cut.stat().st_size in {latest, before}, "it goes on from the latest checkpoint; from the one before while that is uploaded"
        assert value(killed, "loss") == value(undisturbed, "loss")
