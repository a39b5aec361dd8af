"""The query language over runs: what it reads, and what it says of what it cannot read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from actors.modelhub.search.errors import InvalidQuery
from actors.modelhub.search.language import LONGEST_QUERY, parse_query
from actors.modelhub.search.models import Combination, Comparison, Entity

pytestmark = pytest.mark.plain
A, B, C = (Comparison(Entity.METRIC, name, ">", 1.0) for name in "abc")
# A query, the character where it goes wrong, a word of what was expected there.
BAD: list[tuple[str, int, str]] = [
    ("", 1, "a field"),
    ("   ", 4, "a field"),
    ("metrics.acc", 12, "like"),
    ("metrics.acc >", 14, "a number"),
    ("metrics.acc > '0.9'", 15, "a number"),
    ("metrics.acc >> 1", 14, "a number"),
    ("metrics. > 1", 8, "a field"),
    ("metrics.`` > 1", 8, "a field"),
    ("acc > 1", 1, "metrics.…"),
    ("data.file = 'x'", 1, "data.dataset or data.commit"),
    ("data.commit = 3", 15, "text in quotes"),
    ("state = FINISHED", 9, "text in quotes"),
    ("state = 'FINISHED", 9, "text in closed quotes"),
    ("state = 'FINISHED' metrics.a > 1", 20, "and, or"),
    ("metrics.a > 1 and", 18, "a field"),
    ("metrics.a > 1 or or metrics.b > 1", 18, "a field"),
    ("(metrics.a > 1", 15, ")"),
    ("metrics.a > 1)", 14, "the end"),
    ("not", 4, "a field"),
    ("metrics.a not 1", 15, "in, or is null"),
    ("metrics.a is 1", 14, "is null"),
    ("metrics.a like 'x'", 16, "holds text"),
    ("name in 'a'", 9, "( and a list"),
    ("name in ('a' 'b')", 14, ", or )"),
    ("name in ()", 10, "text in quotes"),
    ("started_at > 'yesterday'", 14, "a moment"),
    ("started_at > '0001-01-01T00:00:00+14:00'", 14, "a moment"),
    ("cost_usd < '2'", 12, "a number"),
    ("name = 'a'; drop table modelhub.runs", 11, "operator"),
    ("(" * 31 + "metrics.a > 1" + ")" * 31, 31, "deep"),
    ("not " * 31 + "metrics.a > 1", 121, "deep"),
    (" and ".join(["metrics.a > 1"] * 101), 1801, "at most 100"),
]


class TestWhatIsRead:
    def test_and_binds_closer_than_or_and_not_closer_than_and(self) -> None:
        found = parse_query("metrics.a > 1 or not metrics.b > 1 and metrics.c > 1")
        assert found == Combination("OR", (A, Combination("AND", (Combination("NOT", (B,)), C))))

    def test_parentheses_decide(self) -> None:
        assert parse_query("(metrics.a > 1 or metrics.b > 1) and metrics.c > 1") == Combination("AND", (Combination("OR", (A, B)), C))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("metrics.train/loss<=-1.5e-3", Comparison(Entity.METRIC, "train/loss", "<=", -1.5e-3)),
            ("metric.`val loss` == 1", Comparison(Entity.METRIC, "val loss", "=", 1.0)),
            ("params.lr = 0.1", Comparison(Entity.PARAM, "lr", "=", 0.1)),
            ('params.optimizer <> "it""s"', Comparison(Entity.PARAM, "optimizer", "!=", 'it"s')),
            ("tags.`a.b=c` is not null", Comparison(Entity.TAG, "a.b=c", "IS NOT NULL", None)),
            ("tags.and = 'or'", Comparison(Entity.TAG, "and", "=", "or")),
            ("NAME Not Like 'run-%'", Comparison(Entity.ATTRIBUTE, "name", "NOT LIKE", "run-%")),
            ("experiment not in ('a', \"b\")", Comparison(Entity.ATTRIBUTE, "experiment", "NOT IN", ("a", "b"))),
            ("data.dataset = 'digits'", Comparison(Entity.DATA, "dataset", "=", "digits")),
            ("git.commit like 'abc%'", Comparison(Entity.ATTRIBUTE, "git.commit", "LIKE", "abc%")),
            ("started_at >= '2026-11-01'", Comparison(Entity.ATTRIBUTE, "started_at", ">=", datetime(2026, 11, 1, tzinfo=UTC))),
        ],
    )
    def test_one_comparison(self, text: str, expected: Comparison) -> None:
        assert parse_query(text) == expected


class TestWhatIsRefused:
    @pytest.mark.parametrize(("text", "at", "expected"), BAD, ids=[text[:40] or "nothing" for text, _, _ in BAD])
    def test_says_where_and_what_was_expected(self, text: str, at: int, expected: str) -> None:
        with pytest.raises(InvalidQuery) as refused:
            parse_query(text)
        assert refused.value.fields["at"] == at
        assert expected in refused.value.fields["expected"]

    def test_a_query_has_an_end(self) -> None:
        with pytest.raises(InvalidQuery, match="at most 4000 characters"):
            parse_query("x" * (LONGEST_QUERY + 1))
