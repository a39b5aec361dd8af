"""A table's model under differential privacy: noisy histograms and noisy products of grades (after DPCopula; Li, Xiong and Jiang 2014).

Neighbours are tables of equally many rows that differ in one (bounded differential privacy), so the number of rows is public. Columns,
bounds and categories are what the request says; nothing of them is read from the data. Half of the budget goes to the histograms, of
which one row changes two counts each, half to the products, of which one row changes each by at most 2. With δ = 0 noise is Laplace's and
the epsilons add up (Dwork and Roth 2014, thm. 3.16); else it is Gaussian and zero-concentrated budgets do (Bun and Steinke 2016, prop. 1.3
and 1.6). Counts and products are whole numbers before and after the noise, which comes from the operating system's entropy, never from the
seed of the request: who knew it could take the noise away.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from aidos.schemas.dataforge.synthesis import ColumnKind, Privacy, SyntheticColumn, TableGenerator
from data_pipelines.dataforge.synthesis.columns import DAY_US, MODELLED, ColumnModel, bounds
from data_pipelines.dataforge.synthesis.marginals import from_counts
from data_pipelines.dataforge.synthesis.tables import TableModel, build_model, encode, sort_orders

_TYPES = {ColumnKind.NUMBER: pa.float64(), ColumnKind.INTEGER: pa.int64(), ColumnKind.DATE: pa.timestamp("us"), ColumnKind.KEY: pa.int64()}
_UNIT = 1024
"""Grades are counted in this many steps from 0 to 1."""


@dataclass(frozen=True)
class Spending:
    """One noisy release: what it may cost and how much noise that takes."""

    what: str
    sensitivity_l1: float
    sensitivity_l2: float
    epsilon: float
    rho: float | None

    @property
    def scale(self) -> float:
        """Laplace's b, or the Gaussian's standard deviation."""
        return self.sensitivity_l1 / self.epsilon if self.rho is None else self.sensitivity_l2 / math.sqrt(2 * self.rho)

    def noisy(self, exact: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = random.laplace(0, self.scale, exact.shape) if self.rho is None else random.normal(0, self.scale, exact.shape)
        return np.asarray(np.rint(exact + noise))

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "epsilon": self.epsilon, "rho": self.rho, "noise_scale": self.scale}


def spend(privacy: Privacy, columns: int) -> list[Spending]:
    """What the histograms of so many columns, and the products of every two of them, may cost; together never more than asked."""
    pairs = columns * (columns - 1) // 2
    shares = {"histograms": 0.5, "correlations": 0.5} if pairs else {"histograms": 1.0}
    sensitivities = {"histograms": (2.0 * columns, math.sqrt(2 * columns)), "correlations": (2.0 * pairs, 2 * math.sqrt(pairs))}
    whole = to_rho(privacy.epsilon, privacy.delta) if privacy.delta else None
    return [
        Spending(what, *sensitivities[what], privacy.epsilon * share, None if whole is None else whole * share)
        for what, share in shares.items()
    ]


def to_rho(epsilon: float, delta: float) -> float:
    """The ρ whose ρ-zCDP is (ε, δ)-differentially private: ε = ρ + 2 √(ρ ln 1/δ), solved for ρ."""
    log = math.log(1 / delta)
    return (math.sqrt(log + epsilon) - math.sqrt(log)) ** 2


def known_columns(spec: TableGenerator) -> list[ColumnModel]:
    """The columns as the request says. The marginals of ``encode``'s numbers are still to come."""
    return [
        _known(name, column, column.kind)
        for name, column in spec.columns.items()
        if column.kind is not None and column.kind is not ColumnKind.SKIP
    ]


def _known(name: str, spec: SyntheticColumn, kind: ColumnKind) -> ColumnModel:
    low, high = bounds(spec)
    if kind is ColumnKind.CATEGORY:
        values = tuple(spec.values or ())
        return ColumnModel(name, kind, pa.array(values).type, values=values)
    if kind is ColumnKind.DATE and all(len(str(bound)) == len("2026-01-31") for bound in (spec.min, spec.max)):
        return ColumnModel(name, kind, pa.date32(), low=low, high=high, step_us=DAY_US)
    return ColumnModel(name, kind, _TYPES[kind], low=low, high=high)


@dataclass
class Counts:
    """Histograms by column, the last count being that of missing values; over all rows, merged from all workers."""

    rows: int = 0
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    products: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def merge(self, other: Counts) -> None:
        self.rows += other.rows
        for name, counts in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + counts
        self.products = (
            other.products if not self.products.size else self.products + other.products if other.products.size else self.products
        )


def edges(column: ColumnModel, spec: TableGenerator, columns: Sequence[ColumnModel]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of a column's bins, from the request alone."""
    assert spec.privacy is not None
    if column.kind is ColumnKind.CATEGORY:
        places = np.arange(len(column.values), dtype=float)
        return places, places
    low, high = column.low, column.high
    lower = {order.high: order.low for order in spec.at_most}.get(column.name)
    if lower is not None:
        low, high = 0.0, max(0.0, high - next(each.low for each in columns if each.name == lower))
    if column.kind is ColumnKind.INTEGER and high - low < spec.privacy.bins:
        places = np.arange(np.ceil(low), np.floor(high) + 1)
        return places, places
    ends = np.linspace(low, high, spec.privacy.bins + 1)
    return ends[:-1], ends[1:]


def count_batch(batch: pa.RecordBatch, spec: TableGenerator, columns: Sequence[ColumnModel]) -> Counts:
    """The histograms of some rows."""
    numbers = encode(_complete(batch, columns), columns, sort_orders(columns, spec.at_most))
    found = Counts(batch.num_rows)
    for column in columns:
        if column.kind in MODELLED:
            low, _ = edges(column, spec, columns)
            values = numbers[column.name]
            places = np.clip(np.searchsorted(low, values, side="right") - 1, 0, low.size - 1)
            places[np.isnan(values)] = low.size
            found.counts[column.name] = np.bincount(places, minlength=low.size + 1)
    return found


def _complete(batch: pa.RecordBatch, columns: Sequence[ColumnModel]) -> pa.Table:
    """The columns that were asked for; one that a file does not have is missing in all its rows."""
    have = set(batch.schema.names)
    arrays = [batch.column(column.name) if column.name in have else pa.nulls(batch.num_rows, pa.string()) for column in columns]
    return pa.table(arrays, names=[column.name for column in columns])


def fit_marginals(counts: Counts, spec: TableGenerator, columns: Sequence[ColumnModel], random: np.random.Generator) -> list[ColumnModel]:
    """The columns with their noisy marginals."""
    assert spec.privacy is not None
    modelled = [column for column in columns if column.kind in MODELLED]
    spending = spend(spec.privacy, len(modelled))[0]
    found = []
    for column in columns:
        if column.kind in MODELLED:
            noisy = np.maximum(spending.noisy(counts.counts[column.name], random), 0)
            values, missing = noisy[:-1], float(noisy[-1]) if spec.columns[column.name].nullable else 0.0
            nulls = missing / max(1.0, float(values.sum()) + missing)
            column = replace(column, marginal=from_counts(values, *edges(column, spec, columns)), nulls=min(nulls, 0.999))
        found.append(column)
    return found


def multiply_batch(batch: pa.RecordBatch, spec: TableGenerator, columns: Sequence[ColumnModel]) -> Counts:
    """Sums of products of grades, in steps of ``1 / _UNIT²``. A grade follows from the row and the noisy marginals alone."""
    drawn = [column for column in columns if column.marginal is not None]
    numbers = encode(_complete(batch, columns), columns, sort_orders(columns, spec.at_most))
    grades = [np.clip(column.marginal.grades(numbers[column.name]), -1, 1) for column in drawn if column.marginal]
    steps = np.rint(np.column_stack(grades) * _UNIT) if grades else np.zeros((batch.num_rows, 0))
    return Counts(batch.num_rows, products=steps.T @ steps)


def fit_private(counts: Counts, spec: TableGenerator, columns: Sequence[ColumnModel], random: np.random.Generator) -> TableModel:
    """The model of noisy marginals and noisy products. Gaps are taken to be independent of all else, which costs nothing."""
    assert spec.privacy is not None
    drawn = [column for column in columns if column.marginal is not None]
    size, variables = len(drawn), len(drawn) + sum(0 < column.nulls < 1 for column in drawn)
    products = np.zeros((variables, variables))
    if size > 1:
        upper = np.triu_indices(size, 1)
        spending = spend(spec.privacy, size)[1]
        scaled = replace(spending, sensitivity_l1=spending.sensitivity_l1 * _UNIT**2, sensitivity_l2=spending.sensitivity_l2 * _UNIT**2)
        noisy = scaled.noisy(counts.products[upper], random) / _UNIT**2 / max(1, counts.rows)
        products[upper] = noisy
        products += products.T
    return build_model(columns, products, sort_orders(columns, spec.at_most), {})


def secret_random() -> np.random.Generator:
    """Noise that nobody can draw again."""
    return np.random.default_rng(secrets.randbits(256))


def describe_budget(privacy: Privacy, columns: int, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What this release cost, part by part, and with all earlier ones of the dataset: epsilons and deltas of releases add up."""
    before = [each for each in earlier if each]
    return {
        "unit": "one row, the number of rows being public",
        "mechanism": "Gaussian, zero-concentrated" if privacy.delta else "Laplace",
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "parts": [part.to_json() for part in spend(privacy, columns)],
        "earlier_releases": len(before),
        "epsilon_of_all": privacy.epsilon + sum(each["epsilon"] for each in before),
        "delta_of_all": privacy.delta + sum(each.get("delta", 0) for each in before),
    }
