"""How alike real and synthetic data are: column by column, in their correlations, to a model that learns, and row by row. No Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import ks_2samp, rankdata
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import accuracy_score, f1_score, r2_score
from sklearn.neighbors import NearestNeighbors

from aidos.schemas.dataforge.synthesis import ColumnKind
from data_pipelines.dataforge.synthesis.columns import MODELLED, ColumnModel, to_texts

TRAINED_ROWS = 10_000
NEAREST_OF = 20_000
NEAREST_ROWS = 5000
_MOST_CLASSES = 100
_SHOWN_CATEGORIES = 50
_QUANTILES = (0.05, 0.5)


def compare_tables(columns: Sequence[ColumnModel], seen: pa.Table, held: pa.Table, made: pa.Table, target: str | None) -> dict[str, Any]:
    """A synthetic sample beside the rows that the model saw and those held back from it. Columns that only one has are left aside."""
    real = pa.concat_tables([seen, held])
    columns = [column for column in columns if column.kind in MODELLED and column.name in made.column_names]
    frames = {name: Frame.of(columns, table) for name, table in (("real", real), ("made", made), ("seen", seen), ("held", held))}
    found: dict[str, Any] = {
        "rows": {"seen": seen.num_rows, "held_out": held.num_rows, "synthetic": made.num_rows},
        "columns": [compare_column(column, frames["real"], frames["made"]) for column in columns],
        "correlations": compare_correlations(frames["real"], frames["made"]),
        "nearest": compare_distances(
            frames["seen"].vectors(frames["seen"]), frames["held"].vectors(frames["seen"]), frames["made"].vectors(frames["seen"])
        )
        | count_copies(columns, seen, held, made),
    }
    if target is not None:
        found["learning"] = compare_learning(frames["seen"], frames["held"], frames["made"], target)
    return found


@dataclass(frozen=True)
class Frame:
    """Columns as numbers: NaN where a value is missing, places for categories."""

    columns: Sequence[ColumnModel]
    numbers: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, columns: Sequence[ColumnModel], table: pa.Table) -> Frame:
        return cls(columns, {column.name: column.encode(table.column(column.name)) for column in columns})

    def vectors(self, like: Frame, without: str | None = None) -> np.ndarray:
        """[rows, features]: numbers by the standard deviation that they have in ``like``; categories, and gaps, one by one."""
        parts = [np.zeros((self.rows, 0))]
        for column in self.columns:
            values, scale = self.numbers[column.name], like.numbers[column.name]
            if column.name == without:
                continue
            missing = np.isnan(values)
            if column.kind is ColumnKind.CATEGORY:
                shown = min(_SHOWN_CATEGORIES, len(column.values))
                parts.append((values[:, None] == np.arange(shown)[None, :]) / np.sqrt(2))
            elif (~np.isnan(scale)).any():
                spread = float(np.nanstd(scale)) or 1.0
                parts.append(((np.where(missing, np.nanmedian(scale), values) - np.nanmedian(scale)) / spread)[:, None])
            if np.isnan(scale).any():
                parts.append(missing[:, None] / np.sqrt(2))
        return np.concatenate(parts, axis=1)

    @property
    def rows(self) -> int:
        return next((values.size for values in self.numbers.values()), 0)


def compare_column(column: ColumnModel, real: Frame, made: Frame) -> dict[str, Any]:
    """Kolmogorov-Smirnov's distance of numbers and dates, the total variation of categories; and the shares of missing values."""
    one, two = real.numbers[column.name], made.numbers[column.name]
    nulls = {"real": float(np.isnan(one).mean()) if one.size else 0.0, "synthetic": float(np.isnan(two).mean()) if two.size else 0.0}
    one, two = one[~np.isnan(one)], two[~np.isnan(two)]
    test = "total variation" if column.kind is ColumnKind.CATEGORY else "Kolmogorov-Smirnov"
    if not one.size or not two.size:
        distance = float(one.size != two.size)
    elif column.kind is ColumnKind.CATEGORY:
        distance = total_variation(one, two)
    else:
        distance = float(ks_2samp(one, two, method="asymp").statistic)
    return {"column": column.name, "kind": column.kind.value, "test": test, "distance": distance, "nulls": nulls}


def total_variation(one: Any, two: Any) -> float:
    """Half of what the shares of all values differ by."""
    left, right = Counter(np.asarray(one).tolist()), Counter(np.asarray(two).tolist())
    return sum(abs(left[value] / len(one) - right[value] / len(two)) for value in {*left, *right}) / 2


def compare_correlations(real: Frame, made: Frame) -> dict[str, Any]:
    """Spearman's correlations of every two columns, categories by their places: how far apart they are, at most and on average."""
    names = [column.name for column in real.columns]
    differences = np.abs(_spearman(real, names) - _spearman(made, names))
    pairs = [(differences[a, b], names[a], names[b]) for a in range(len(names)) for b in range(a) if np.isfinite(differences[a, b])]
    worst = max(pairs, default=(0.0, "", ""))
    return {
        "pairs": len(pairs),
        "max": float(worst[0]),
        "mean": float(np.mean([pair[0] for pair in pairs])) if pairs else 0.0,
        "worst": [worst[2], worst[1]] if pairs else [],
    }


def _spearman(frame: Frame, names: Sequence[str]) -> np.ndarray:
    ranks = np.column_stack([np.where(np.isnan(v := frame.numbers[name]), np.nan, rankdata(v, nan_policy="omit")) for name in names])
    found = np.full((len(names), len(names)), np.nan)
    for a in range(len(names)):
        for b in range(a):
            both = ~np.isnan(ranks[:, a]) & ~np.isnan(ranks[:, b])
            one, two = ranks[both, a], ranks[both, b]
            if both.sum() > 2 and one.std() and two.std():
                found[a, b] = np.corrcoef(one, two)[0, 1]
    return found


def compare_learning(seen: Frame, held: Frame, made: Frame, target: str) -> dict[str, Any]:
    """A model that predicts ``target``: trained on synthetic and tested on real rows, and trained on real rows; both on the held out."""
    column = next((each for each in seen.columns if each.name == target), None)
    if column is None:
        raise ValueError(f"target '{target}' is none of the drawn columns: {', '.join(each.name for each in seen.columns)}")
    parts = {name: (frame.vectors(seen, without=target), frame.numbers[target]) for name, frame in (("real", seen), ("synthetic", made))}
    return {
        "target": target,
        **score_learning(parts, (held.vectors(seen, without=target), held.numbers[target]), column.kind is ColumnKind.CATEGORY),
    }


def score_learning(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], test: tuple[np.ndarray, np.ndarray], classes: bool
) -> dict[str, Any]:
    """Scores of a forest trained on each part, on the same real test rows; ``chance`` is what knowing nothing scores."""
    vectors, wanted = _known(*test)
    found: dict[str, Any] = {"measure": "accuracy" if classes else "R²", "tested_on": int(wanted.size)}
    if classes and np.unique(wanted).size > _MOST_CLASSES:
        return {**found, "skipped": f"the target has over {_MOST_CLASSES} classes"}
    for name, part in parts.items():
        features, labels = _known(*part)
        if not wanted.size or labels.size < 2:
            return {**found, "skipped": f"{labels.size} rows to train on and {wanted.size} to test on are too few"}
        forest = (ExtraTreesClassifier if classes else ExtraTreesRegressor)(200, min_samples_leaf=2, random_state=0, n_jobs=1)
        guessed = forest.fit(features, labels).predict(vectors)
        found[f"train_on_{name}"] = float(accuracy_score(wanted, guessed) if classes else r2_score(wanted, guessed))
        if classes:
            found[f"train_on_{name}_f1"] = float(f1_score(wanted, guessed, average="macro"))
    found["chance"] = max(Counter(wanted.tolist()).values()) / wanted.size if classes else 0.0
    return found


def _known(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(labels)
    return vectors[known][:TRAINED_ROWS], labels[known][:TRAINED_ROWS]


def compare_distances(seen: np.ndarray, held: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """Distances to the nearest seen row: of synthetic rows, and of held out rows, which were no part of it either.

    ``closer`` is the share of synthetic rows nearer than all but 5 % of the held out: 0.05 where they are no nearer than chance.
    """
    if not seen.size or not made.size:
        return {}
    index = NearestNeighbors(n_neighbors=1).fit(seen[:NEAREST_OF])
    found: dict[str, Any] = {"synthetic": _quantiles(near := index.kneighbors(made[:NEAREST_ROWS])[0][:, 0])}
    if held.size:
        baseline = index.kneighbors(held[:NEAREST_ROWS])[0][:, 0]
        found |= {"held_out": _quantiles(baseline), "closer": float((near < np.quantile(baseline, _QUANTILES[0])).mean())}
    return found


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    low, median = np.quantile(distances, _QUANTILES)
    return {"p5": float(low), "median": float(median), "min": float(distances.min())}


def count_copies(columns: Sequence[ColumnModel], seen: pa.Table, held: pa.Table, made: pa.Table) -> dict[str, Any]:
    """The share of rows that stand in the seen data as they are, keys and codes aside; of held out rows for comparison."""
    known = set(_rows(columns, seen))
    shares = {name: [row in known for row in _rows(columns, table)] for name, table in (("synthetic", made), ("held_out", held))}
    return {f"copies_{name}": float(np.mean(each)) if each else 0.0 for name, each in shares.items()}


def _rows(columns: Sequence[ColumnModel], table: pa.Table) -> list[tuple[Any, ...]]:
    texts = [
        to_texts(column.decode(column.encode(table.column(column.name)))).to_pylist()
        if column.kind is ColumnKind.CATEGORY
        else column.encode(table.column(column.name)).tolist()
        for column in columns
    ]
    return list(zip(*([None if value != value else value for value in each] for each in texts), strict=True))
