"""scikit-learn: one estimator, fitted at once on one worker."""

from __future__ import annotations

import importlib

import skl2onnx
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from sklearn.base import BaseEstimator

import aidos
from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Sklearn
from tune.trainos.recipes import tables, workers


def train(recipe: Sklearn) -> None:
    """Fit it, measure it and register it."""
    build(recipe)  # what is wrong with it is told before a worker begins
    workers.fit(DataParallelTrainer, fit_worker, recipe, workers=1)


def build(recipe: Sklearn) -> BaseEstimator:
    """The estimator with its parameters. Raises: InvalidRequest."""
    module, name = recipe.estimator.rsplit(".", 1)
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise InvalidRequest(reason=f"scikit-learn has no {recipe.estimator}: look it up in its API reference.") from None
    known = kind().get_params()
    if unknown := set(recipe.params) - set(known):
        raise InvalidRequest(reason=f"{name} has no parameter {min(unknown)!r}: it has {', '.join(sorted(known))}.")
    return kind(**({"random_state": recipe.seed} if "random_state" in known else {}) | recipe.params)


def fit_worker(recipe: Sklearn) -> None:
    """The loop of the one worker."""
    table = tables.read_table(recipe, recipe.train, tables.find_classes(recipe))
    fitted = build(recipe).fit(table.features, table.target)
    options = {id(fitted): {"zipmap": False}} if table.classes else None
    try:
        model = skl2onnx.to_onnx(fitted, initial_types=[("features", FloatTensorType([None, len(table.columns)]))], options=options)
    except (MissingConverter, MissingShapeCalculator):
        raise InvalidRequest(reason=f"{recipe.estimator} has no form in ONNX, in which models are kept: take another.") from None
    measured_on = {"train": table} | ({"eval": tables.read_table(recipe, recipe.eval, table.classes)} if recipe.eval is not None else {})
    with aidos.run() as run:
        tables.register(recipe, model, run, measured_on)
