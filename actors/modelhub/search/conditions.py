"""From comparisons to SQL: fragments that this module wrote, with every value bound.

NaN satisfies no comparison of size; what lacks a key satisfies ``IS NULL`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import sql

from actors.modelhub.search.models import Combination, Condition, Entity, Lifecycle, OrderBy

_SIZES = frozenset({"<", "<=", ">", ">="})
IS_PROMPT = "mlflow.prompt.is_prompt"
_TESTS: Mapping[str, LiteralString] = {
    "=": "{this} = {value}",
    "!=": "{this} <> {value}",
    "<": "{this} < {value}",
    "<=": "{this} <= {value}",
    ">": "{this} > {value}",
    ">=": "{this} >= {value}",
    "LIKE": "{this} LIKE {value}",
    "ILIKE": "{this} ILIKE {value}",
    "NOT LIKE": "{this} NOT LIKE {value}",
    "NOT ILIKE": "{this} NOT ILIKE {value}",
    "RLIKE": "{this} ~ {value}",
    "IN": "{this} = ANY({value})",
    "NOT IN": "{this} <> ALL({value})",
    "IS NULL": "{this} IS NULL",
    "IS NOT NULL": "{this} IS NOT NULL",
}
# A text that reads as a number, as that number: the lengths keep it inside float8.
_NUMBER: LiteralString = r"(CASE WHEN x.value ~ '^[+-]?(\d{1,100}(\.\d{0,100})?|\.\d{1,100})([eE][+-]?\d{1,2})?$' THEN x.value::float8 END)"


@dataclass(frozen=True)
class Table:
    """Where a kind of thing lies. ``pairs`` are rows ``x`` of ``key`` and ``value``; ``nested`` are rows ``x`` with a column a key."""

    name: LiteralString
    attributes: Mapping[str, LiteralString]
    pairs: Mapping[Entity, LiteralString] = field(default_factory=dict)
    nested: Mapping[Entity, tuple[LiteralString, Mapping[str, LiteralString]]] = field(default_factory=dict)
    newest: LiteralString = ""
    """Order of what is equal in all else."""
    repeated: frozenset[Entity] = frozenset()
    """What has several rows of one key, of which the newest counts."""
    keeps_deleted: bool = True
    """With a moment in ``deleted_at``."""


class Statement:
    """Collects values for one statement."""

    def __init__(self, table: Table, **values: Any) -> None:
        self.table, self.values = table, values
        self.clauses: list[sql.Composable] = [sql.SQL("true")]
        self.datasets: Sequence[tuple[str, str]] = ()

    def bind(self, value: Any) -> sql.Placeholder:
        name = f"value_{len(self.values)}"
        self.values[name] = list(value) if isinstance(value, tuple) else value
        return sql.Placeholder(name)

    def require(self, clause: LiteralString, value: Any) -> None:
        """``clause`` has one ``{value}``."""
        self.clauses.append(sql.SQL(clause).format(value=self.bind(value)))

    def restrict(self, conditions: Sequence[Condition], lifecycle: Lifecycle = Lifecycle.ALL) -> None:
        self.clauses += [self._clause(condition) for condition in conditions]
        if self.table.keeps_deleted and lifecycle is not Lifecycle.ALL:
            negation = "IS NULL" if lifecycle is Lifecycle.ACTIVE else "IS NOT NULL"
            self.clauses.append(sql.SQL("{}.deleted_at " + negation).format(sql.Identifier(self.table.name)))

    def compose(self, query: LiteralString, order: Sequence[OrderBy]) -> sql.Composed:
        """``query`` has a ``{where}`` and an ``{order}``."""
        ordered = [self._order(by) for by in order] + [sql.SQL(self.table.newest)]
        return sql.SQL(query).format(where=sql.SQL(" AND ").join(self.clauses), order=sql.SQL(", ").join(ordered))

    def _clause(self, asked: Condition) -> sql.Composable:
        if isinstance(asked, Combination):
            return self._combine(asked)
        if asked.entity is Entity.ATTRIBUTE:
            return self._test(self.table.attributes[asked.key], asked.operator, asked.value)
        if asked.entity in self.table.nested:
            rows, columns = self.table.nested[asked.entity]
            if asked.operator.startswith("IS"):
                return self._presence(rows, self._test(columns[asked.key], "IS NOT NULL", None), asked.operator)
            return self._exists(rows, self._test(columns[asked.key], asked.operator, asked.value))
        key = sql.SQL("x.key = {}").format(self.bind(asked.key))
        rows = self.table.pairs[asked.entity]
        if asked.entity is Entity.METRIC:
            key = sql.SQL("{} AND {}").format(key, self._measured_on(self.datasets))
        if asked.operator.startswith("IS"):
            return self._presence(rows, key, asked.operator)
        if asked.key == IS_PROMPT and (asked.operator, asked.value) in (("!=", "true"), ("=", "false")):
            # The client adds this to every search for models: what does not say that it is a prompt is none.
            return sql.SQL("NOT {}").format(self._exists(rows, sql.SQL("{} AND x.value = 'true'").format(key)))
        numeric = isinstance(asked.value, int | float) and asked.entity is not Entity.METRIC
        if asked.entity is Entity.METRIC and asked.operator in _SIZES:
            key = sql.SQL("{} AND x.value <> 'NaN'").format(key)
        value = self._test(_NUMBER if numeric else "x.value", asked.operator, asked.value)
        return self._exists(rows, sql.SQL("{} AND {}").format(key, value))

    def _combine(self, asked: Combination) -> sql.Composable:
        parts = [self._clause(part) for part in asked.parts]
        if asked.operator == "NOT":
            return sql.SQL("({} IS NOT TRUE)").format(parts[0])
        return sql.SQL("({})").format(sql.SQL(" AND " if asked.operator == "AND" else " OR ").join(parts))

    def _test(self, this: LiteralString, operator: str, value: Any) -> sql.Composable:
        return sql.SQL("({})").format(sql.SQL(_TESTS[operator]).format(this=sql.SQL(this), value=self.bind(value)))

    def _measured_on(self, datasets: Sequence[tuple[str, str]]) -> sql.Composable:
        tests = [
            sql.SQL("(x.dataset_name = {0} AND {1} IN ('', x.dataset_digest))").format(self.bind(name), self.bind(digest))
            for name, digest in datasets
        ]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(tests)) if tests else sql.SQL("true")

    def _presence(self, rows: LiteralString, test: sql.Composable, operator: str) -> sql.Composable:
        found = self._exists(rows, test)
        return sql.SQL("NOT {}").format(found) if operator == "IS NULL" else found

    def _exists(self, rows: LiteralString, test: sql.Composable) -> sql.Composable:
        return sql.SQL("EXISTS (SELECT FROM {} AND {})").format(sql.SQL(rows), test)

    def _order(self, by: OrderBy) -> sql.Composable:
        direction = sql.SQL("DESC" if by.descending else "ASC")
        if by.entity is Entity.ATTRIBUTE:
            return sql.SQL("{} {} NULLS LAST").format(sql.SQL(self.table.attributes[by.key]), direction)
        rows = sql.SQL(self.table.pairs[by.entity])
        measured = self._measured_on([by.dataset] if by.dataset else ())
        newest = sql.SQL("ORDER BY x.step DESC, x.at DESC" if by.entity in self.table.repeated else "")
        value = sql.SQL("(SELECT x.value FROM {} AND x.key = {} AND {} {} LIMIT 1)").format(rows, self.bind(by.key), measured, newest)
        if by.entity is Entity.METRIC and by.descending:
            # PostgreSQL sorts NaN above all numbers, and -NaN is NaN: this way it stands behind them in both directions.
            return sql.SQL("-{} NULLS LAST").format(value)
        return sql.SQL("{} {} NULLS LAST").format(value, direction)
