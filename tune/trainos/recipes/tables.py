"""Rows as trees and scikit-learn take them, and what is made of them: ONNX files with the names of columns and classes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow

import aidos
from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Tabular
from aidos.streaming.chunks import ID
from aidos.streaming.consumed import ORDINAL, Consumed
from aidos.streaming.ray_stream import Share
from tune.trainos.recipes import workers
from tune.trainos.recipes.workers import TASK_OPTIONS, in_order, say

_BATCH_ROWS = 50_000
OPSET = 15


@dataclass(frozen=True)
class Table:
    """``features`` of shape (rows, columns) in float32; ``target`` as numbers, of a classification the positions in ``classes``."""

    columns: list[str]
    features: np.ndarray[Any, Any]
    target: np.ndarray[Any, Any]
    classes: list[Any]


def read_table(recipe: Tabular, pattern: str, classes: list[Any], rank: int = 0, world_size: int = 1) -> Table:
    """This worker's rows of the files that match. Raises: InvalidRequest for a column that is no number or is not there."""
    consumed = Consumed()
    share = Share(world_size, rank, world_size, drop_last=False)
    data = aidos.dataset(recipe.dataset).to_ray(pattern, rows=True, shuffle=False, share=share, consumed=consumed, **TASK_OPTIONS)
    parts = list(in_order(data).iter_batches(batch_size=_BATCH_ROWS, batch_format="pyarrow"))
    for part in parts:
        consumed.add(part)
    workers.note_read(consumed)
    if not parts:
        raise InvalidRequest(reason=f"Worker {rank} of {world_size} has no row of {recipe.dataset} {pattern}: use fewer workers.")
    rows = pyarrow.concat_tables(parts, promote_options="permissive").drop_columns([ID, ORDINAL])
    columns = _columns(recipe, rows)
    features = np.stack([_numbers(rows, name) for name in columns], axis=1).astype(np.float32)
    return Table(columns, features, _target(recipe, rows, classes), classes)


def find_classes(recipe: Tabular) -> list[Any]:
    """The values of the target in the training files, sorted; none for a regression. Raises: InvalidRequest."""
    if recipe.task == "regression":
        return []
    data = aidos.dataset(recipe.dataset).to_ray(recipe.train, rows=True, shuffle=False, columns=[recipe.target], **TASK_OPTIONS)
    found: set[Any] = set()
    for part in in_order(data).iter_batches(batch_size=_BATCH_ROWS, batch_format="pyarrow"):
        found |= set(part.column(recipe.target).unique().to_pylist())
    if None in found or len(found) < 2:
        raise InvalidRequest(reason=f"Column '{recipe.target}' must tell at least two classes and have no gaps, got {found or 'no rows'}.")
    return sorted(found)


def _columns(recipe: Tabular, rows: pyarrow.Table) -> list[str]:
    missing = [name for name in (recipe.target, *recipe.drop) if name not in rows.column_names]
    if missing:
        raise InvalidRequest(reason=f"{recipe.dataset} has no column {missing[0]!r}: it has {', '.join(rows.column_names[:50])}.")
    return [name for name in rows.column_names if name not in {recipe.target, *recipe.drop}]


def _numbers(rows: pyarrow.Table, name: str) -> np.ndarray[Any, Any]:
    kind = rows.schema.field(name).type
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)):
        raise InvalidRequest(
            reason=f"Column '{name}' is {kind}, and features are numbers: leave it out with drop, or encode it in the data."
        )
    return rows.column(name).cast(pyarrow.float32(), safe=False).to_numpy(zero_copy_only=False)


def _target(recipe: Tabular, rows: pyarrow.Table, classes: list[Any]) -> np.ndarray[Any, Any]:
    if not classes:
        return _numbers(rows, recipe.target)
    places = {value: place for place, value in enumerate(classes)}
    values = rows.column(recipe.target).to_pylist()
    if unknown := set(values) - set(places):
        raise InvalidRequest(reason=f"Column '{recipe.target}' has {unknown}, which the files that are trained on have not.")
    return np.array([places[value] for value in values])


def register(recipe: Tabular, model: onnx.ModelProto, run: Any, measured_on: Mapping[str, Table]) -> None:
    """Register the model with the names of its columns and classes in its metadata, and what it scores on the tables, by split."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for split, table in measured_on.items():
            onnx.helper.set_model_props(model, {"columns": json.dumps(table.columns), "classes": json.dumps(table.classes, default=str)})
            path.write_bytes(model.SerializeToString())
            measured = measure(path, table)
            run.log_metrics({f"{split}/{name}": value for name, value in measured.items()})
            say(f"{split}: {', '.join(f'{name} {value:.4f}' for name, value in measured.items())}")
        say(f"registered {recipe.model}@{run.log_model(path, name=recipe.model).version}")


def measure(path: Path, table: Table) -> dict[str, float]:
    """How good the exported model itself is: ``accuracy`` and ``log_loss``, or ``rmse`` and ``r2``."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: part}) for part in _cut(table.features)]
    told = [np.concatenate([part[output] for part in parts]) for output in range(len(parts[0]))]
    if not table.classes:
        error = told[0].reshape(-1) - table.target
        return {
            "rmse": float(np.sqrt((error**2).mean())),
            "r2": float(1 - (error**2).sum() / ((table.target - table.target.mean()) ** 2).sum()),
        }
    right = np.clip(told[1][np.arange(len(table.target)), table.target], 1e-15, 1)
    return {"accuracy": float((told[0] == table.target).mean()), "log_loss": float(-np.log(right).mean())}


def _cut(features: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    return (features[start : start + _BATCH_ROWS] for start in range(0, len(features), _BATCH_ROWS))
