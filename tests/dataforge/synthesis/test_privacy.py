"""Synthetic tables under differential privacy: the budget is kept and shown, and what one row says does not show."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp, spearmanr

from aidos.schemas.dataforge.synthesis import Privacy, TableGenerator
from data_pipelines.dataforge.synthesis import privacy as private
from data_pipelines.dataforge.synthesis.tables import TableModel, generate

pytestmark = pytest.mark.plain
COLUMNS = {
    "age": {"kind": "integer", "min": 18, "max": 90},
    "income": {"kind": "number", "min": 0, "max": 200_000},
    "kind": {"kind": "category", "values": ["low", "high"], "nullable": False},
    "since": {"kind": "date", "min": "2020-01-01", "max": "2022-12-31"},
}


def asked(epsilon: float = 2.0, delta: float = 0.0, **more: object) -> TableGenerator:
    return TableGenerator.model_validate({"make": "table", "columns": COLUMNS, "privacy": {"epsilon": epsilon, "delta": delta}, **more})


def people(rows: int = 6000) -> pa.Table:
    random = np.random.default_rng(0)
    hidden = random.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], rows)
    return pa.table(
        {
            "age": np.rint(45 + 10 * hidden[:, 0]).clip(18, 90).astype(int),
            "income": pa.array(np.exp(10 + 0.4 * hidden[:, 1]), mask=random.random(rows) < 0.2),
            "kind": np.where(hidden[:, 0] + random.normal(size=rows) > 0, "high", "low"),
            "since": (np.datetime64("2020-01-01") + random.integers(0, 1000, rows)).astype("datetime64[D]"),
            "name": [f"person {at}" for at in range(rows)],
        }
    )


def fit(table: pa.Table, spec: TableGenerator, seed: int = 0) -> TableModel:
    """Over several batches, as workers do."""
    random, columns, counts, products = np.random.default_rng(seed), private.known_columns(spec), private.Counts(), private.Counts()
    batches = table.to_batches(max_chunksize=1000)
    for batch in batches:
        counts.merge(private.count_batch(batch, spec, columns))
    columns = private.fit_marginals(counts, spec, columns, random)
    for batch in batches:
        products.merge(private.multiply_batch(batch, spec, columns))
    return private.fit_private(products, spec, columns, random)


class TestBudget:
    @pytest.mark.parametrize("columns", [1, 2, 7, 40])
    @pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
    def test_of_all_parts_is_what_was_asked(self, columns: int, epsilon: float) -> None:
        pure = private.spend(Privacy(epsilon=epsilon), columns)
        assert sum(part.epsilon for part in pure) == pytest.approx(epsilon) and all(part.rho is None for part in pure)
        rho = sum(part.rho or 0 for part in private.spend(Privacy(epsilon=epsilon, delta=1e-6), columns))
        assert rho + 2 * math.sqrt(rho * math.log(1e6)) == pytest.approx(epsilon)

    def test_is_shown_part_by_part_and_with_what_was_spent_before(self) -> None:
        found = private.describe_budget(Privacy(epsilon=1.5, delta=1e-6), 3, [{"epsilon": 0.5, "delta": 0.0}, {}])
        assert (found["epsilon_of_all"], found["delta_of_all"], found["earlier_releases"]) == (2.0, 1e-6, 1)
        assert [part["what"] for part in found["parts"]] == ["histograms", "correlations"]

    def test_one_row_changes_counts_and_products_by_no_more_than_the_noise_is_made_for(self) -> None:
        spec, one = asked(), people(300)
        changed = {**one.slice(0, 1).to_pylist()[0], "age": 90, "income": 1e9, "kind": "low"}
        other = pa.concat_tables([pa.Table.from_pylist([changed], one.schema), one.slice(1)])
        columns = private.known_columns(spec)
        batches = [table.combine_chunks().to_batches()[0] for table in (one, other)]
        a, b = (private.count_batch(batch, spec, columns) for batch in batches)
        histograms, correlations = private.spend(Privacy(epsilon=1), len(columns))
        assert 0 < sum(np.abs(a.counts[name] - b.counts[name]).sum() for name in a.counts) <= histograms.sensitivity_l1
        fitted = private.fit_marginals(a, spec, columns, np.random.default_rng(0))
        p, q = (private.multiply_batch(batch, spec, fitted).products for batch in batches)
        change = np.abs(p - q)[np.triu_indices(len(columns), 1)] / private._UNIT**2
        assert 0 < change.max() <= 2 and change.sum() <= correlations.sensitivity_l1

    def test_makes_the_noise(self) -> None:
        laplace = private.spend(Privacy(epsilon=1.0), 3)[0]
        drawn = laplace.noisy(np.zeros(200_000), np.random.default_rng(0))
        assert laplace.scale == 2 * 3 / 0.5 and np.abs(drawn).mean() == pytest.approx(laplace.scale, rel=0.02)
        gauss = private.spend(Privacy(epsilon=1.0, delta=1e-6), 3)[0]
        assert gauss.noisy(np.zeros(200_000), np.random.default_rng(0)).std() == pytest.approx(gauss.scale, rel=0.02)
        assert not np.array_equal(private.secret_random().random(8), private.secret_random().random(8))


class TestPrivateRows:
    @pytest.mark.parametrize("delta", [0.0, 1e-6])
    def test_keep_marginals_and_correlations_where_there_are_many(self, delta: float) -> None:
        real = people()
        found = generate(fit(real, asked(4.0, delta)), 6000, np.random.default_rng(1))
        assert found.column_names == list(COLUMNS)
        assert ks_2samp(real["age"].to_numpy(), found["age"].drop_null().to_numpy()).statistic < 0.06
        assert found["income"].null_count / 6000 == pytest.approx(0.2, abs=0.03) and found["kind"].null_count == 0
        table = found.drop_null()
        rho = spearmanr(table["age"].to_numpy(), table["income"].to_numpy()).statistic
        assert rho == pytest.approx(0.68, abs=0.12)

    def test_say_nothing_of_one_row_that_lies_apart(self) -> None:
        real = people(2000)
        planted = {"age": 90, "income": 199_999.25, "kind": "low", "since": np.datetime64("2022-12-31").item(), "name": "the one"}
        table = pa.concat_tables([real, pa.Table.from_pylist([planted], real.schema)])
        found = generate(fit(table, asked(1.0)), 20_000, np.random.default_rng(1))
        wanted = {name: value for name, value in planted.items() if name in COLUMNS}
        assert wanted not in found.to_pylist() and 199_999.25 not in found["income"].to_pylist()

    def test_stay_within_the_bounds_that_were_given_and_order(self) -> None:
        columns = {"low": {"kind": "number", "min": 0, "max": 10}, "high": {"kind": "number", "min": 0, "max": 12}, "id": {"kind": "key"}}
        spec = asked(1.0, columns=columns, at_most=[{"low": "low", "high": "high"}])
        low = np.random.default_rng(0).random(3000) * 10
        found = generate(fit(pa.table({"low": low, "high": low + 1.0}), spec), 3000, np.random.default_rng(0)).drop_null()
        one, two = found["low"].to_numpy(), found["high"].to_numpy()
        assert np.all(one <= two) and one.min() >= 0 and two.max() <= 12
        assert np.median(two - one) == pytest.approx(1.0, abs=0.4)
