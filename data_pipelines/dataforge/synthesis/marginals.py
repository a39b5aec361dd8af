"""One column's distribution as a row of cells: atoms where values repeat, intervals where they do not. Pure numpy.

A cell has a probability and spans ``low`` to ``high``; within an interval values are uniform. Categories, integers, quantiles, kernel
estimates and noisy histograms are all the same thing here, so the copula above has one kind of column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

MOST_CELLS = 1000
_KERNEL_POINTS = 2000


@dataclass(frozen=True)
class Marginal:
    """``cumulative`` [cells + 1] from 0 to 1; ``low`` and ``high`` [cells], ascending, equal for an atom."""

    cumulative: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def values(self, uniform: np.ndarray) -> np.ndarray:
        """The quantile function: values for numbers of (0, 1)."""
        cell = self._cell(uniform)
        begin, end, low, high = self.cumulative[cell], self.cumulative[cell + 1], self.low[cell], self.high[cell]
        # An interval does not reach its end: the last bit of a sum would make it the atom that begins there.
        return np.where(low < high, np.minimum(low + (uniform - begin) / (end - begin) * (high - low), np.nextafter(high, low)), low)

    def grades(self, values: np.ndarray) -> np.ndarray:
        """Where values lie, from -1 to 1: 2 F - 1, an atom at its middle; 0 where there is NaN."""
        below, upto = self.interval(values, values)
        return np.where(np.isnan(values), 0.0, below + upto - 1)

    def snapped(self, uniform: np.ndarray) -> np.ndarray:
        """``grades(values(uniform))`` without the values: atoms lose what lies within them."""
        cell = self._cell(uniform)
        middle = self.cumulative[cell] + self.cumulative[cell + 1] - 1
        return np.where(self.low[cell] == self.high[cell], middle, 2 * uniform - 1)

    def interval(self, least: np.ndarray | float, most: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """P(X < least) and P(X ≤ most)."""
        ends = np.column_stack([self.low, self.high]).ravel()
        levels = np.column_stack([self.cumulative[:-1], self.cumulative[1:]]).ravel()
        return _level(ends, levels, np.asarray(least), "left"), _level(ends, levels, np.asarray(most), "right")

    def _cell(self, uniform: np.ndarray) -> np.ndarray:
        return np.clip(np.searchsorted(self.cumulative, uniform, side="right") - 1, 0, self.low.size - 1)


def _level(ends: np.ndarray, levels: np.ndarray, values: np.ndarray, side: str) -> np.ndarray:
    at = np.searchsorted(ends, values, side="left" if side == "left" else "right")
    before, after = np.clip(at - 1, 0, ends.size - 1), np.clip(at, 0, ends.size - 1)
    width = ends[after] - ends[before]
    part = np.divide(values - ends[before], width, out=np.zeros(np.shape(values)), where=width > 0)
    # At the very value of an end its own level counts: the first of them from the left, the last from the right.
    edge = after if side == "left" else before
    exact = ends[edge] == values
    between = levels[before] + np.clip(part, 0, 1) * (levels[after] - levels[before])
    outside = np.where(at == 0, 0.0, np.where(at == ends.size, 1.0, between))
    return np.where(exact, levels[edge], outside)


def from_counts(counts: np.ndarray, low: np.ndarray, high: np.ndarray) -> Marginal:
    """Cells by how often each was seen; those never seen vanish. Without any count all are alike."""
    counts = np.asarray(counts, dtype=np.float64)
    counts = counts if counts.sum() > 0 else np.ones(counts.size)
    seen = counts > 0
    cumulative = np.concatenate([[0.0], np.cumsum(counts[seen])])
    return Marginal(cumulative / cumulative[-1], np.asarray(low, float)[seen], np.asarray(high, float)[seen])


def fit_atoms(values: np.ndarray) -> Marginal:
    """Each value as often as it was."""
    found, counts = np.unique(values, return_counts=True)
    return from_counts(counts, found, found)


def fit_marginal(values: np.ndarray, *, kernel: bool = False) -> Marginal:
    """Atoms where values repeat; else quantiles, or a kernel estimate of them, so that no single value is kept as it is."""
    distinct = np.unique(values).size
    if distinct == 1 or distinct <= min(MOST_CELLS, values.size // 2):
        return fit_atoms(values)
    cells = min(MOST_CELLS, values.size - 1)
    ends = _kernel_quantiles(values, cells) if kernel else _quantiles(values, cells)
    return _join_atoms(ends)


def _quantiles(values: np.ndarray, cells: int) -> np.ndarray:
    """The ends of ``cells`` equally likely cells. Places are whole numbers, so an end that is a value is that value to the last bit."""
    ordered = np.sort(values)
    place, rest = np.divmod(np.arange(cells + 1) * (ordered.size - 1), cells)
    after = np.minimum(place + 1, ordered.size - 1)
    return ordered[place] + (ordered[after] - ordered[place]) * (rest / cells)


def _join_atoms(ends: np.ndarray) -> Marginal:
    low, high = ends[:-1], ends[1:]
    first = np.concatenate([[True], ~((low[1:] == high[1:]) & (low[:-1] == high[:-1]) & (low[1:] == low[:-1]))])
    starts = np.flatnonzero(first)
    return from_counts(np.diff(starts, append=low.size), low[starts], high[starts])


def _kernel_quantiles(values: np.ndarray, cells: int) -> np.ndarray:
    """Gaussian kernels with Silverman's bandwidth (1986, eq. 3.31); the tails end three bandwidths beyond the data."""
    spread = float(np.std(values))
    quarters = float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.349
    width = 0.9 * (min(spread, quarters) or spread) * values.size**-0.2
    centres = np.quantile(values, (np.arange(_KERNEL_POINTS) + 0.5) / _KERNEL_POINTS) if values.size > _KERNEL_POINTS else values
    grid = np.linspace(values.min() - 3 * width, values.max() + 3 * width, 2 * cells)
    levels = np.array([ndtr((point - centres) / width).mean() for point in grid])
    return np.interp(np.linspace(0, 1, cells + 1), (levels - levels[0]) / (levels[-1] - levels[0]), grid)
