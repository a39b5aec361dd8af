"""Training by gradient steps over batches that all workers share: the loop of the recipes ``torch`` and ``lora``.

What is in a batch depends on seed and step alone, and a worker takes its part of each; so a training goes on at a step with any
number of workers, and several workers' averaged gradients are one worker's. Dropout is drawn anew at each step from seed, step and rank.
"""

from __future__ import annotations

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import ray.data
import ray.train.torch
import torch
from ray.train.torch import TorchTrainer
from torch import nn

import aidos
from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Steps
from aidos.streaming.consumed import ORDINAL, Consumed
from aidos.streaming.ray_stream import Share
from tune.trainos.recipes import state, workers
from tune.trainos.recipes.parallel import in_any_worker, mean_over_workers, parallel, unsynchronised

Batch = dict[str, torch.Tensor]
R = TypeVar("R", bound=Steps)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LOG_EVERY = 10


class Learning(ABC, Generic[R]):
    """What one recipe learns, and how."""

    def __init__(self, recipe: R) -> None:
        self.recipe = recipe

    @abstractmethod
    def build(self) -> nn.Module:
        """The module before its first step. Raises: InvalidRequest."""

    @abstractmethod
    def prepare(self, data: ray.data.Dataset) -> ray.data.Dataset:
        """Samples as they are stored, made into rows of arrays that can be stacked; ``_ordinal`` stays."""

    @abstractmethod
    def loss(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        """The mean over the batch."""

    def score(self, module: nn.Module, batch: Batch) -> dict[str, float]:
        """Further metrics, as means over the batch."""
        return {}

    @abstractmethod
    def export(self, module: nn.Module, batch: Batch, folder: Path) -> Path:
        """Write the trained module as a file or directory that the registry takes."""


def train(learning: type[Learning[Any]], recipe: Steps) -> None:
    """Train in all workers of the job. Raises: InvalidRequest, and what the training raises."""
    workers.check_batch(recipe)
    workers.fit(TorchTrainer, lambda given: Training(learning(given)).run(), recipe)


def count_steps(recipe: Steps) -> int:
    """Steps of the whole training. Raises: InvalidRequest where there is not one."""
    samples = aidos.dataset(recipe.dataset).count(recipe.train)
    steps = min(recipe.epochs * (samples // recipe.batch_size), recipe.max_steps or 2**62)
    if not steps:
        raise InvalidRequest(
            reason=f"{recipe.dataset} {recipe.train} has {samples} samples, fewer than one batch of {recipe.batch_size}: make batch_size smaller."
        )
    return steps


def rate(recipe: Steps, step: int, steps: int) -> float:
    """What the learning rate is multiplied with: a rise over the warm-up, then the schedule down to zero after the last step."""
    warmup = math.ceil(recipe.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[recipe.schedule]


class Training:
    """One worker's side of a training; the first worker writes down, saves and registers."""

    def __init__(self, learning: Learning[Any]) -> None:
        self.learning, self.recipe = learning, learning.recipe
        self.rank, self.world_size = workers.place()
        self.device = ray.train.torch.get_device()
        torch.set_num_threads(max(1, int(aidos.job().cpus_per_worker)))
        torch.manual_seed(self.recipe.seed)
        self.module = parallel(learning.build().to(self.device), self.recipe.strategy, self.device)
        trained = [each for each in self.module.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay)
        # Disabled it passes everything on as it is.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "fp16")
        self.steps = count_steps(self.recipe)

    def run(self) -> None:
        """From the last checkpoint to the registered model."""
        with tempfile.TemporaryDirectory() as folder, workers.writing(self.recipe) as writer:
            done = workers.load_checkpoint(Path(folder))
            if done is not None:
                state.restore(Path(folder), self.module, self.optimizer)
            first, notice = 0 if done is None else done + 1, workers.Notice(in_any_worker)
            for step, batch in enumerate(self._train_batches(first), first):
                loss = self._step(step, batch)
                last = step == self.steps - 1
                if last or step % _LOG_EVERY == 0:
                    self._log(writer, step, mean_over_workers({"loss": loss}, 1))
                if notice.heard() and not last:
                    self._save(writer, step, {})  # to measure it might outlast the time that is given
                elif last or (step + 1) % self.recipe.checkpoint_every == 0:
                    self._save(writer, step, self._measure(writer, step, loss))
            self._register(writer)

    def _train_batches(self, first: int) -> Iterator[Batch]:
        recipe, consumed = self.recipe, Consumed()
        share = Share(recipe.batch_size, self.rank, self.world_size)
        data = aidos.dataset(recipe.dataset).to_ray(
            recipe.train, seed=recipe.seed, epochs=recipe.epochs, share=share, skip=first, consumed=consumed, **workers.TASK_OPTIONS
        )
        prepared = workers.in_order(self.learning.prepare(data))
        batches = prepared.iter_batches(batch_size=recipe.batch_size // self.world_size, batch_format="numpy")
        for _, rows in zip(range(first, self.steps), batches, strict=False):
            yield self._to_device(rows)
            consumed.add(rows)
        workers.note_read(consumed)

    def _to_device(self, rows: dict[str, np.ndarray[Any, Any]]) -> Batch:
        return {
            name: torch.from_numpy(values.copy()).to(self.device)
            for name, values in rows.items()
            if name != ORDINAL and values.dtype != object
        }

    def _step(self, step: int, batch: Batch) -> float:
        torch.manual_seed(int(np.random.SeedSequence([self.recipe.seed, step, self.rank]).generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * rate(self.recipe, step, self.steps)
        self.module.train()
        self.optimizer.zero_grad()
        total, passes = 0.0, self.recipe.accumulate
        for number in range(passes):
            part = {name: values.chunk(passes)[number] for name, values in batch.items()}
            with unsynchronised(self.module, quiet=number < passes - 1):
                with self._autocast():
                    loss = self.learning.loss(self.module, part) / passes
                self.scaler.scale(loss).backward()
            total += loss.item()
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total

    def _autocast(self) -> Any:
        dtype = _DTYPES.get(self.recipe.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Means over the files of ``eval``."""
        recipe = self.recipe
        # FSDP's workers must all take part in every pass, so there the last incomplete batch is left out.
        share = Share(self.world_size, self.rank, self.world_size, drop_last=recipe.strategy == "fsdp")
        data = aidos.dataset(recipe.dataset).to_ray(recipe.eval, shuffle=False, share=share, **workers.TASK_OPTIONS)
        self.module.eval()
        sums: dict[str, float] = {}
        count = 0
        for rows in workers.in_order(self.learning.prepare(data)).iter_batches(batch_size=recipe.batch_size, batch_format="numpy"):
            batch, size = self._to_device(rows), len(rows[ORDINAL])
            module = getattr(self.module, "module", self.module)
            with self._autocast():
                found = {"loss": self.learning.loss(module, batch).item(), **self.learning.score(module, batch)}
            sums = {name: sums.get(name, 0.0) + value * size for name, value in found.items()}
            count += size
        return mean_over_workers(sums, count)

    def _log(self, writer: workers.Writer | None, step: int, measured: dict[str, float]) -> None:
        if writer:
            writer.run.log_metrics(measured, step=step)
            workers.say(f"step {step}: {', '.join(f'{name} {value:.6g}' for name, value in measured.items())}")

    def _measure(self, writer: workers.Writer | None, step: int, loss: float) -> dict[str, float]:
        if self.recipe.eval is None:
            return mean_over_workers({"loss": loss}, 1)
        measured = self.evaluate()
        self._log(writer, step, {f"eval/{name}": value for name, value in measured.items()})
        return {"loss": measured["loss"]}

    def _save(self, writer: workers.Writer | None, step: int, measured: dict[str, float]) -> None:
        gathered = state.gather(self.module, self.optimizer)
        if writer:
            writer.checkpoints.save(lambda folder: state.write(folder, gathered), step=step, metrics=measured)

    def _register(self, writer: workers.Writer | None) -> None:
        trained, _ = state.gather(self.module, self.optimizer)
        if writer is None:
            return
        torch.manual_seed(self.recipe.seed)
        module = self.learning.build()
        module.load_state_dict(trained, strict=False)
        data = aidos.dataset(self.recipe.dataset).to_ray(self.recipe.train, shuffle=False, **workers.TASK_OPTIONS)
        rows = next(iter(workers.in_order(self.learning.prepare(data)).iter_batches(batch_size=2, batch_format="numpy")))
        batch = {name: values.cpu() for name, values in self._to_device(rows).items()}
        with tempfile.TemporaryDirectory() as folder:
            exported = self.learning.export(module.eval(), batch, Path(folder))
            workers.say(f"registered {self.recipe.model}@{writer.run.log_model(exported, name=self.recipe.model).version}")
