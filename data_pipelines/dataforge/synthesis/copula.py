"""The Gaussian copula: normal variables behind the columns, whose correlations make the columns' own (Nelsen 2006; Patki et al. 2016).

Correlations are fitted to the mean products of grades. Those are bounded, so that they can be published under differential privacy, and
of ties and missing values they say less than the variables behind them have; so the fit is corrected until what it draws has the same
products (NORTA; Cario and Nelson 1997).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import ndtr, ndtri

_DRAWS = 20_000
_ROUNDS = 8
_CLOSE = 0.005
_SWEEPS = 60
_LEAST_EIGENVALUE = 1e-6
_OPEN = 1e-12

Grade = Callable[[np.ndarray], np.ndarray]
"""Uniforms [rows, columns] as the grades [rows, columns] that a table drawn from them has; 0 where a value is missing."""


def fit_correlation(products: np.ndarray, grade: Grade) -> np.ndarray:
    """[columns, columns] correlations of the normals, such that what is drawn has the given mean products of grades."""
    draws = np.random.default_rng(0).standard_normal((_DRAWS, products.shape[0]))
    power = np.sqrt(np.maximum((grade(ndtr(draws)) ** 2).mean(axis=0), _LEAST_EIGENVALUE))
    target = np.clip(products / np.outer(power, power), -1, 1)
    correlation = to_correlation(2 * np.sin(np.pi * target / 6))  # Spearman's rho to Pearson's, exact without ties
    best, least = correlation, np.inf
    for _ in range(_ROUNDS):
        grades = grade(ndtr(draws @ np.linalg.cholesky(correlation).T))
        off = target - (grades.T @ grades) / _DRAWS / np.outer(power, power)
        np.fill_diagonal(off, 0)
        if (worst := float(np.abs(off).max(initial=0))) < least:
            best, least = correlation, worst
        if worst < _CLOSE:
            break
        correlation = to_correlation(correlation + off)
    return best


def to_correlation(matrix: np.ndarray) -> np.ndarray:
    """The matrix made symmetric and positive definite with ones on the diagonal: small and negative eigenvalues are raised."""
    clipped = np.clip((matrix + matrix.T) / 2, -1, 1)
    np.fill_diagonal(clipped, 1)
    values, vectors = np.linalg.eigh(clipped)
    if values[0] < _LEAST_EIGENVALUE:
        clipped = (vectors * np.maximum(values, _LEAST_EIGENVALUE * 10)) @ vectors.T
        scale = np.sqrt(np.diag(clipped))
        clipped = clipped / np.outer(scale, scale)
    return np.asarray(clipped)


def draw(
    correlation: np.ndarray, rows: int, random: np.random.Generator, within: Mapping[int, tuple[float, float]] | None = None
) -> np.ndarray:
    """[rows, columns] uniforms with the copula's dependence. ``within``: of some columns, the levels of (0, 1) that they lie between.

    The columns that are held draw from their truncated normals by Gibbs sampling, one alone exactly; the others follow given those.
    """
    columns = correlation.shape[0]
    if not within:
        return np.asarray(ndtr(random.standard_normal((rows, columns)) @ np.linalg.cholesky(correlation).T))
    held = sorted(within)
    free = [at for at in range(columns) if at not in within]
    ends = np.clip([within[at] for at in held], _OPEN, 1 - _OPEN)
    normals = np.empty((rows, columns))
    normals[:, held] = _truncated(correlation[np.ix_(held, held)], ends, rows, random)
    if free:
        weights = np.linalg.solve(correlation[np.ix_(held, held)], correlation[np.ix_(held, free)])
        rest = correlation[np.ix_(free, free)] - correlation[np.ix_(free, held)] @ weights
        values, vectors = np.linalg.eigh(rest)
        spread = vectors * np.sqrt(np.maximum(values, 0))
        normals[:, free] = normals[:, held] @ weights + random.standard_normal((rows, len(free))) @ spread.T
    return np.asarray(ndtr(normals))


def _truncated(correlation: np.ndarray, ends: Sequence[Sequence[float]] | np.ndarray, rows: int, random: np.random.Generator) -> np.ndarray:
    limits = ndtri(np.asarray(ends))
    precision = np.linalg.inv(correlation)
    found = np.tile(ndtri(np.asarray(ends).mean(axis=1)), (rows, 1))
    for _ in range(_SWEEPS if len(limits) > 1 else 1):
        for at, (low, high) in enumerate(limits):
            spread = precision[at, at] ** -0.5
            mean = found[:, at] - (found @ precision[at]) / precision[at, at]
            begin, end = ndtr((low - mean) / spread), ndtr((high - mean) / spread)
            level = np.clip(begin + random.random(rows) * (end - begin), _OPEN, 1 - _OPEN)
            found[:, at] = np.clip(mean + spread * ndtri(level), low, high)
    return found
