"""Gradient steps shared by processes over gloo: one, two and shards end alike, and each goes on where another was.

The platform and Ray are left out here: batches are made by their step, and checkpoints are folders.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray.train.torch
import torch
from torch import distributed, nn

from aidos.recipes import check_recipe
from tests.support.platform import find_free_ports
from tune.trainos.recipes import loop, state, workers

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]
STEPS, BATCH = 12, 16
RECIPE = {
    "recipe": "torch", "dataset": "d@main", "model": "m", "module": "a:b", "batch_size": BATCH, "learning_rate": 0.01, "checkpoint_every": 5,
    "clip_norm": 1.0,
}  # fmt: skip


class Linear(loop.Learning[Any]):
    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 2))

    def prepare(self, data: Any) -> Any:
        return data

    def loss(self, module: nn.Module, batch: loop.Batch) -> torch.Tensor:
        return nn.functional.cross_entropy(module(batch["inputs"]), batch["target"])

    def export(self, module: nn.Module, batch: loop.Batch, folder: Path) -> Path:
        return folder


@dataclass(frozen=True)
class Place:
    """One process: what it trains with, where its checkpoint is, after which step all of them end, and before which it must give way."""

    rank: int
    world_size: int
    port: int
    folder: Path
    until: int
    asked_at: int | None
    changes: dict[str, Any]

    def train(self) -> None:
        torch.set_num_threads(1)
        self.notes().mkdir(exist_ok=True)
        os.environ["AIDOS_TOKEN_FILE"] = str(self.notes() / "token")
        if self.world_size > 1:
            address = f"tcp://127.0.0.1:{self.port}"
            distributed.init_process_group("gloo", init_method=address, rank=self.rank, world_size=self.world_size)
        workers.place = lambda: (self.rank, self.world_size)  # type: ignore[assignment]  # of Ray Train's context
        ray.train.torch.get_device = lambda: torch.device("cpu")
        loop.count_steps = lambda recipe: STEPS
        workers.writing = self.writing  # type: ignore[assignment]  # of the platform
        workers.load_checkpoint = self.load
        FromSteps(Linear(check_recipe(RECIPE | self.changes, "recipe.yaml")), self).run()

    def notes(self) -> Path:
        """Where the platform tells this process what it must know."""
        return self.folder / f"notes-{self.rank}"

    @contextmanager
    def writing(self, recipe: Any) -> Iterator[Path | None]:
        yield self.folder if self.rank == 0 else None

    def load(self, folder: Path) -> int | None:
        if not (self.folder / "step").exists():
            return None
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return int((folder / "step").read_text())


class FromSteps(loop.Training):
    """A training whose batches are made by their step."""

    def __init__(self, learning: Linear, place: Place) -> None:
        super().__init__(learning)
        self.place = place

    def _train_batches(self, first: int) -> Iterator[loop.Batch]:
        for step in range(first, self.place.until):
            if step == self.place.asked_at:
                (self.place.notes() / "preempted").touch()
            inputs = torch.randn(BATCH, 30, generator=torch.Generator().manual_seed(step))
            yield {
                name: values.chunk(self.world_size)[self.rank]
                for name, values in (("inputs", inputs), ("target", (inputs[:, 0] > 0).long()))
            }

    def _save(self, writer: Any, step: int, measured: dict[str, float]) -> None:
        gathered = state.gather(self.module, self.optimizer)
        if writer:
            state.write(writer, gathered)
            (writer / "step").write_text(str(step))
            (writer / "loss").write_text(repr(measured.get("loss", math.nan)))

    def _log(self, writer: Any, step: int, measured: dict[str, float]) -> None: ...

    def _register(self, writer: Any) -> None: ...


def train(folder: Path, world_size: int, until: int = STEPS, asked_at: int | None = None, **changes: Any) -> float:
    """The loss at the last checkpoint of so many processes; the last of them is told before a step that it must give way."""
    folder.mkdir(exist_ok=True)
    port = find_free_ports(1)
    asked = [None] * (world_size - 1) + [asked_at]
    places = [Place(rank, world_size, port, folder, until, asked[rank], changes) for rank in range(world_size)]
    processes = [multiprocessing.get_context("fork").Process(target=place.train) for place in places]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * world_size
    return float((folder / "loss").read_text())


class TestTraining:
    def test_one_two_and_shards_end_alike(self, tmp_path: Path) -> None:
        one = train(tmp_path / "one", 1)
        assert train(tmp_path / "two", 2, accumulate=2) == pytest.approx(one, rel=1e-5)
        assert train(tmp_path / "shards", 2, strategy="fsdp") == pytest.approx(one, rel=1e-5)

    def test_what_was_stopped_goes_on_and_ends_with_the_same_loss(self, tmp_path: Path) -> None:
        whole = train(tmp_path / "whole", 2)
        train(tmp_path / "stopped", 2, until=8)
        assert train(tmp_path / "stopped", 2) == whole

    @pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
    def test_all_save_at_one_step_when_one_hears_that_the_job_must_give_way(self, tmp_path: Path, strategy: str) -> None:
        whole = train(tmp_path / "whole", 2, strategy=strategy)
        train(tmp_path / "asked", 2, until=9, asked_at=6, strategy=strategy)
        assert (tmp_path / "asked/step").read_text() == "6", "once, and not at each step until the job is stopped"
        shutil.rmtree(tmp_path / "asked/notes-1")
        assert train(tmp_path / "asked", 2, strategy=strategy) == whole

    def test_shards_go_on_as_one(self, tmp_path: Path) -> None:
        train(tmp_path / "state", 2, until=8, strategy="fsdp")
        assert train(tmp_path / "state", 1) == pytest.approx(train(tmp_path / "one", 1), rel=1e-5)
