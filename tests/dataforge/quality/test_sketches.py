"""Summaries merge: of parts, in any order, they say what they say of the whole."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_pipelines.dataforge.quality.rows import RowSample
from data_pipelines.dataforge.quality.sketches import Distinct, Frequencies, Moments, Quantiles

FLOATS = st.floats(-1e6, 1e6, allow_nan=False)
PARTS = st.lists(arrays(float, st.integers(0, 50), elements=FLOATS), min_size=1, max_size=6)


def merged(kind, parts):
    total = kind()
    for part in parts:
        one = kind()
        one.add(part)
        total.merge(one)
    return total


class TestMoments:
    @given(PARTS)
    def test_of_parts_are_those_of_the_whole(self, parts: list[np.ndarray]) -> None:
        whole, found = np.concatenate(parts), merged(Moments, parts)
        assert found.count == whole.size
        if whole.size:
            assert found.mean == pytest.approx(whole.mean(), abs=1e-6)
            assert (found.minimum, found.maximum) == (whole.min(), whole.max())
        if whole.size > 1:
            assert found.deviation == pytest.approx(whole.std(ddof=1), rel=1e-6, abs=1e-4)

    def test_stay_right_far_from_zero(self) -> None:
        values = 1e9 + np.random.default_rng(0).normal(size=100_000)
        assert merged(Moments, np.array_split(values, 100)).deviation == pytest.approx(values.std(ddof=1), rel=1e-6)


class TestQuantiles:
    @given(PARTS)
    def test_are_exact_while_the_values_are_few(self, parts: list[np.ndarray]) -> None:
        whole = np.sort(np.concatenate(parts))
        found = merged(Quantiles, parts).at([0.0, 0.5, 1.0])
        assert found == ([whole[0], whole[(whole.size - 1) // 2], whole[-1]] if whole.size else [])

    @pytest.mark.parametrize("order", ["random", "sorted", "reversed"])
    def test_are_near_the_truth_in_bounded_memory(self, order: str) -> None:
        values = np.random.default_rng(0).lognormal(size=1_000_000)
        values = {"random": values, "sorted": np.sort(values), "reversed": np.sort(values)[::-1]}[order]
        sketch = merged(Quantiles, np.array_split(values, 37))
        assert sum(level.size for level in sketch.levels) < 1024 * 21
        ordered = np.sort(values)
        for share, value in zip((0.01, 0.25, 0.5, 0.75, 0.99), sketch.at((0.01, 0.25, 0.5, 0.75, 0.99)), strict=True):
            assert abs(np.searchsorted(ordered, value) / ordered.size - share) < 0.005
        assert sum(sketch.histogram(0, 100)["counts"]) == pytest.approx(values.size)


class TestDistinct:
    @given(st.lists(arrays(np.uint64, st.integers(0, 50), elements=st.integers(0, 100)), min_size=1, max_size=5))
    def test_is_exact_while_they_are_few(self, parts: list[np.ndarray]) -> None:
        found = merged(Distinct, parts)
        assert found.exact and found.estimate() == np.unique(np.concatenate(parts)).size

    def test_is_estimated_within_its_error_above(self) -> None:
        hashes = np.random.default_rng(0).integers(0, 2**64, 500_000, dtype=np.uint64)
        found = merged(Distinct, [*np.array_split(hashes, 20), hashes[:1000]])
        assert not found.exact and found.estimate() == pytest.approx(500_000, rel=0.05)


class TestFrequencies:
    def test_are_exact_up_to_a_thousand_values(self) -> None:
        values = Counter({str(number): number + 1 for number in range(1000)})
        found = Frequencies()
        for _ in range(3):
            found.add(values)
        assert found.exact and found.top(1) == [("999", 3000)]

    @settings(max_examples=20)
    @given(st.integers(0, 2**32))
    def test_never_count_too_much_and_miss_no_more_than_they_say(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        truth: Counter[str] = Counter()
        found = Frequencies()
        for _ in range(5):
            part = Counter(map(str, random.zipf(1.2, 5000)))
            truth.update(part)
            found.add(part)
        assert all(truth[value] - found.missed <= count <= truth[value] for value, count in found.counts.items())
        assert all(count <= found.missed for value, count in truth.items() if value not in found.counts)


class TestRowSample:
    def test_of_parts_finds_each_copy_and_each_leak(self) -> None:
        train, test = RowSample(), RowSample()
        train.add("train.csv", 0, np.array([5, 6, 7, 7], np.uint64), "train")
        test.add("test.csv", 10, np.array([9, 6], np.uint64), "test")
        train.merge(test)
        duplicates, (leak,) = train.duplicates(), train.leakage()
        assert duplicates["rows"] == 2 and duplicates["exact"]
        assert (leak["splits"], leak["rows"], leak["share"]) == (["train", "test"], 1, 0.5)
        assert leak["examples"] == [{"train": "train.csv:2", "test": "test.csv:12"}]

    def test_beyond_its_bound_estimates_without_bias(self) -> None:
        hashes = np.random.default_rng(0).integers(0, 2**64, 200_000, dtype=np.uint64)
        total = RowSample(kept=10_000)
        for number, part in enumerate(np.array_split(np.concatenate([hashes, hashes[:20_000]]), 11)):
            one = RowSample(kept=10_000)
            one.add(f"{number}.csv", 0, part, "all")
            total.merge(one)
        found = total.duplicates()
        assert not found["exact"] and found["rows"] == pytest.approx(20_000, rel=0.1)
        assert total.rows == 220_000 and math.isclose(total.scale, 20, rel_tol=0.05)
