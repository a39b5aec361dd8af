"""Expectations against tables: facts of a batch in, counts of what broke out, merged over all batches. No Ray.

Row by row checks are Arrow's compute functions. What needs all rows at once (uniqueness, references) works on 64-bit hashes of the
values, in as many rounds as keep a round's hashes in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from aidos.schemas.dataforge.expectations import ColumnExpectation, ColumnType, Expectations, TableExpectation
from data_pipelines.dataforge.quality.columns import to_float, to_mask, to_seconds

EXAMPLES = 5
MAX_BYTES = 256 * 1024
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TEXT_FORMS = {
    ColumnType.INTEGER: r"^\s*[+-]?\d+\s*$",
    ColumnType.NUMBER: r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$",
    ColumnType.BOOLEAN: r"^(?i:true|false|yes|no|0|1)$",
    ColumnType.DATE: r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$",
}


class ExpectationsInvalid(Exception):
    """The file of expectations is not one; the text says where."""


def parse(data: bytes) -> Expectations:
    """Raises: ExpectationsInvalid."""
    if len(data) > MAX_BYTES:
        raise ExpectationsInvalid(f"it has {len(data)} bytes; {MAX_BYTES} is the limit")
    try:
        found = Expectations.model_validate(yaml.safe_load(data))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ExpectationsInvalid(f"it is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ExpectationsInvalid(f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from error
    for table in found.tables:
        for name, column in table.columns.items():
            _check_column(name, column)
    return found


def _check_column(name: str, column: ColumnExpectation) -> None:
    try:
        pc.match_substring_regex(pa.array([""]), column.matches or "")
        for bound in (column.min, column.max):
            to_bound(bound)
    except (pa.ArrowInvalid, ValueError) as error:
        raise ExpectationsInvalid(f"column {name}: {error}") from error


def to_bound(bound: float | str | None) -> float | None:
    """A limit as a number: dates as seconds since 1970. Raises: ValueError."""
    if isinstance(bound, str):
        moment = datetime.fromisoformat(bound)
        return (moment - datetime.fromisoformat("1970-01-01" + ("T00:00+00:00" if moment.tzinfo else ""))).total_seconds()
    return bound


def to_timedelta(age: str) -> timedelta:
    return timedelta(seconds=int(age[:-1]) * _UNITS[age[-1]])


@dataclass
class Broken:
    """Of one check: how many values were looked at, how many broke it, and where the first are."""

    checked: int = 0
    failed: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, checked: int, rows: np.ndarray, path: str) -> None:
        """``rows`` are the numbers (from 1) of those that broke it."""
        self.checked += checked
        self.failed += rows.size
        self.places += [f"{path}:{row}" for row in rows[: EXAMPLES - len(self.places)]]

    def merge(self, other: Broken) -> None:
        self.checked += other.checked
        self.failed += other.failed
        self.places = sorted({*self.places, *other.places}, key=_in_order)[:EXAMPLES]


def _in_order(place: str) -> tuple[str, int]:
    path, _, row = place.rpartition(":")
    return (path, int(row)) if row.isdecimal() else (place, 0)


@dataclass
class TableFacts:
    """What was seen of a table's files."""

    rows: int = 0
    columns: set[str] = field(default_factory=set)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[tuple[str, str], Broken] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, table: TableExpectation, batch: pa.RecordBatch, path: str, first_row: int) -> None:
        self.rows += batch.num_rows
        self.columns.update(batch.schema.names)
        for name, expected in table.columns.items():
            if name not in batch.schema.names:
                if path not in (files := self.lacking.setdefault(name, [])):
                    files.append(path)
                continue
            values = batch.column(name)
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            for check, checked, bad in check_values(expected, values):
                self.broken.setdefault((name, check), Broken()).add(checked, np.flatnonzero(bad) + first_row + 1, path)
            if expected.max_age and (seconds := as_seconds(values.drop_null())).size:
                self.newest[name] = max(float(np.nanmax(seconds)), self.newest.get(name, -np.inf))

    def merge(self, other: TableFacts) -> None:
        self.rows += other.rows
        self.columns |= other.columns
        self.unreadable += other.unreadable
        for name, files in other.lacking.items():
            self.lacking[name] = sorted({*self.lacking.get(name, []), *files})
        for key, broken in other.broken.items():
            self.broken.setdefault(key, Broken()).merge(broken)
        for name, seconds in other.newest.items():
            self.newest[name] = max(seconds, self.newest.get(name, -np.inf))


def check_values(expected: ColumnExpectation, values: pa.Array) -> Iterator[tuple[str, int, np.ndarray]]:
    """For each check its name, how many values it looked at, and which rows broke it. Missing values break ``not_null`` alone."""
    missing = to_mask(values.is_null())
    present = len(values) - int(missing.sum())
    if expected.not_null:
        yield "not_null", len(values), missing
    if expected.column_type:
        yield "type", present, ~missing & ~is_of_type(expected.column_type, values)
    if expected.min is not None or expected.max is not None:
        dated = any(isinstance(bound, str) for bound in (expected.min, expected.max))
        numbers = as_seconds(values) if dated else as_numbers(values)
        low, high = to_bound(expected.min), to_bound(expected.max)
        inside = ~np.isnan(numbers)
        if low is not None:
            inside &= numbers >= low
        if high is not None:
            inside &= numbers <= high
        yield "range", present, ~missing & ~inside
    if expected.matches is not None:
        yield "matches", present, ~missing & ~to_mask(pc.match_substring_regex(as_text(values), expected.matches).fill_null(False))
    if expected.values is not None:
        allowed = pa.array([as_word(value) for value in expected.values], pa.string())
        yield "values", present, ~missing & ~to_mask(pc.is_in(as_text(values), value_set=allowed))


def as_word(value: Any) -> str:
    """A value of the file of expectations as Arrow writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_text(values: pa.Array) -> pa.Array:
    return values.cast(pa.string())


def is_of_type(type: ColumnType, values: pa.Array) -> np.ndarray:
    """Which values are of the type: by the column's own where it has one, by their form where it is text."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if type is ColumnType.TEXT:
            return np.ones(len(values), dtype=bool)
        return to_mask(pc.match_substring_regex(values, _TEXT_FORMS[type]).fill_null(False))
    whole = pa.types.is_integer(kind)
    is_a = {
        ColumnType.INTEGER: whole,
        ColumnType.NUMBER: whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        ColumnType.BOOLEAN: pa.types.is_boolean(kind),
        ColumnType.DATE: pa.types.is_date(kind) or pa.types.is_timestamp(kind),
        ColumnType.TEXT: False,
    }[type]
    return np.full(len(values), is_a)


def as_numbers(values: pa.Array) -> np.ndarray:
    """float64; NaN where a value is missing or no number."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        is_number = pc.match_substring_regex(values, _TEXT_FORMS[ColumnType.NUMBER])
        values = pc.if_else(is_number, pc.utf8_trim_whitespace(values), pa.scalar(None, values.type))
    try:
        return to_float(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.full(len(values), np.nan)


def as_seconds(values: pa.Array) -> np.ndarray:
    """Moments as seconds since 1970; NaN where a value is missing or none."""
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return to_seconds(values)
    return np.array([_text_seconds(value) for value in values.to_pylist()])


def _text_seconds(value: Any) -> float:
    try:
        return float(to_bound(value) if isinstance(value, str) and re.match(r"\d{4}-", value) else np.nan)  # type: ignore[arg-type]  # text gives a number
    except (ValueError, OverflowError):
        return float("nan")


def judge(table: TableExpectation, facts: TableFacts, commit_at: datetime) -> Iterator[dict[str, Any]]:
    """Every check of a table that the facts decide, as it stands in the report."""
    yield verdict(table, "", "readable", Broken(len(facts.unreadable), len(facts.unreadable), facts.unreadable[:EXAMPLES]))
    if table.rows:
        low, high = table.rows.min, table.rows.max
        outside = facts.rows < low or (high is not None and facts.rows > high)
        yield verdict(
            table, "", "rows", Broken(1, int(outside), [f"{facts.rows} rows, not {low} to {'any' if high is None else high}"] * outside)
        )
    if table.only_these_columns:
        more = sorted(facts.columns - table.columns.keys())
        yield verdict(table, "", "only_these_columns", Broken(len(facts.columns), len(more), more[:EXAMPLES]))
    for name, expected in table.columns.items():
        lacking = facts.lacking.get(name, []) if facts.columns else []
        yield verdict(table, name, "exists", Broken(1, len(lacking), lacking[:EXAMPLES]))
        for (column, check), broken in facts.broken.items():
            if column == name:
                yield verdict(table, name, check, broken, expected.mostly)
        if expected.max_age:
            newest = facts.newest.get(name, -np.inf)
            late = newest < commit_at.timestamp() - to_timedelta(expected.max_age).total_seconds()
            said = (
                f"the newest is of {datetime.fromtimestamp(newest, commit_at.tzinfo):%Y-%m-%d %H:%M}"
                if np.isfinite(newest)
                else "there is none"
            )
            yield verdict(table, name, "max_age", Broken(1, int(late), [said] * late))


def verdict(table: TableExpectation, column: str, check: str, broken: Broken, mostly: float = 1.0) -> dict[str, Any]:
    """A check as it stands in the report."""
    passed = broken.failed == 0 or (mostly < 1 and broken.failed <= (1 - mostly) * broken.checked)
    return {"files": table.files, "column": column, "check": check, "passed": passed, **broken.__dict__}


def summarise(checks: Sequence[dict[str, Any]]) -> str:
    """One line: how many failed, and the first of them."""
    failed = [check for check in checks if not check["passed"]]
    if not failed:
        return f"all {len(checks)} checks passed"
    first = failed[0]
    where = f"{first['column']} of {first['files']}" if first["column"] else first["files"]
    places = f" ({first['places'][0]})" if first["places"] else ""
    return f"{len(failed)} of {len(checks)} checks failed; the first: {first['check']} of {where}, {first['failed']} times{places}"
