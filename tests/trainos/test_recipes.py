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
from tests.support.running import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
Train = Callable[..., RunRead]
TABLE = {"target": "diagnosis", "drop": ["patient"]}


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    """Two Ray nodes of one CPU each: two workers are on both of them."""
    home = Path(tempfile.mkdtemp(prefix="aidos-recipes-"))
    cluster = RayNodes(home)
    running = [cluster.start_head(), cluster.start_node()]
    yield cluster
    for node in reversed(running):
        node.terminate()
        node.wait()
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
    """Runs a recipe as the command of a job of its own (or of ``job``), in as many workers as asked; the job's run afterwards."""

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
