"""A copula for each frequent value of a column, so that what differs between classes is kept, not only on average. No Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from aidos.schemas.dataforge.synthesis import Between, ColumnKind, TableGenerator, Value
from data_pipelines.dataforge.synthesis.tables import TableModel, fit_columns, generate, look, write_keys

LEAST_ROWS = 30
"""Of fewer rows a copula would know little but them."""


@dataclass(frozen=True)
class Mixture:
    """``shares`` of the ``values`` of column ``by``. ``parts``: the models of the frequent ones, by their text; others are drawn from ``whole``."""

    by: str
    values: tuple[Any, ...]
    shares: np.ndarray
    parts: Mapping[str, TableModel]
    whole: TableModel


def fit_mixture(table: pa.Table, spec: TableGenerator) -> Mixture:
    """The models of a sample. Raises: ValueError as ``look``, and where ``by`` is no category."""
    columns, orders, left_out = look(table, spec)
    kernel = spec.marginals == "kernel"
    column = next((column for column in columns if column.name == spec.by and column.kind is ColumnKind.CATEGORY), None)
    if column is None:
        categories = ", ".join(column.name for column in columns if column.kind is ColumnKind.CATEGORY)
        raise ValueError(f"'{spec.by}' is no category by which rows can be told apart; there is {categories or 'none'}")
    codes = column.encode(table[column.name])
    counts = np.array([*(np.sum(codes == at) for at in range(len(column.values))), np.isnan(codes).sum()])
    parts = {
        str(value): fit_columns(table.filter(pa.array(codes == at)), columns, orders, left_out, kernel=kernel)
        for at, value in enumerate(column.values)
        if counts[at] >= LEAST_ROWS
    }
    whole = fit_columns(table, columns, orders, left_out, kernel=kernel)
    return Mixture(column.name, (*column.values, None), counts / counts.sum(), parts, whole)


def generate_mixture(
    mixture: Mixture, rows: int, random: np.random.Generator, first: int = 0, where: Mapping[str, Value | Between] | None = None
) -> pa.Table:
    """Rows as ``tables.generate`` has them. Raises: ValueError as there, and for a condition that says nothing of ``by``."""
    if where and mixture.by not in where:
        raise ValueError(f"rows are drawn by '{mixture.by}': a condition must say which it has")
    shares = zip(mixture.values, random.multinomial(rows, mixture.shares), strict=True)
    wanted: list[tuple[Any, int]] = [(where[mixture.by], rows)] if where else list(shares)
    rest = {name: value for name, value in (where or {}).items() if name != mixture.by}
    made = []
    for value, count in wanted:
        if count and value is not None and str(value) in mixture.parts:
            made.append(generate(mixture.parts[str(value)], count, random, first, rest))
        elif count:
            made.append(generate(mixture.whole, count, random, first, {**rest, mixture.by: value}))
    return write_keys(mixture.whole, pa.concat_tables(made).take(pa.array(random.permutation(rows))), first, random)
