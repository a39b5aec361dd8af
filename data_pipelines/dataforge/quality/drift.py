"""How far two profiles are apart, column by column, corrected for the number of columns. Pure.

A column is marked when the difference is certain (Holm's correction over all tests) and large enough to matter. Kolmogorov and
Smirnov's test for numbers, moments in time and lengths of texts; total variation with a chi-squared test for categories; the
population stability index for both, by its usual reading: over 0.1 shifted, over 0.25 strongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from data_pipelines.dataforge.quality.columns import ColumnProfile, Numbers
from data_pipelines.dataforge.quality.profiling import Profile

_BINS = 10
_LEAST_SHARE = 1e-4
_EXPECTED = 5.0


@dataclass(frozen=True)
class Difference:
    """One test of one column: its statistic (0 to 1), what it is, and how often chance alone would give as much."""

    column: str
    test: str
    statistic: float
    p_value: float
    psi: float | None = None


def compare_profiles(base: Profile, head: Profile, alpha: float, least: float) -> dict[str, Any]:
    """What differs from ``base`` to ``head``; ``least`` is the smallest statistic that is marked."""
    found = [
        each for name in base.columns if name in head.columns for each in compare_columns(name, base.columns[name], head.columns[name])
    ]
    for kind, names in (("images", ("brightness", "contrast", "widths", "heights")), ("texts", ("characters", "words"))):
        for name in names:
            found += _compare_numbers(f"{kind}: {name}", getattr(getattr(base, kind), name), getattr(getattr(head, kind), name))
    labels = [sum_counts(profile.labels.values()) for profile in (base, head)]
    if all(labels):
        found.append(compare_counts("labels", *labels))
    adjusted = correct([each.p_value for each in found])
    tests = [
        {**each.__dict__, "p_adjusted": p, "drifted": p < alpha and each.statistic >= least}
        for each, p in zip(found, adjusted, strict=True)
    ]
    retyped = [name for name in base.columns if name in head.columns and _types(base.columns[name]) != _types(head.columns[name])]
    return {
        "drifted": list(dict.fromkeys([*(str(test["column"]) for test in tests if test["drifted"]), *retyped])),
        "added": sorted(head.columns.keys() - base.columns.keys()),
        "removed": sorted(base.columns.keys() - head.columns.keys()),
        "retyped": {name: {"base": _types(base.columns[name]), "head": _types(head.columns[name])} for name in retyped},
        "rows": {"base": base.rows, "head": head.rows},
        "alpha": alpha,
        "least": least,
        "tests": sorted(tests, key=lambda test: (not test["drifted"], test["p_adjusted"])),
    }  # fmt: skip


def compare_columns(name: str, base: ColumnProfile, head: ColumnProfile) -> list[Difference]:
    """A test of the values, and one of how many are missing."""
    found = [_compare_nulls(name, base, head)]
    if base.categorical and head.categorical:
        return [*found, compare_counts(name, base.values.counts, head.values.counts)]
    for kind in ("numbers", "times", "lengths"):
        if all(getattr(each, kind).moments.count * 2 > each.rows - each.nulls > 0 for each in (base, head)):
            return found + _compare_numbers(name, getattr(base, kind), getattr(head, kind))
    return found


def _compare_numbers(name: str, base: Numbers, head: Numbers) -> list[Difference]:
    n, m = base.moments.count, head.moments.count
    if not n or not m:
        return []
    points = np.unique(np.concatenate([base.quantiles.weighted()[0], head.quantiles.weighted()[0]]))
    gap = float(np.abs(base.quantiles.shares_below(points) - head.quantiles.shares_below(points)).max())
    edges = np.unique(base.quantiles.at(np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = [np.diff(np.concatenate([[0.0], each.quantiles.shares_below(edges), [1.0]])) for each in (base, head)]
    p_value = float(stats.kstwo.sf(gap, max(1, round(n * m / (n + m)))))
    return [Difference(name, "kolmogorov-smirnov", gap, p_value, stability_index(*shares))]


def compare_counts(name: str, base: Mapping[Any, int], head: Mapping[Any, int]) -> Difference:
    """Categories: half the sum of the differences of their shares."""
    keys = sorted({*base, *head}, key=str)
    table = np.array([[counts.get(key, 0) for key in keys] for counts in (base, head)], dtype=float)
    shares = table / table.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    return Difference(name, "total variation", distance, _chi_squared(table), stability_index(*shares))


def _chi_squared(table: np.ndarray) -> float:
    """Rare categories are one, as the test asks for."""
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = expected < _EXPECTED
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(stats.chi2_contingency(pooled).pvalue) if pooled.shape[1] > 1 else 1.0


def _compare_nulls(name: str, base: ColumnProfile, head: ColumnProfile) -> Difference:
    """Two shares, by the pooled z-test."""
    shares = [each.nulls / max(1, each.rows) for each in (base, head)]
    pooled = (base.nulls + head.nulls) / max(1, base.rows + head.rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / max(1, base.rows) + 1 / max(1, head.rows)))
    gap = abs(shares[0] - shares[1])
    return Difference(name, "missing values", gap, float(2 * stats.norm.sf(gap / error)) if error else 1.0)


def stability_index(base: np.ndarray, head: np.ndarray) -> float:
    """The population stability index of two sets of shares; a share of nothing counts as 0.01 %."""
    base, head = np.maximum(base, _LEAST_SHARE), np.maximum(head, _LEAST_SHARE)
    return float(((head - base) * np.log(head / base)).sum())


def correct(p_values: Sequence[float]) -> list[float]:
    """Holm (1979): the family-wise error stays under alpha, whatever the tests have to do with each other."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = highest
    return adjusted


def sum_counts(parts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _types(column: ColumnProfile) -> list[str]:
    """The types that at least one in a hundred values has."""
    total = sum(column.types.values())
    return sorted(name for name, count in column.types.items() if count >= 0.01 * total)
