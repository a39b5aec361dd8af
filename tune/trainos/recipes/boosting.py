"""XGBoost and LightGBM: rows are shared out among the workers, which grow the same trees together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import onnx
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from ray.train.lightgbm import LightGBMTrainer, get_network_params
from ray.train.xgboost import XGBoostTrainer

import aidos
from aidos.schemas.recipes import Boosting
from tune.trainos.recipes import tables, workers
from tune.trainos.recipes.tables import Table

_STATE = "trees"
AfterRound = Callable[[int, Mapping[str, float], Callable[[Path], None]], None]
"""Told the round, what was measured, and how to write the trees grown so far."""


def train(recipe: Boosting) -> None:
    """Grow the trees, measure them and register them."""
    workers.fit(XGBoostTrainer if recipe.recipe == "xgboost" else LightGBMTrainer, grow_worker, recipe)


def grow_worker(recipe: Boosting) -> None:
    """The loop of each worker; the first one writes down and saves."""
    rank, world_size = workers.place()
    classes = tables.find_classes(recipe)
    patterns = {"train": recipe.train} | ({"eval": recipe.eval} if recipe.eval is not None else {})
    parts = {split: tables.read_table(recipe, pattern, classes, rank, world_size) for split, pattern in patterns.items()}
    grow = grow_xgboost if recipe.recipe == "xgboost" else grow_lightgbm
    with tempfile.TemporaryDirectory() as folder, workers.writing(recipe) as writer:
        step, notice = workers.load_checkpoint(Path(folder)), workers.Notice()

        def after_round(number: int, measured: Mapping[str, float], write: Callable[[Path], None]) -> None:
            if writer is None:
                return
            writer.run.log_metrics({f"{split}/loss": value for split, value in measured.items()}, step=number)
            if notice.heard() or (number + 1) % recipe.checkpoint_every == 0:
                writer.checkpoints.save(write, step=number, metrics={"loss": measured.get("eval", measured["train"])})

        model = grow(recipe, parts, None if step is None else Path(folder) / _STATE, 0 if step is None else step + 1, after_round)
        if writer is not None:
            split, pattern = list(patterns.items())[-1]
            tables.register(recipe, model, writer.run, {split: tables.read_table(recipe, pattern, classes)})


def _objective(recipe: Boosting, classes: list[Any], names: tuple[str, str, str]) -> dict[str, Any]:
    """The library's name for a regression, two classes, and more of them."""
    if not classes:
        return {"objective": names[0]}
    return {"objective": names[1]} if len(classes) == 2 else {"objective": names[2], "num_class": len(classes)}


def _inputs(table: Table) -> list[tuple[str, Any]]:
    return [("features", FloatTensorType([None, len(table.columns)]))]


def grow_xgboost(recipe: Boosting, parts: Mapping[str, Table], state: Path | None, done: int, after_round: AfterRound) -> onnx.ModelProto:
    """The model as ONNX. The sums over all workers' rows are XGBoost's own."""
    table = parts["train"]
    params = {"seed": recipe.seed, "nthread": int(max(1, aidos.job().cpus_per_worker)), "tree_method": "hist"}
    params |= _objective(recipe, table.classes, ("reg:squarederror", "binary:logistic", "multi:softprob")) | recipe.params
    matrices = {split: xgboost.DMatrix(part.features, part.target) for split, part in parts.items()}

    class Told(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            measured = {split: next(iter(found.values()))[-1] for split, found in evals_log.items()}
            after_round(done + epoch, measured, lambda folder: _save(model, folder))
            return False

    callbacks: list[Any] = [Told()]
    if recipe.early_stopping_rounds:
        callbacks.append(xgboost.callback.EarlyStopping(recipe.early_stopping_rounds, save_best=True))
    booster = xgboost.train(
        params, matrices["train"], max(0, recipe.rounds - done), evals=[(matrix, split) for split, matrix in matrices.items()],
        xgb_model=str(state) if state else None, callbacks=callbacks, verbose_eval=False,
    )  # fmt: skip
    return onnxmltools.convert_xgboost(booster, initial_types=_inputs(table), target_opset=tables.OPSET)


def grow_lightgbm(recipe: Boosting, parts: Mapping[str, Table], state: Path | None, done: int, after_round: AfterRound) -> onnx.ModelProto:
    """The model as ONNX. Several workers grow with `tree_learner: data`, as LightGBM calls it."""
    table, (_, world_size) = parts["train"], workers.place()
    params = {"seed": recipe.seed, "deterministic": True, "num_threads": int(max(1, aidos.job().cpus_per_worker)), "verbosity": -1}
    params |= _objective(recipe, table.classes, ("regression", "binary", "multiclass"))
    params |= ({"tree_learner": "data", "pre_partition": True} | get_network_params() if world_size > 1 else {}) | recipe.params
    data = {"train": lightgbm.Dataset(table.features, table.target, free_raw_data=False)}
    data |= {split: data["train"].create_valid(part.features, part.target) for split, part in parts.items() if split != "train"}

    def told(found: lightgbm.callback.CallbackEnv) -> None:
        measured = {result[0]: result[2] for result in reversed(found.evaluation_result_list or [])}  # of several metrics the first
        after_round(found.iteration, measured, lambda folder: _save(found.model, folder))

    callbacks: list[Any] = [told]
    if recipe.early_stopping_rounds:
        callbacks.append(lightgbm.early_stopping(recipe.early_stopping_rounds, first_metric_only=True, verbose=False))
    if done >= recipe.rounds:  # LightGBM refuses to grow no tree
        return _lightgbm_onnx(lightgbm.Booster(model_file=str(state)), table)
    booster = lightgbm.train(
        params, data["train"], recipe.rounds - done, valid_sets=list(data.values()), valid_names=list(data),
        init_model=str(state) if state else None, callbacks=callbacks,
    )  # fmt: skip
    return _lightgbm_onnx(booster, table)


def _save(booster: Any, folder: Path) -> None:
    booster.save_model(str(folder / _STATE))


def _lightgbm_onnx(booster: lightgbm.Booster, table: Table) -> onnx.ModelProto:
    return onnxmltools.convert_lightgbm(booster, initial_types=_inputs(table), target_opset=tables.OPSET, zipmap=False)
