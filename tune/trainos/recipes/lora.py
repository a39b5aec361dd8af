"""The recipe ``lora``: a causal language model of Transformers, fine-tuned by low-rank adapters on a CPU or GPUs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import aidos
from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Lora
from aidos.streaming.consumed import ORDINAL
from tune.trainos.recipes import loop, workers
from tune.trainos.recipes.loop import Batch, Learning

IGNORED = -100
"""What Transformers does not learn."""


def train(recipe: Lora) -> None:
    """Fine-tune it, measure it and register the adapters."""
    loop.train(Adapters, recipe)


@functools.cache
def tokenizer_of(base: str) -> Any:
    """The tokenizer beside the base model, once a process."""
    return AutoTokenizer.from_pretrained(aidos.dataset(base).to_local(), local_files_only=True)


class Adapters(Learning[Lora]):
    """Only the adapters are trained, saved and registered (as ``adapter_model.safetensors`` of peft)."""

    def build(self) -> nn.Module:
        recipe = self.recipe
        try:
            base = AutoModelForCausalLM.from_pretrained(aidos.dataset(recipe.base).to_local(), local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise InvalidRequest(reason=f"{recipe.base} is no causal language model as save_pretrained writes one: {error}") from None
        asked = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=recipe.target_modules, task_type="CAUSAL_LM"
        )
        return get_peft_model(base, asked)

    def prepare(self, data: ray.data.Dataset) -> ray.data.Dataset:
        recipe = self.recipe

        def tokenize(sample: dict[str, Any]) -> dict[str, Any]:
            return {**encode(recipe, tokenizer_of(recipe.base), sample), ORDINAL: sample[ORDINAL]}

        return data.map(tokenize, **workers.TASK_OPTIONS)

    def loss(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        return module(**batch).loss

    def export(self, module: nn.Module, batch: Batch, folder: Path) -> Path:
        module.save_pretrained(folder)
        (folder / "README.md").write_text(f"LoRA adapters of {self.recipe.base}, trained on {self.recipe.dataset}.\n")
        return folder


def encode(recipe: Lora, tokenizer: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """Tokens of the prompt, the text and an end, cut and padded to ``max_length``; what is not learnt is ``IGNORED`` in the labels.

    Raises: InvalidRequest where a column is not there.
    """
    missing = [name for name in (recipe.prompt, recipe.text) if name is not None and name not in sample]
    if missing:
        raise InvalidRequest(reason=f"A sample of {recipe.dataset} has no column '{missing[0]}': it has {', '.join(sample)}.")
    before = tokenizer(sample[recipe.prompt])["input_ids"] if recipe.prompt is not None else []
    after = [*tokenizer(sample[recipe.text])["input_ids"], tokenizer.eos_token_id]
    tokens = np.array([*before, *after][: recipe.max_length])
    padding = (0, recipe.max_length - len(tokens))
    labels = np.where(np.arange(len(tokens)) < len(before), IGNORED, tokens)
    return {
        "input_ids": np.pad(tokens, padding, constant_values=tokenizer.eos_token_id),
        "attention_mask": np.pad(np.ones_like(tokens), padding),
        "labels": np.pad(labels, padding, constant_values=IGNORED),
    }
