"""The recipe ``torch``: a network of the user's own."""

from __future__ import annotations

from pathlib import Path

import ray.data
import torch
from torch import nn

from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Torch
from aidos.streaming.consumed import ORDINAL
from tune.trainos.recipes import loop, user_code, workers
from tune.trainos.recipes.loop import Batch, Learning


def train(recipe: Torch) -> None:
    """Train it, measure it and register it as ONNX."""
    loop.train(Network, recipe)


class Network(Learning[Torch]):
    """``forward`` takes the inputs of a batch; ONNX is made of it by ``torch.export``."""

    def build(self) -> nn.Module:
        module = user_code.make(self.recipe.module, self.recipe.arguments)
        if not isinstance(module, nn.Module):
            raise InvalidRequest(reason=f"'{self.recipe.module}' makes a {type(module).__name__}, and a torch.nn.Module is needed.")
        return module

    def prepare(self, data: ray.data.Dataset) -> ray.data.Dataset:
        return data.map(user_code.transform(self.recipe.transform, keep=ORDINAL), **workers.TASK_OPTIONS)

    def loss(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        inputs, target = (self._column(batch, name) for name in (self.recipe.inputs, self.recipe.target))
        told = module(inputs)
        return getattr(nn.functional, self.recipe.loss)(
            told, target if self.recipe.loss == "cross_entropy" else target.to(told.dtype).view_as(told)
        )

    def score(self, module: nn.Module, batch: Batch) -> dict[str, float]:
        if self.recipe.loss != "cross_entropy":
            return {}
        return {"accuracy": (module(batch[self.recipe.inputs]).argmax(1) == batch[self.recipe.target]).float().mean().item()}

    def export(self, module: nn.Module, batch: Batch, folder: Path) -> Path:
        torch.onnx.export(
            module, (batch[self.recipe.inputs],), folder / "model.onnx", input_names=["inputs"], output_names=["outputs"],
            dynamic_shapes=[{0: torch.export.Dim("batch")}], dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
        return folder / "model.onnx"

    def _column(self, batch: Batch, name: str) -> torch.Tensor:
        if name not in batch:
            raise InvalidRequest(
                reason=f"A sample has no number column '{name}': it has {', '.join(batch) or 'none'}. Name another, or give a transform."
            )
        return batch[name]
