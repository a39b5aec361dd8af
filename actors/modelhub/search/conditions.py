"""From comparisons to SQL: fragments that this module wrote, with every value bound.

NaN satisfies no comparison of size; what lacks a key satisfies ``IS NULL`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import sql

from actors.modelhub.search.models import Comparison, Entity, Lifecycle, OrderBy

_TESTS: Mapping[str, LiteralString] = {
    "=": "{this} = {value}",
    "!=": "{this} <> {value}",
    "<": "{this} < {value} AND {this} <> 'NaN'",
    "<=": "{this} <= {value} AND {this} <> 'NaN'",
    ">": "{this} > {value} AND {this} <> 'NaN'",
    ">=": "{this} >= {value} AND {this} <> 'NaN'",
    "LIKE": "{this} LIKE {value}",
    "ILIKE": "{this} ILIKE {value}",
    "RLIKE": "{this} ~ {value}",
    "IN": "{this} = ANY({value})",
    "NOT IN": "{this} <> ALL({value})",
    "IS NULL": "{this} IS NULL",
    "IS NOT NULL": "{this} IS NOT NULL",
}


@dataclass(frozen=True)
class Table:
    """Where a kind of thing lies. ``pairs`` are rows ``x`` of ``key`` and ``value``; ``nested`` are rows ``x`` with a column a key."""

    name: LiteralString
    attributes: Mapping[str, LiteralString]
    pairs: Mapping[Entity, LiteralString] = field(default_factory=dict)
    nested: Mapping[Entity, tuple[LiteralString, Mapping[str, LiteralString]]] = field(default_factory=dict)
    newest: LiteralString = ""
    """Order of what is equal in all else."""


class Statement:
    """Collects values for one statement."""

    def __init__(self, table: Table, **values: Any) -> None:
        self.table, self.values = table, values
        self.clauses: list[sql.Composable] = [sql.SQL("true")]

    def bind(self, value: Any) -> sql.Placeholder:
        name = f"value_{len(self.values)}"
        self.values[name] = list(value) if isinstance(value, tuple) else value
        return sql.Placeholder(name)

    def require(self, clause: LiteralString, value: Any) -> None:
        """``clause`` has one ``{value}``."""
        self.clauses.append(sql.SQL(clause).format(value=self.bind(value)))

    def restrict(self, comparisons: Sequence[Comparison], lifecycle: Lifecycle = Lifecycle.ALL) -> None:
        self.clauses += [self._clause(comparison) for comparison in comparisons]
        if lifecycle is not Lifecycle.ALL:
            negation = "IS NULL" if lifecycle is Lifecycle.ACTIVE else "IS NOT NULL"
            self.clauses.append(sql.SQL("{}.deleted_at " + negation).format(sql.Identifier(self.table.name)))

    def compose(self, query: LiteralString, order: Sequence[OrderBy]) -> sql.Composed:
        """``query`` has a ``{where}`` and an ``{order}``."""
        ordered = [self._order(by) for by in order] + [sql.SQL(self.table.newest)]
        return sql.SQL(query).format(where=sql.SQL(" AND ").join(self.clauses), order=sql.SQL(", ").join(ordered))

    def _clause(self, asked: Comparison) -> sql.Composable:
        if asked.entity is Entity.ATTRIBUTE:
            return self._test(self.table.attributes[asked.key], asked.operator, asked.value)
        if asked.entity in self.table.nested:
            rows, columns = self.table.nested[asked.entity]
            return self._exists(rows, self._test(columns[asked.key], asked.operator, asked.value))
        key = sql.SQL("x.key = {}").format(self.bind(asked.key))
        rows = self.table.pairs[asked.entity]
        if asked.operator.startswith("IS"):
            found = self._exists(rows, key)
            return sql.SQL("NOT {}").format(found) if asked.operator == "IS NULL" else found
        return self._exists(rows, sql.SQL("{} AND {}").format(key, self._test("x.value", asked.operator, asked.value)))

    def _test(self, this: LiteralString, operator: str, value: Any) -> sql.Composable:
        test = _TESTS[operator] if isinstance(value, int | float) else _TESTS[operator].removesuffix(" AND {this} <> 'NaN'")
        return sql.SQL("({})").format(sql.SQL(test).format(this=sql.SQL(this), value=self.bind(value)))

    def _exists(self, rows: LiteralString, test: sql.Composable) -> sql.Composable:
        return sql.SQL("EXISTS (SELECT FROM {} AND {})").format(sql.SQL(rows), test)

    def _order(self, by: OrderBy) -> sql.Composable:
        direction = sql.SQL("DESC" if by.descending else "ASC")
        if by.entity is Entity.ATTRIBUTE:
            return sql.SQL("{} {} NULLS LAST").format(sql.SQL(self.table.attributes[by.key]), direction)
        rows = sql.SQL(self.table.pairs[by.entity])
        value = sql.SQL("(SELECT x.value FROM {} AND x.key = {} LIMIT 1)").format(rows, self.bind(by.key))
        if by.entity is not Entity.METRIC:
            return sql.SQL("{} {} NULLS LAST").format(value, direction)
        return sql.SQL("nullif({0}, 'NaN') {1} NULLS LAST, {0} NULLS LAST").format(value, direction)
