"""Drift marks exactly what has shifted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from aidos.schemas.dataforge.reports import DriftParams
from data_pipelines.dataforge.quality import pipeline
from data_pipelines.dataforge.quality.drift import compare_counts, correct
from data_pipelines.dataforge.quality.sketches import Quantiles
from tests.dataforge.quality.local_source import LocalSource

ROWS = 20_000


def write(folder: Path, seed: int, **changed: Any) -> Path:
    """Ten numbers, five categories, a date, a text; ``changed`` replaces columns."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"number_{at}": random.normal(size=ROWS) for at in range(10)}
    columns |= {f"category_{at}": random.choice(["a", "b", "c"], ROWS, p=[0.5, 0.3, 0.2]) for at in range(5)}
    columns["when"] = random.integers(0, 10**9, ROWS).astype("datetime64[s]")
    columns["text"] = [f"{number:x}" * (1 + number % 7) for number in random.integers(0, 2**60, ROWS)]
    folder.mkdir()
    pq.write_table(pa.table({name: pa.array(values) for name, values in (columns | changed).items()}), folder / "t.parquet")
    return folder


def drift(base: Path, head: Path, **params: Any) -> dict[str, Any]:
    asked = DriftParams(base="main", **params).model_copy(update={"base": str(base)})
    return pipeline.drift(LocalSource(head), asked)  # type: ignore[arg-type]  # in the place of a Source


RANDOM = np.random.default_rng(99)
SHIFTS: dict[str, tuple[str, Any]] = {
    "mean": ("number_3", RANDOM.normal(0.3, 1, ROWS)),
    "spread": ("number_3", RANDOM.normal(0, 1.3, ROWS)),
    "shares": ("category_2", RANDOM.choice(["a", "b", "c"], ROWS, p=[0.4, 0.3, 0.3])),
    "a new category": ("category_2", RANDOM.choice(["a", "b", "c", "d"], ROWS, p=[0.4, 0.3, 0.2, 0.1])),
    "missing values": ("number_7", [None if at % 10 == 0 else value for at, value in enumerate(RANDOM.normal(size=ROWS))]),
    "time": ("when", RANDOM.integers(2 * 10**8, 10**9, ROWS).astype("datetime64[s]")),
    "length": ("text", [f"{number:x}" * (2 + number % 7) for number in RANDOM.integers(0, 2**60, ROWS)]),
    "type": ("number_1", [str(value) for value in RANDOM.normal(size=ROWS)]),
}


class TestDrift:
    @pytest.mark.parametrize("shift", SHIFTS)
    def test_marks_exactly_the_column_that_shifted(self, tmp_path: Path, shift: str) -> None:
        column, values = SHIFTS[shift]
        found = drift(write(tmp_path / "base", 1), write(tmp_path / "head", 2, **{column: values}))
        assert found["drifted"] == [column]

    def test_marks_nothing_where_nothing_shifted(self, tmp_path: Path) -> None:
        found = drift(write(tmp_path / "base", 1), write(tmp_path / "head", 2))
        assert found["drifted"] == found["added"] == found["removed"] == []
        assert found["rows"] == {"base": ROWS, "head": ROWS}

    def test_does_not_mark_what_is_certain_and_tiny(self, tmp_path: Path) -> None:
        base = write(tmp_path / "base", 1)
        head = write(tmp_path / "head", 2, number_3=np.random.default_rng(3).normal(0.06, 1, ROWS))
        assert drift(base, head)["drifted"] == []
        assert drift(base, head, least=0.0)["drifted"] == ["number_3"]

    def test_names_columns_that_came_and_went(self, tmp_path: Path) -> None:
        found = drift(write(tmp_path / "base", 1, old=[1] * ROWS), write(tmp_path / "head", 2, new=[1] * ROWS))
        assert (found["added"], found["removed"], found["drifted"]) == (["new"], ["old"], [])


class TestStatistics:
    def test_kolmogorov_smirnov_is_scipys(self, tmp_path: Path) -> None:
        one, two = np.random.default_rng(1).normal(size=900), np.random.default_rng(2).normal(0.2, 1, 900)
        sketches = [Quantiles(), Quantiles()]
        for sketch, values in zip(sketches, (one, two), strict=True):
            sketch.add(values)
        points = np.concatenate([one, two])
        gap = np.abs(sketches[0].shares_below(points) - sketches[1].shares_below(points)).max()
        assert gap == pytest.approx(stats.ks_2samp(one, two).statistic)

    def test_total_variation_by_hand(self) -> None:
        assert compare_counts("x", {"a": 50, "b": 50}, {"a": 75, "c": 25}).statistic == pytest.approx(0.5)

    def test_the_correction_is_holms(self) -> None:
        p_values = list(np.random.default_rng(0).random(50) ** 3)
        assert correct(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
