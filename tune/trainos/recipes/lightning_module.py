"""The recipe ``lightning``: a LightningModule of the user's own, whose Trainer Ray Train's workers share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from pytorch_lightning import LightningModule, Trainer
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer
from ray.train.torch import TorchTrainer
from safetensors.torch import save_file

import aidos
from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Lightning
from aidos.streaming.consumed import ORDINAL, Consumed
from aidos.streaming.ray_stream import Share
from tune.trainos.recipes import user_code, workers
from tune.trainos.recipes.workers import Writer

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_STATE = "state.ckpt"


def train(recipe: Lightning) -> None:
    """Train it, and register its weights."""
    workers.check_batch(recipe)
    workers.fit(TorchTrainer, train_worker, recipe)


def train_worker(recipe: Lightning) -> None:
    """The loop of each worker; the first one writes down, saves and registers."""
    torch.set_num_threads(max(1, int(aidos.job().cpus_per_worker)))
    pytorch_lightning.seed_everything(recipe.seed, verbose=False)
    module = user_code.make(recipe.module, recipe.arguments)
    if not isinstance(module, LightningModule):
        raise InvalidRequest(reason=f"'{recipe.module}' makes a {type(module).__name__}, and a LightningModule is needed.")
    with tempfile.TemporaryDirectory() as folder, workers.writing(recipe) as writer:
        done = workers.load_checkpoint(Path(folder))
        trainer = prepare_trainer(
            Trainer(
                max_epochs=recipe.epochs, max_steps=recipe.max_steps or -1, precision=_PRECISION[recipe.precision],  # type: ignore[arg-type]  # its Literal
                accumulate_grad_batches=recipe.accumulate, strategy=RayDDPStrategy(), plugins=[RayLightningEnvironment()],
                devices="auto", accelerator="gpu" if aidos.job().gpus_per_worker else "cpu", callbacks=[Saving(recipe, writer)],
                logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                use_distributed_sampler=False,
            )
        )  # fmt: skip
        splits = [Rows(recipe, recipe.train, shuffle=True)] + ([Rows(recipe, recipe.eval, shuffle=False)] if recipe.eval else [])
        # State that the platform saved and whose hash was compared; only tensors and plain values are read of it.
        state = None if done is None else str(Path(folder) / _STATE)
        trainer.fit(module, *splits, ckpt_path=state, weights_only=True)
        if writer:
            save_file({name: value.contiguous().clone() for name, value in module.state_dict().items()}, Path(folder) / "model.safetensors")
            version = writer.run.log_model(Path(folder) / "model.safetensors", name=recipe.model).version
            workers.say(f"registered {recipe.model}@{version}")


class Rows:
    """This worker's part of the batches of one epoch after the other, as dicts of tensors; from where a saved state was on."""

    def __init__(self, recipe: Lightning, pattern: str, *, shuffle: bool) -> None:
        self._recipe, self._pattern, self._shuffle = recipe, pattern, shuffle
        rank, world_size = workers.place()
        self._share = Share(recipe.batch_size // recipe.accumulate, rank, world_size)
        self._steps = self._share.steps(aidos.dataset(recipe.dataset).count(pattern))
        self._given = 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        epoch, skip = divmod(self._given, max(1, self._steps)) if self._shuffle else (0, 0)
        consumed = Consumed()
        data = aidos.dataset(self._recipe.dataset).to_ray(
            self._pattern, shuffle=self._shuffle, seed=self._recipe.seed, epoch=epoch, share=self._share, skip=skip, consumed=consumed,
            **workers.TASK_OPTIONS,
        )  # fmt: skip
        rows = workers.in_order(data.map(user_code.transform(self._recipe.transform, keep=ORDINAL), **workers.TASK_OPTIONS))
        for batch in rows.iter_batches(batch_size=self._share.batch_size // self._share.world_size, batch_format="numpy"):
            self._given += 1
            yield {name: torch.from_numpy(values.copy()) for name, values in batch.items() if name != ORDINAL and values.dtype != object}
            consumed.add(batch)
        workers.note_read(consumed)

    def state_dict(self) -> dict[str, Any]:
        return {"given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._given = state["given"]


class Saving(pytorch_lightning.Callback):
    """Writes down what the module logs, and saves Lightning's own state behind the loop."""

    def __init__(self, recipe: Lightning, writer: Writer | None) -> None:
        self._recipe, self._writer = recipe, writer
        self._done = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done = trainer.global_step
        self._notice = workers.Notice(lambda found: trainer.strategy.reduce_boolean_decision(found, all=False))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After each pass; a step may have several of them."""
        if trainer.global_step == self._done:
            return
        self._done = trainer.global_step
        if self._notice.heard() or self._done % self._recipe.checkpoint_every == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._writer and measured:
            self._writer.run.log_metrics(measured, step=trainer.global_step)
            workers.say(f"step {trainer.global_step}: {', '.join(f'{name} {value:.6g}' for name, value in measured.items())}")

    def _save(self, trainer: Trainer) -> None:
        """All workers take part: a sharded state is gathered from them."""
        with tempfile.TemporaryDirectory() as folder:
            trainer.save_checkpoint(Path(folder) / _STATE, weights_only=False)
            if self._writer:
                state = (Path(folder) / _STATE).read_bytes()
                self._writer.checkpoints.save(lambda into: _put(into, state), step=trainer.global_step)


def _put(folder: Path, state: bytes) -> None:
    (folder / _STATE).write_bytes(state)
