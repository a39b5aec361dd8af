"""Trainings that are configured instead of written: what ``aidos job train FILE.yaml`` may say. See docs/trainos-recipes.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from aidos.schemas.common import Asked, Name
from aidos.schemas.trainos import Reference

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Column = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Attribute = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""``MODULE:NAME`` in the directory of the file, such as ``network:Digits``."""


class Recipe(Asked):
    """What every recipe says."""

    dataset: Reference = Field(description="What it learns from, as `tumours@main`; fixed to a commit when the job is submitted.")
    train: Pattern = Field("*", description="Files of the dataset that are trained on, as `train/*`.")
    eval: Pattern | None = Field(None, description="Files that it is measured on, as `test/*`.")
    model: Name = Field(description="The model that a version is registered of.")
    seed: int = Field(0, ge=0, lt=2**31)
    keep_last: int = Field(2, ge=1, le=1000, description="How many of the newest checkpoints are kept.")
    keep_best: int = Field(1, ge=0, le=1000, description="How many are kept beside them for the lowest loss.")

    @property
    def references(self) -> list[str]:
        """Datasets that it reads."""
        return [self.dataset]


class Tabular(Recipe):
    """Rows with numbers, and a column to tell from them."""

    target: Column = Field(description="The column that is told from the others.")
    drop: list[Column] = Field([], max_length=10_000, description="Columns that are left out, such as an id.")
    task: Literal["classification", "regression"] = "classification"
    params: dict[str, Any] = Field({}, description="Passed to the library as they are.")


class Sklearn(Tabular):
    """Any estimator of scikit-learn that ONNX can hold, on one worker."""

    recipe: Literal["sklearn"]
    estimator: Annotated[str, StringConstraints(pattern=r"^sklearn(\.[a-z_]\w*)+\.[A-Z]\w*$")] = Field(
        description="Its whole name, as `sklearn.ensemble.RandomForestClassifier`."
    )


class Boosting(Tabular):
    """Gradient boosting over trees, its rows shared among the workers."""

    recipe: Literal["xgboost", "lightgbm"]
    rounds: int = Field(100, ge=1, le=1_000_000)
    early_stopping_rounds: int | None = Field(None, ge=1, description="Stop when the loss on `eval` has not fallen for so many rounds.")
    checkpoint_every: int = Field(50, ge=1, description="Rounds between two checkpoints.")

    @model_validator(mode="after")
    def _can_stop_early(self) -> Boosting:
        if self.early_stopping_rounds is not None and self.eval is None:
            raise ValueError("early_stopping_rounds needs eval: say which files the loss is measured on")
        return self


class Gradient(Recipe):
    """Training by gradient steps over batches."""

    epochs: int = Field(1, ge=1, le=1_000_000)
    batch_size: int = Field(64, ge=1, le=1_000_000, description="Samples of one step, over all workers together.")
    accumulate: int = Field(1, ge=1, description="Into how many passes a worker cuts its part of a batch.")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="`fp16` needs GPUs.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many steps.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between two checkpoints.")


class Steps(Gradient):
    """Gradient steps of AdamW in the platform's own loop."""

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="How the rate falls to zero after the warm-up.")
    warmup_ratio: float = Field(0.05, ge=0, le=1, description="Part of the steps in which the rate rises from zero.")
    clip_norm: float | None = Field(None, gt=0, description="Longest that the gradient may be.")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="`fsdp` shares parameters and optimizer state out among the workers.")


class Torch(Steps):
    """A network of one's own."""

    recipe: Literal["torch"]
    module: Attribute = Field(description="What makes the `torch.nn.Module`, as `network:Digits`; `forward` takes the inputs of a batch.")
    arguments: dict[str, Any] = Field({}, description="Arguments that it is made with.")
    transform: Attribute | None = Field(None, description="A function from a sample as it is stored to one with `inputs` and `target`.")
    inputs: Column = "inputs"
    target: Column = "target"
    loss: Literal["cross_entropy", "mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits"] = "cross_entropy"


class Lightning(Gradient):
    """A LightningModule of one's own."""

    recipe: Literal["lightning"]
    module: Attribute = Field(description="The `LightningModule` class, as `network:Digits`; its steps get batches as dicts of tensors.")
    arguments: dict[str, Any] = Field({}, description="Arguments that it is made with.")
    transform: Attribute | None = Field(None, description="A function from a sample as it is stored to a dict of arrays.")


class Lora(Steps):
    """A causal language model of Transformers, fine-tuned by low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    recipe: Literal["lora"]
    base: Reference = Field(description="Dataset with the base model, as `save_pretrained` writes model and tokenizer.")
    text: Column = Field("text", description="The column that is learnt.")
    prompt: Column | None = Field(None, description="A column that stands before it and is not learnt.")
    max_length: int = Field(256, ge=2, le=1_000_000, description="Tokens of a sample; what is longer is cut.")
    rank: int = Field(8, ge=1, le=4096)
    alpha: int = Field(16, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"

    @property
    def references(self) -> list[str]:
        return [self.dataset, self.base]


AnyRecipe = Annotated[Sklearn | Boosting | Torch | Lightning | Lora, Field(discriminator="recipe")]
