"""Synthetic tables are like the real ones: marginals, correlations, categories, dates, missing values, constraints, conditions."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import ks_2samp, spearmanr
from sklearn.datasets import load_wine

from aidos.schemas.dataforge.synthesis import AtMost, Between, TableGenerator
from data_pipelines.dataforge.synthesis.codes import fit_shapes
from data_pipelines.dataforge.synthesis.comparing import compare_tables, total_variation
from data_pipelines.dataforge.synthesis.marginals import fit_marginal
from data_pipelines.dataforge.synthesis.mixture import fit_mixture, generate_mixture
from data_pipelines.dataforge.synthesis.pipeline import mark, unmark
from data_pipelines.dataforge.synthesis.tables import TableModel, fit_table, generate, look

pytestmark = pytest.mark.plain
ROWS = 4000


def people(rows: int = ROWS) -> pa.Table:
    """Correlated columns of every kind; incomes of older people are missing more often."""
    random = np.random.default_rng(0)
    hidden = random.multivariate_normal([0, 0, 0], [[1, 0.8, -0.5], [0.8, 1, -0.3], [-0.5, -0.3, 1]], rows)
    age = np.rint(40 + 12 * hidden[:, 0]).clip(18, 90).astype(int)
    start = np.datetime64("2020-01-01") + random.integers(0, 1000, rows)
    return pa.table(
        {
            "id": np.arange(rows),
            "age": age,
            "income": pa.array(np.exp(10 + 0.5 * hidden[:, 1]), mask=random.random(rows) < np.where(age > 50, 0.4, 0.05)),
            "kind": np.array(["low", "mid", "high"])[np.digitize(hidden[:, 2], [-0.5, 0.7])],
            "start": start.astype("datetime64[D]"),
            "end": (start + random.geometric(0.1, rows)).astype("datetime64[D]"),
            "card": [f"C-{number:05d}" for number in random.permutation(99_999)[:rows]],
        }
    )


def asked(**given: object) -> TableGenerator:
    return TableGenerator.model_validate({"make": "table", **given})


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """Floats, NaN where missing; dates as days; categories in their order."""
    values = table[name].combine_chunks()
    if pa.types.is_string(values.type):
        return np.array([["low", "mid", "high"].index(value) for value in values.to_pylist()], dtype=float)
    return np.asarray((values.cast(pa.int32()) if pa.types.is_date(values.type) else values).cast(pa.float64()), dtype=float)


@pytest.fixture(scope="module")
def real() -> pa.Table:
    return people()


@pytest.fixture(scope="module")
def model(real: pa.Table) -> TableModel:
    return fit_table(real, asked(at_most=[{"low": "start", "high": "end"}]))


@pytest.fixture(scope="module")
def made(model: TableModel) -> pa.Table:
    return generate(model, ROWS, np.random.default_rng(1))


class TestMarginals:
    @pytest.mark.parametrize("name", ["age", "income", "start", "end"])
    def test_of_numbers_and_dates_are_kept(self, real: pa.Table, made: pa.Table, name: str) -> None:
        one, two = numbers(real, name), numbers(made, name)
        assert ks_2samp(one[~np.isnan(one)], two[~np.isnan(two)]).statistic < 0.05
        assert made.schema.field(name).type == real.schema.field(name).type

    def test_of_categories_and_of_missing_values_are_kept(self, real: pa.Table, made: pa.Table) -> None:
        assert total_variation(real["kind"].to_pylist(), made["kind"].to_pylist()) < 0.03
        assert made["income"].null_count == pytest.approx(real["income"].null_count, rel=0.15)
        assert made["age"].null_count == 0

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(-(10**6), 10**6).map(lambda number: number / 8), min_size=2, max_size=300), st.booleans())
    @example([-0.375, -0.25, -0.125, -0.125, 0.0, 0.0, 0.0, 0.0, 0.0, 0.125, 0.25], False)
    @example([0.125, 32.125, 32.125], False)
    def test_quantiles_and_grades_are_each_others_inverse(self, values: list[float], kernel: bool) -> None:
        marginal = fit_marginal(np.array(values), kernel=kernel)
        levels = np.linspace(0.001, 0.999, 101)
        drawn = marginal.values(levels)
        assert np.all(np.diff(drawn) >= -1e-6)
        assert np.allclose(marginal.grades(drawn), marginal.snapped(levels), atol=0.02)

    def test_may_be_smooth(self, real: pa.Table) -> None:
        smooth = generate(fit_table(real, asked(marginals="kernel")), ROWS, np.random.default_rng(1))
        one, two = numbers(real, "income"), numbers(smooth, "income")
        assert ks_2samp(one[~np.isnan(one)], two[~np.isnan(two)]).statistic < 0.08


class TestCorrelations:
    @pytest.mark.parametrize(("one", "two"), [("age", "income"), ("age", "kind"), ("income", "kind")])
    def test_are_kept_through_ties_and_missing_values(self, real: pa.Table, made: pa.Table, one: str, two: str) -> None:
        def rho(table: pa.Table) -> float:
            return float(spearmanr(numbers(table, one), numbers(table, two), nan_policy="omit").statistic)

        assert rho(made) == pytest.approx(rho(real), abs=0.06)

    def test_with_what_is_missing_are_kept(self, real: pa.Table, made: pa.Table) -> None:
        def rho(table: pa.Table) -> float:
            return float(spearmanr(numbers(table, "age"), np.isnan(numbers(table, "income"))).statistic)

        assert rho(real) > 0.2 and rho(made) == pytest.approx(rho(real), abs=0.06)


class TestRows:
    def test_repeat_with_their_seed(self, model: TableModel, made: pa.Table) -> None:
        assert generate(model, ROWS, np.random.default_rng(1)).equals(made)
        assert not generate(model, ROWS, np.random.default_rng(2)).equals(made)

    def test_have_new_unique_keys_across_parts(self, model: TableModel) -> None:
        parts = [generate(model, 500, np.random.default_rng(at), first=500 * at) for at in range(4)]
        assert pa.concat_tables(parts)["id"].to_pylist() == list(range(1, 2001))

    def test_keep_the_shape_of_codes_and_none_of_their_letters(self, real: pa.Table, made: pa.Table) -> None:
        assert all(code.startswith("C-") and len(code) == 7 and code[2:].isdigit() for code in made["card"].to_pylist())
        assert len(set(made["card"].to_pylist()) & set(real["card"].to_pylist())) < ROWS / 10
        assert len(set(fit_shapes(real["card"]).keys(0, 5000, np.random.default_rng(0)))) == 5000

    def test_keep_a_below_b(self, made: pa.Table) -> None:
        assert np.all(numbers(made, "start") <= numbers(made, "end"))

    def test_keep_within_the_bounds_that_are_given(self, real: pa.Table) -> None:
        spec = asked(columns={"age": {"min": 30, "max": 40}, "start": {"min": "2021-01-01"}}, marginals="kernel")
        found = generate(fit_table(real, spec), 1000, np.random.default_rng(0))
        ages = numbers(found, "age")
        assert np.nanmin(ages) >= 30 and np.nanmax(ages) <= 40
        assert min(day for day in found["start"].to_pylist() if day) >= datetime.date(2021, 1, 1)

    def test_meet_the_conditions_and_what_follows_from_them(self, real: pa.Table, model: TableModel) -> None:
        where: dict[str, Any] = {"kind": "high", "age": Between(min=30, max=35)}
        found = generate(model, 1000, np.random.default_rng(2), where=where)
        assert set(found["kind"].to_pylist()) == {"high"} and set(found["age"].to_pylist()) == {30, 31, 32, 33, 34, 35}
        like = (numbers(real, "kind") == 2) & (numbers(real, "age") >= 30) & (numbers(real, "age") <= 35)
        assert np.nanmedian(numbers(found, "income")) == pytest.approx(np.nanmedian(numbers(real, "income")[like]), rel=0.15)
        assert generate(model, 50, np.random.default_rng(0), where={"income": None})["income"].null_count == 50

    @pytest.mark.parametrize(
        ("where", "said"),
        [
            ({"kind": "none"}, "has no value"),
            ({"age": Between(min=200, max=300)}, "no row"),
            ({"x": 1}, "names 'x'"),
            ({"end": None}, "above"),
        ],
    )
    def test_are_refused_where_none_can_meet_them(self, model: TableModel, where: dict[str, object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            generate(model, 10, np.random.default_rng(0), where=where)  # type: ignore[arg-type]  # what a request may hold

    def test_are_refused_for_constraints_in_a_circle(self, real: pa.Table) -> None:
        circle = [AtMost(low="start", high="end"), AtMost(low="end", high="start")]
        with pytest.raises(ValueError, match="circle"):
            fit_table(real, asked(at_most=[each.model_dump() for each in circle]))

    def test_come_from_tables_of_texts_empty_columns_and_lists_too(self) -> None:
        table = pa.table(
            {
                "n": ["1", "2", None, "4"] * 30,
                "x": ["0.5", "1e3", "-2", "7."] * 30,
                "zip": ["02139", "10115", "02139", "10115"] * 30,
                "day": ["2024-02-29", "2023-01-01", "2022-05-05", None] * 30,
                "at": ["2024-02-29T10:00:00Z", "2023-01-01T11:30:00Z", None, "2022-05-05T00:00:00+02:00"] * 30,
                "mixed": ["2024-02-29", "2023-01-01T00:00:00Z", "2022-02-31", "never"] * 30,
                "nothing": pa.nulls(120, pa.string()),
                "yes": [True, False, None, True] * 30,
                "list": [[1], [2], [], None] * 30,
            }
        )
        found = fit_table(table, asked(columns={"mixed": {"kind": "date"}}))
        schema = generate(found, 9, np.random.default_rng(0)).schema
        types = {field.name: str(field.type) for field in schema}
        times = {"day": "date32[day]", "at": "timestamp[us, tz=UTC]", "mixed": "timestamp[us]"}
        assert types == {"n": "int64", "x": "double", "zip": "string", **times, "nothing": "string", "yes": "bool"}
        assert generate(found, 2000, np.random.default_rng(0))["mixed"].null_count == pytest.approx(1000, abs=100)
        assert set(found.left_out or ()) == {"list"}
        assert set(generate(found, 200, np.random.default_rng(0))["zip"].to_pylist()) == {"02139", "10115"}


class TestByClass:
    def test_keep_what_tells_the_classes_apart(self) -> None:
        wine = load_wine()
        rows = np.random.default_rng(0).permutation(len(wine.target))
        columns = {f"x{at}": wine.data[rows, at] for at in range(wine.data.shape[1])}
        table = pa.table({**columns, "wine": [f"w{label}" for label in wine.target[rows]]})
        held, seen = table.slice(0, 45), table.slice(45)
        together = generate(fit_table(seen, asked()), 1000, np.random.default_rng(1))
        apart = generate_mixture(fit_mixture(seen, asked(by="wine")), 1000, np.random.default_rng(1))
        known, _, _ = look(seen, asked())
        scores = [compare_tables(known, seen, held, made, "wine")["learning"]["train_on_synthetic"] for made in (together, apart)]
        assert scores[1] > 0.95 and scores[1] >= scores[0]

    def test_has_the_shares_keys_and_conditions_of_the_rest(self, real: pa.Table) -> None:
        mixture = fit_mixture(real, asked(by="kind", at_most=[{"low": "start", "high": "end"}]))
        made = generate_mixture(mixture, ROWS, np.random.default_rng(1), first=100)
        assert made["id"].to_pylist() == list(range(101, 101 + ROWS)) and made.schema.names == real.schema.names
        assert total_variation(real["kind"].to_pylist(), made["kind"].to_pylist()) < 0.03
        assert np.all(numbers(made, "start") <= numbers(made, "end"))
        where: dict[str, Any] = {"kind": "high", "age": Between(min=30, max=35)}
        found = generate_mixture(mixture, 200, np.random.default_rng(2), where=where)
        assert set(found["kind"].to_pylist()) == {"high"} and set(found["age"].to_pylist()) <= {30, 31, 32, 33, 34, 35}
        with pytest.raises(ValueError, match="must say which"):
            generate_mixture(mixture, 10, np.random.default_rng(0), where={"age": 30})
        with pytest.raises(ValueError, match="there is kind"):
            fit_mixture(real, asked(by="income"))

    def test_draws_rare_values_and_missing_ones_from_the_whole(self) -> None:
        random = np.random.default_rng(0)
        table = pa.table({"x": random.normal(size=500), "kind": ["a"] * 400 + ["b"] * 12 + [None] * 88})
        made = generate_mixture(fit_mixture(table, asked(by="kind")), 5000, random)
        shares = Counter(made["kind"].to_pylist())
        assert shares["a"] / 5000 == pytest.approx(0.8, abs=0.03) and shares[None] / 5000 == pytest.approx(0.176, abs=0.03)
        assert 0 < shares["b"] / 5000 < 0.05


class TestMark:
    def test_stands_in_every_row_and_is_no_column_of_the_source(self, real: pa.Table) -> None:
        marked = mark(real, "synthetic")
        assert marked["synthetic"].to_pylist() == [True] * ROWS and unmark(marked, "synthetic").equals(real)
        assert unmark(pa.table({"synthetic": ["true", "true"], "a": [1, 2]}), "synthetic").column_names == ["a"]
        assert mark(real, None).equals(real) and unmark(marked, None).equals(marked)
        with pytest.raises(ValueError, match="of its own"):
            unmark(pa.table({"synthetic": ["nylon", "true"]}), "synthetic")
        with pytest.raises(ValidationError, match="another name"):
            asked(columns={"made_up": {"kind": "number"}}, marker="made_up")


class TestReport:
    def test_says_how_alike_they_are(self, real: pa.Table, model: TableModel, made: pa.Table) -> None:
        found = compare_tables(model.columns, real.slice(0, 3000), real.slice(3000), made, "kind")
        assert max(column["distance"] for column in found["columns"]) < 0.06
        assert found["correlations"]["max"] < 0.08 and found["correlations"]["pairs"] == 10
        learned = found["learning"]
        assert learned["chance"] < learned["train_on_synthetic"] and abs(learned["train_on_real"] - learned["train_on_synthetic"]) < 0.1
        assert found["nearest"]["copies_synthetic"] == 0 and found["nearest"]["closer"] < 0.1

    def test_tells_copies_from_drawn_rows_and_noise_from_data(self, real: pa.Table, model: TableModel) -> None:
        copied = compare_tables(model.columns, real.slice(0, 3000), real.slice(3000), real.slice(0, 1000), None)
        assert copied["nearest"]["copies_synthetic"] == 1 and copied["nearest"]["closer"] > 0.9 and "learning" not in copied
        shuffled = real.set_column(2, "income", real["income"].take(np.random.default_rng(0).permutation(ROWS)))
        apart = compare_tables(model.columns, real.slice(0, 3000), real.slice(3000), shuffled, None)["correlations"]
        assert apart["max"] > 0.5 and "income" in apart["worst"]


class TestAsked:
    def test_private_columns_need_all_that_would_be_seen_from_the_data(self) -> None:
        privacy = {"epsilon": 1.0}
        refused: list[dict[str, Any]] = [
            {},
            {"a": {}},
            {"a": {"kind": "number", "min": 0}},
            {"a": {"kind": "category"}},
            {"a": {"kind": "code"}},
        ]
        for columns in refused:
            with pytest.raises(ValidationError, match="under privacy"):
                asked(privacy=privacy, columns=columns)
        assert asked(privacy=privacy, columns={"a": {"kind": "key"}, "b": {"kind": "number", "min": 0, "max": 1}})
