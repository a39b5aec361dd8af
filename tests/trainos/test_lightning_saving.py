"""When the recipe `lightning` saves, by Lightning's own Trainer in one process. The platform and Ray are left out here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from aidos.schemas.recipes import Lightning
from tune.trainos.recipes.lightning_module import Saving
from tune.trainos.recipes.workers import Writer

pytestmark = pytest.mark.ray
SAMPLES = 48
RECIPE = {"recipe": "lightning", "dataset": "d@main", "model": "m", "module": "a:b", "batch_size": 8, "checkpoint_every": 2}


class Linear(LightningModule):
    def __init__(self, asked: Callable[[int], None]) -> None:
        super().__init__()
        self.network, self.asked = nn.Linear(4, 1), asked

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        self.asked(self.global_step)
        return self.network(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Kept:
    """In place of the checkpointer: the steps that were saved, and that each has a state."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps = folder, list[int]()

    def save(self, write: Callable[[Path], None], *, step: int, metrics: Any = None) -> None:
        write(self.folder)
        assert torch.load(self.folder / "state.ckpt", weights_only=True)["global_step"] == step
        self.steps.append(step)


def train(folder: Path, asked: Callable[[int], None] = lambda _step: None, accumulate: int = 1) -> list[int]:
    """The steps that are saved in an epoch of six."""
    kept = Kept(folder)
    saving = Saving(Lightning(**RECIPE, accumulate=accumulate), Writer(None, kept))  # type: ignore[arg-type]  # as the checkpointer is used
    Trainer(
        max_epochs=1, accumulate_grad_batches=accumulate, callbacks=[saving], accelerator="cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    ).fit(Linear(asked), DataLoader(torch.ones(SAMPLES, 4), batch_size=8 // accumulate))  # fmt: skip
    return kept.steps


class TestSaving:
    def test_every_so_many_steps(self, tmp_path: Path) -> None:
        assert train(tmp_path) == [2, 4, 6]

    def test_once_a_step_however_many_passes_it_is_cut_into(self, tmp_path: Path) -> None:
        assert train(tmp_path, accumulate=4) == [2, 4, 6]

    @pytest.mark.parametrize("accumulate", [1, 4])
    def test_once_more_when_the_job_must_give_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int) -> None:
        monkeypatch.setenv("AIDOS_TOKEN_FILE", str(tmp_path / "token"))

        def asked(step: int) -> None:
            if step == 2:
                (tmp_path / "preempted").touch()

        assert train(tmp_path, asked, accumulate) == [2, 3, 4, 6]
