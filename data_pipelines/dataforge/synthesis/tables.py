"""A table's model: fitted to a sample of its rows, or to noisy counts; and the rows that are drawn from it. No Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from aidos.schemas.dataforge.synthesis import AtMost, Between, ColumnKind, SyntheticColumn, TableGenerator, Value
from data_pipelines.dataforge.synthesis.columns import MODELLED, ColumnModel, fit_column, fit_numbers, to_bound
from data_pipelines.dataforge.synthesis.copula import draw, fit_correlation
from data_pipelines.dataforge.synthesis.marginals import Marginal, from_counts

_DRAWS = 50_000


@dataclass(frozen=True)
class TableModel:
    """All that rows are drawn from. The copula's variables are the columns with a marginal, then the gaps of those with nulls."""

    columns: tuple[ColumnModel, ...]
    correlation: np.ndarray
    at_most: tuple[AtMost, ...] = ()
    left_out: Mapping[str, str] | None = None

    @property
    def drawn(self) -> list[ColumnModel]:
        return [column for column in self.columns if column.marginal is not None]

    @property
    def gappy(self) -> list[ColumnModel]:
        return gappy(self.drawn)


def gappy(drawn: Sequence[ColumnModel]) -> list[ColumnModel]:
    """Columns some of whose values are missing."""
    return [column for column in drawn if 0 < column.nulls < 1]


def look(table: pa.Table, spec: TableGenerator) -> tuple[list[ColumnModel], list[AtMost], dict[str, str]]:
    """The columns of a sample without their marginals, the constraints in order, and what has no model, with the reason.

    Raises: ValueError for constraints that name no column or contradict each other.
    """
    columns, left_out = [], {}
    for name in table.column_names:
        column = fit_column(name, table.column(name), spec.columns.get(name, SyntheticColumn()))
        if column.kind is ColumnKind.SKIP:
            left_out[name] = "asked for" if name in spec.columns else f"values of type {column.type} have no model"
        else:
            columns.append(column)
    orders = sort_orders(columns, spec.at_most)
    return _order_categories(columns, encode(table, columns, orders)), orders, left_out


def fit_table(table: pa.Table, spec: TableGenerator) -> TableModel:
    """The model of a sample. Raises: ValueError as ``look``."""
    return fit_columns(table, *look(table, spec), kernel=spec.marginals == "kernel")


def fit_columns(
    table: pa.Table, columns: Sequence[ColumnModel], orders: Sequence[AtMost], left_out: Mapping[str, str], *, kernel: bool
) -> TableModel:
    """The model of these rows, of columns that are known already."""
    numbers = encode(table, columns, orders)
    columns = [fit_numbers(column, numbers[column.name], kernel=kernel) if column.kind in MODELLED else column for column in columns]
    drawn = [column for column in columns if column.marginal is not None]
    grades = grade_rows(drawn, numbers)
    return build_model(columns, grades.T @ grades / max(1, table.num_rows), orders, left_out)


def build_model(columns: Sequence[ColumnModel], products: np.ndarray, orders: Sequence[AtMost], left_out: Mapping[str, str]) -> TableModel:
    """The model whose rows have these mean products of grades.

    Which values are missing depends on other columns, so what is left of a column is no fair draw of its variable. Its marginal is
    therefore laid over the part of the variable that is left.
    """
    drawn = [column for column in columns if column.marginal is not None]
    correlation = fit_correlation(products, grader(drawn)) if drawn else np.empty((0, 0))
    holes = gappy(drawn)
    uniforms = draw(correlation, _DRAWS, np.random.default_rng(1)) if holes else np.empty((0, 0))
    settled = {}
    for at, column in enumerate(holes):
        assert column.marginal is not None
        kept = uniforms[uniforms[:, len(drawn) + at] <= 1 - column.nulls, drawn.index(column)]
        levels = np.quantile(kept, column.marginal.cumulative)
        levels[0], levels[-1] = 0.0, 1.0
        settled[column.name] = replace(column, marginal=replace(column.marginal, cumulative=levels))
    return TableModel(tuple(settled.get(column.name, column) for column in columns), correlation, tuple(orders), left_out)


def sort_orders(columns: Sequence[ColumnModel], at_most: Sequence[AtMost]) -> list[AtMost]:
    """The constraints such that each one's lower column is complete before it. Raises: ValueError."""
    kinds = {column.name: column.kind for column in columns}
    waiting, found = {order.high: order for order in at_most}, []
    if len(waiting) < len(at_most):
        raise ValueError("a column can be the 'high' of one constraint only: write a chain, a ≤ b and b ≤ c")
    for order in at_most:
        both = {kinds.get(name) for name in (order.low, order.high)}
        if len(both) != 1 or not both <= {ColumnKind.NUMBER, ColumnKind.INTEGER, ColumnKind.DATE}:
            raise ValueError(f"'{order.low}' ≤ '{order.high}' needs two columns of numbers or two of dates")
    while waiting:
        ready = [order for order in waiting.values() if order.low not in waiting]
        if not ready:
            raise ValueError(f"the constraints go round in a circle: {', '.join(sorted(waiting))}")
        found += ready
        waiting = {high: order for high, order in waiting.items() if order not in ready}
    return found


def encode(table: pa.Table | pa.RecordBatch, columns: Sequence[ColumnModel], orders: Sequence[AtMost]) -> dict[str, np.ndarray]:
    """Numbers by column; those of a constraint's higher column are its height above the lower one, at least 0."""
    numbers = {column.name: column.encode(table.column(column.name)) for column in columns if column.kind in MODELLED}
    whole = dict(numbers)
    for order in orders:
        numbers[order.high] = np.maximum(whole[order.high] - whole[order.low], 0)
    return numbers


def _order_categories(columns: Sequence[ColumnModel], numbers: Mapping[str, np.ndarray]) -> list[ColumnModel]:
    """Categories along the first principal component of the numbers' ranks, so that one variable can carry what they have in common.
    Without numbers they stay by frequency."""
    models = [fit_numbers(c, numbers[c.name]) for c in columns if c.kind in MODELLED and c.kind is not ColumnKind.CATEGORY]
    drawn = [model for model in models if model.marginal is not None]
    if not drawn:
        return list(columns)
    grades = np.column_stack([model.marginal.grades(numbers[model.name]) for model in drawn if model.marginal])
    main = grades @ np.linalg.eigh(grades.T @ grades)[1][:, -1]
    found = []
    for column in columns:
        if column.kind is ColumnKind.CATEGORY:
            codes = numbers[column.name]
            means = [float(main[codes == at].mean()) if np.any(codes == at) else 0.0 for at in range(len(column.values))]
            column = replace(column, values=tuple(column.values[at] for at in np.argsort(means, kind="stable")))
        found.append(column)
    return found


def _gaps(column: ColumnModel) -> Marginal:
    return from_counts(np.array([1 - column.nulls, column.nulls]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def grade_rows(drawn: Sequence[ColumnModel], numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """[rows, variables] grades of real rows, 0 where a value is missing; then those of the gaps."""
    values = [column.marginal.grades(numbers[column.name]) for column in drawn if column.marginal]
    gaps = [_gaps(column).grades(np.isnan(numbers[column.name]).astype(float)) for column in gappy(drawn)]
    return np.column_stack([*values, *gaps]) if values else np.empty((0, 0))


def grader(drawn: Sequence[ColumnModel]) -> Any:
    """``copula.Grade`` of these columns."""
    holes = gappy(drawn)
    places = [drawn.index(column) for column in holes]

    def grade(uniforms: np.ndarray) -> np.ndarray:
        uniforms = uniforms.copy()
        for at, column in enumerate(holes):
            kept = uniforms[:, len(drawn) + at] <= 1 - column.nulls
            uniforms[kept, places[at]] = (rankdata(uniforms[kept, places[at]]) - 0.5) / max(1, kept.sum())
        found = np.column_stack([column.marginal.snapped(uniforms[:, at]) for at, column in enumerate(drawn) if column.marginal])
        gaps = np.column_stack([_gaps(column).snapped(uniforms[:, len(drawn) + at]) for at, column in enumerate(holes)]) if holes else None
        if gaps is None:
            return found
        for at, column in enumerate(holes):
            found[:, places[at]] = np.where(uniforms[:, len(drawn) + at] > 1 - column.nulls, 0, found[:, places[at]])
        return np.column_stack([found, gaps])

    return grade


def generate(
    model: TableModel, rows: int, random: np.random.Generator, first: int = 0, where: Mapping[str, Value | Between] | None = None
) -> pa.Table:
    """Rows number ``first`` to ``first + rows`` of a synthetic table. Raises: ValueError for a condition that no row meets."""
    levels, exact = _hold(model, where or {})
    drawn, holes = model.drawn, model.gappy
    uniforms = draw(model.correlation, rows, random, levels) if drawn else np.empty((rows, 0))
    numbers = {column.name: column.marginal.values(uniforms[:, at]) for at, column in enumerate(drawn) if column.marginal}
    numbers |= {name: np.full(rows, value) for name, value in exact.items()}
    limits = {column.name: column for column in drawn}
    numbers = {name: limits[name].round(values) for name, values in numbers.items()}
    for order in model.at_most:
        if order.low in numbers and order.high in numbers:
            numbers[order.high] = numbers[order.low] + numbers[order.high]
    numbers = _within_bounds(model, numbers)
    for at, column in enumerate(holes):
        numbers[column.name] = np.where(uniforms[:, len(drawn) + at] > 1 - column.nulls, np.nan, numbers[column.name])
    arrays = [_write(column, numbers, rows, first, random) for column in model.columns]
    return pa.table(arrays, names=[column.name for column in model.columns])


def write_keys(model: TableModel, table: pa.Table, first: int, random: np.random.Generator) -> pa.Table:
    """The table with its keys anew, in the order of its rows."""
    for at, column in enumerate(model.columns):
        if column.kind is ColumnKind.KEY:
            table = table.set_column(at, column.name, _write(column, {}, table.num_rows, first, random))
    return table


def _within_bounds(model: TableModel, numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {column.name: np.clip(numbers[column.name], column.low, column.high) for column in model.drawn}
    for order in reversed(model.at_most):  # what was cut from above pulls those below it along
        if order.low in found and order.high in found:
            found[order.low] = np.minimum(found[order.low], found[order.high])
    return found


def _write(column: ColumnModel, numbers: Mapping[str, np.ndarray], rows: int, first: int, random: np.random.Generator) -> pa.Array:
    if column.kind is ColumnKind.KEY:
        keys = column.shapes.keys(first, rows, random) if column.shapes else range(first + 1, first + rows + 1)
        return pa.array(keys, column.type)
    if column.kind is ColumnKind.CODE and column.shapes:
        return pa.array(column.shapes.draw(rows, random), column.type)
    return column.decode(numbers.get(column.name, np.full(rows, np.nan)))


def _hold(model: TableModel, where: Mapping[str, Value | Between]) -> tuple[dict[int, tuple[float, float]], dict[str, float]]:
    """Conditions as levels of the copula's variables, and the values that are to stand there exactly."""
    levels: dict[int, tuple[float, float]] = {}
    exact: dict[str, float] = {}
    names, holes = [column.name for column in model.drawn], [column.name for column in model.gappy]
    higher = {order.high: order.low for order in model.at_most}
    for name, wanted in where.items():
        if name not in names:
            raise ValueError(f"the condition names '{name}', but drawn are {', '.join(names)}")
        if name in higher:
            raise ValueError(f"'{name}' is drawn above '{higher[name]}': put the condition there")
        column = model.drawn[names.index(name)]
        if name in holes:
            gap = len(names) + holes.index(name)
            levels[gap] = (1 - column.nulls, 1.0) if wanted is None else (0.0, 1 - column.nulls)
        if wanted is None:
            if name not in holes:
                raise ValueError(f"no value of '{name}' is missing, so no row without one can be drawn")
            continue
        levels[names.index(name)] = _levels(column, wanted)
        if not isinstance(wanted, Between):
            exact[name] = column.number(wanted)
    return levels, exact


def _levels(column: ColumnModel, wanted: Value | Between) -> tuple[float, float]:
    if isinstance(wanted, Between):
        ends = to_bound(wanted.min), to_bound(wanted.max)
    else:
        ends = (column.number(wanted),) * 2
    assert column.marginal is not None
    below, upto = (float(level) for level in column.marginal.interval(*(float(end or 0) for end in ends)))
    if upto < below or upto <= 0 or below >= 1:
        raise ValueError(f"no row has such a '{column.name}': {wanted}")
    return below, upto
