"""A column as numbers with gaps, and back: what it is, where its values lie, how they are written. No Ray."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aidos.schemas.dataforge.synthesis import ColumnKind, SyntheticColumn
from data_pipelines.dataforge.synthesis.codes import Shapes, fit_shapes
from data_pipelines.dataforge.synthesis.marginals import Marginal, fit_atoms, fit_marginal

MOST_CATEGORIES = 1000
_SURELY_CATEGORIES = 20
DAY_US = 86_400_000_000
_STEPS_US = (DAY_US, 3_600_000_000, 60_000_000, 1_000_000, 1000, 1)
_KEY_NAME = re.compile(r"(^|[_\W])(id|uuid|guid|key)$", re.IGNORECASE)
MODELLED = frozenset({ColumnKind.NUMBER, ColumnKind.INTEGER, ColumnKind.DATE, ColumnKind.CATEGORY})


@dataclass(frozen=True)
class ColumnModel:
    """What is known of a column. Numbers stand for its values: themselves, microseconds since 1970, or places in ``values``."""

    name: str
    kind: ColumnKind
    type: pa.DataType
    nulls: float = 0.0
    marginal: Marginal | None = None
    values: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    decimals: int | None = None
    step_us: int = 1
    shapes: Shapes | None = None

    def encode(self, array: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """[rows] numbers; NaN where a value is missing, is none of the categories or is out of bounds."""
        if self.kind is ColumnKind.CATEGORY:
            known = pa.array([str(value) for value in self.values], pa.string())
            return to_floats(pc.index_in(to_texts(array), value_set=known))
        numbers = to_floats(to_times(array) if self.kind is ColumnKind.DATE else array)
        return np.where((numbers >= self.low) & (numbers <= self.high), numbers, np.nan)

    def decode(self, numbers: np.ndarray) -> pa.Array:
        """Values of the column's type; null where there is NaN."""
        missing = np.isnan(numbers)
        filled = np.where(missing, 0, numbers)
        if self.kind is ColumnKind.CATEGORY:
            values = pa.array(self.values, self.type)
            return values.take(pa.array(np.rint(filled).astype(np.int64), mask=missing))
        if self.kind is ColumnKind.NUMBER:
            rounded = filled if self.decimals is None else np.round(filled, self.decimals)
            return pa.array(rounded, mask=missing).cast(self.type, safe=False)
        whole = pa.array(np.rint(filled / self.step_us).astype(np.int64) * self.step_us, mask=missing)
        if self.kind is ColumnKind.INTEGER:
            return whole.cast(self.type, safe=False)
        return whole.cast(pa.timestamp("us", getattr(self.type, "tz", None))).cast(self.type, safe=False)

    def number(self, value: Any) -> float:
        """What stands for one value. Raises: ValueError where the column cannot have it."""
        number = float(self.encode(pa.array([value.isoformat() if isinstance(value, datetime) else value]))[0])
        if math.isnan(number):
            raise ValueError(f"column '{self.name}' has no value {value!r}")
        return number

    def round(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers as they are when they have been written."""
        if self.kind is ColumnKind.NUMBER:
            return numbers if self.decimals is None else np.round(numbers, self.decimals)
        return np.rint(numbers / self.step_us) * self.step_us


def to_texts(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Categories are told apart by their text, so that 1, "1" and a dictionary's 1 are one."""
    return pc.cast(array, pa.string()) if not pa.types.is_boolean(array.type) else pc.if_else(array, "True", "False")


def to_floats(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Numbers, or texts of numbers, as float64; NaN for null and for what is no number. Infinity is no number."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = pc.utf8_trim_whitespace(array)
        fits = pc.match_substring_regex(array, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
        array = pc.if_else(fits, array, pa.scalar(None, array.type))
    found = np.asarray(pc.cast(array, pa.float64(), safe=False), dtype=np.float64)
    return np.where(np.isinf(found), np.nan, found)


def to_times(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Dates, times or ISO 8601 texts as microseconds since 1970, without a zone in UTC; null for texts that are none."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        zone = next((zone for zone in (None, "UTC") if _reads(array, zone)), "")
        if zone == "":
            return pa.array([_to_time(text) for text in array.to_pylist()], pa.int64())
        array = pc.cast(array, pa.timestamp("us", zone))
    return pc.cast(pc.cast(array, pa.timestamp("us", getattr(array.type, "tz", None)), safe=False), pa.int64())


def _to_time(text: str | None) -> int | None:
    try:
        return None if text is None else round(to_bound(text) or 0)
    except ValueError:
        return None


def _reads(array: pa.Array | pa.ChunkedArray, zone: str | None) -> bool:
    try:
        pc.cast(array, pa.timestamp("us", zone))
    except pa.ArrowInvalid:
        return False
    return True


def bounds(spec: SyntheticColumn) -> tuple[float, float]:
    """The interval that values must lie in, as numbers."""
    low, high = (to_bound(value) for value in (spec.min, spec.max))
    return -math.inf if low is None else low, math.inf if high is None else high


def to_bound(value: float | str | None) -> float | None:
    """A bound as a number; a date as microseconds since 1970. Raises: ValueError."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6


def infer_kind(name: str, array: pa.ChunkedArray) -> tuple[ColumnKind, pa.DataType]:
    """What a column seems to be, and the type that its values get; texts that are all numbers or dates become those."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return ColumnKind.CATEGORY, kind
    if pa.types.is_integer(kind):
        return _whole(name, array), kind
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return ColumnKind.NUMBER, kind
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return ColumnKind.DATE, kind
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _infer_text(name, pc.drop_null(pc.cast(array, pa.string())))
    return ColumnKind.SKIP, kind


def _infer_text(name: str, texts: pa.ChunkedArray) -> tuple[ColumnKind, pa.DataType]:
    def all_match(pattern: str) -> bool:
        return bool(len(texts)) and bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())

    if all_match(r"^\s*[+-]?(0|[1-9]\d{0,14})\s*$"):
        return _whole(name, pc.cast(pc.utf8_trim_whitespace(texts), pa.int64())), pa.int64()
    if all_match(r"^\s*[+-]?(0|[1-9]\d*|)(\.\d*)?([eE][+-]?\d+)?\s*$") and all_match(r"\d"):
        return ColumnKind.NUMBER, pa.float64()
    for pattern, found in ((r"^\d{4}-\d{2}-\d{2}$", pa.date32()), (r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}", pa.timestamp("us"))):
        if all_match(pattern) and _reads(texts, None):
            return ColumnKind.DATE, found
        if all_match(pattern) and _reads(texts, "UTC"):
            return ColumnKind.DATE, pa.timestamp("us", "UTC")
    distinct = pc.count_distinct(texts).as_py()
    if distinct == len(texts) > _SURELY_CATEGORIES and _KEY_NAME.search(name):
        return ColumnKind.KEY, pa.string()
    few = distinct <= min(MOST_CATEGORIES, max(_SURELY_CATEGORIES, len(texts) // 2))
    return ColumnKind.CATEGORY if few else ColumnKind.CODE, pa.string()


def _whole(name: str, array: pa.ChunkedArray) -> ColumnKind:
    """Numbers that name rows: unique, and called so or without a gap."""
    present = pc.drop_null(array)
    if len(present) < len(array) or pc.count_distinct(present).as_py() < len(array) or len(array) <= _SURELY_CATEGORIES:
        return ColumnKind.INTEGER
    ends = pc.min_max(present).as_py()
    return ColumnKind.KEY if _KEY_NAME.search(name) or ends["max"] - ends["min"] == len(array) - 1 else ColumnKind.INTEGER


def fit_column(name: str, array: pa.ChunkedArray, spec: SyntheticColumn) -> ColumnModel:
    """A column without its marginal yet: kind, type, bounds, categories and how its values are written."""
    kind, type = infer_kind(name, array)
    kind = spec.kind or kind
    low, high = bounds(spec)
    model = ColumnModel(name, kind, type, low=low, high=high)
    if kind is ColumnKind.CATEGORY:
        return _fit_categories(model, array, spec)
    if kind in {ColumnKind.KEY, ColumnKind.CODE}:
        whole = pa.types.is_integer(type)
        return model if whole and kind is ColumnKind.KEY else replace(model, type=pa.string(), shapes=fit_shapes(to_texts(array)))
    if kind is ColumnKind.DATE and not (pa.types.is_date(type) or pa.types.is_timestamp(type)):
        model = replace(model, type=pa.timestamp("us"))
    if kind is ColumnKind.INTEGER and not pa.types.is_integer(type):
        model = replace(model, type=pa.int64())
    if kind is ColumnKind.NUMBER and not (pa.types.is_floating(type) or pa.types.is_decimal(type)):
        model = replace(model, type=pa.float64())
    if kind not in MODELLED:
        return model
    numbers = model.encode(array)
    numbers = numbers[~np.isnan(numbers)]
    if kind is ColumnKind.DATE and numbers.size:
        return replace(model, step_us=next(step for step in _STEPS_US if not np.any(numbers % step)))
    return replace(model, decimals=_decimals(numbers)) if kind is ColumnKind.NUMBER else model


def _fit_categories(model: ColumnModel, array: pa.ChunkedArray, spec: SyntheticColumn) -> ColumnModel:
    type = model.type if not pa.types.is_dictionary(model.type) else pa.string()
    values = spec.values
    if values is None:
        counted = sorted(pc.value_counts(pc.drop_null(array)).to_pylist(), key=lambda each: -each["counts"])
        values = [each["values"] for each in counted[:MOST_CATEGORIES]]
        if pa.types.is_integer(type):
            values = [int(str(value)) for value in values]
    else:
        type = pa.array(values).type
    return replace(model, type=type, values=tuple(values))


def _decimals(numbers: np.ndarray) -> int | None:
    """How many decimals all numbers have, where these are six or fewer."""
    return next((places for places in range(7) if np.array_equal(np.round(numbers, places), numbers)), None)


def fit_numbers(model: ColumnModel, numbers: np.ndarray, *, kernel: bool = False) -> ColumnModel:
    """The column with the marginal and the share of nulls of these numbers."""
    present = numbers[~np.isnan(numbers)]
    if not present.size:
        return replace(model, nulls=1.0)
    smooth = kernel and model.kind is not ColumnKind.CATEGORY
    marginal = fit_atoms(present) if model.kind is ColumnKind.CATEGORY else fit_marginal(present, kernel=smooth)
    return replace(model, nulls=1 - present.size / numbers.size, marginal=marginal)
