"""The profile of one column, in parts that merge. Arrow arrays in, JSON out; no Ray."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataforge.quality.pii import Findings
from data_pipelines.dataforge.quality.sketches import PROBABILITIES, Distinct, Frequencies, Moments, Quantiles

TOP = 20
_VALUE_CHARS = 100
_BATCH_VALUES = 2000
_INTEGER, _NUMBER = r"^\s*[+-]?\d{1,18}\s*$", r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_DATE = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"


@dataclass
class Numbers:
    """Finite numbers: their moments and quantiles; what is not finite is counted."""

    moments: Moments = field(default_factory=Moments)
    quantiles: Quantiles = field(default_factory=Quantiles)
    not_finite: int = 0

    def add(self, values: np.ndarray) -> None:
        finite = np.isfinite(values)
        self.not_finite += int(values.size - finite.sum())
        self.moments.add(values[finite])
        self.quantiles.add(values[finite])

    def merge(self, other: Numbers) -> None:
        self.moments.merge(other.moments)
        self.quantiles.merge(other.quantiles)
        self.not_finite += other.not_finite

    def to_json(self) -> dict[str, Any]:
        if not self.moments.count:
            return {"count": 0, "not_finite": self.not_finite}
        low, high = self.moments.minimum, self.moments.maximum
        quantiles = [low, *self.quantiles.at(PROBABILITIES[1:-1]), high]
        return {
            "count": self.moments.count,
            "not_finite": self.not_finite,
            "min": low,
            "max": high,
            "mean": self.moments.mean,
            "std": self.moments.deviation,
            "quantiles": {f"{share:g}": value for share, value in zip(PROBABILITIES, quantiles, strict=True)},
            "histogram": self.quantiles.histogram(low, high),
        }


@dataclass
class ColumnProfile:
    """Everything about a column that fits into bounded memory: some 300 kB, whatever the number of rows."""

    rows: int = 0
    nulls: int = 0
    types: Counter[str] = field(default_factory=Counter)
    numbers: Numbers = field(default_factory=Numbers)
    times: Numbers = field(default_factory=Numbers)
    lengths: Numbers = field(default_factory=Numbers)
    words: Moments = field(default_factory=Moments)
    distinct: Distinct = field(default_factory=Distinct)
    values: Frequencies = field(default_factory=Frequencies)
    personal: Findings = field(default_factory=Findings)

    def add(self, array: pa.Array, hashes: np.ndarray) -> None:
        """A batch of the column; ``hashes`` are its values' (nulls included)."""
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        self.rows += len(array)
        self.nulls += array.null_count
        self.distinct.add(hashes[array.is_valid().to_numpy(zero_copy_only=False)] if array.null_count else hashes)
        valid = array.drop_null()
        if not len(valid):
            return
        self._add_values(valid)

    def _add_values(self, valid: pa.Array) -> None:
        kind = valid.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._add_texts(valid)
        elif pa.types.is_boolean(kind):
            self.types["bool"] += len(valid)
            self._count(*count_values(valid.cast(pa.string())))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            self.types[str(kind)] += len(valid)
            self.numbers.add(to_float(valid))
            if not pa.types.is_floating(kind):
                values, counts = count_values(valid)
                self._count(values.cast(pa.string()), counts)
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            self.types["date" if pa.types.is_date(kind) else "timestamp"] += len(valid)
            self.times.add(to_seconds(valid))
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self.types[str(kind)] += len(valid)
            self.lengths.add(to_float(pc.binary_length(valid)))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            self.types[f"list<{kind.value_type}>"] += len(valid)
            self.lengths.add(to_float(pc.list_value_length(valid)))
        else:
            self.types[str(kind)[:_VALUE_CHARS]] += len(valid)

    def _add_texts(self, texts: pa.Array) -> None:
        """Text, and what text may stand for: CSV has nothing else. Each different value is looked at once."""
        values, counts = count_values(texts)
        is_number, is_integer = (to_mask(pc.match_substring_regex(values, regex)) for regex in (_NUMBER, _INTEGER))
        is_date = to_mask(pc.match_substring_regex(values, _DATE))
        integers, numbers, dates = (int(counts[mask].sum()) for mask in (is_integer, is_number, is_date))
        named = {"integer text": integers, "number text": numbers - integers, "date text": dates, "text": len(texts) - numbers - dates}
        self.types.update({name: count for name, count in named.items() if count})
        if numbers:
            trimmed = pc.utf8_trim_whitespace(values.filter(pa.array(is_number)))
            self.numbers.add(np.repeat(to_float(trimmed), counts[is_number]))
        if dates:
            self.times.add(parse_seconds(values.filter(pa.array(is_date))))
        self.lengths.add(np.repeat(to_float(pc.utf8_length(values)), counts))
        is_text = ~(is_number | is_date)
        if is_text.any():
            words = pc.count_substring_regex(values.filter(pa.array(is_text)), r"\S+")
            self.words.add(np.repeat(to_float(words), counts[is_text]))
        self._count(pc.utf8_slice_codeunits(values, 0, _VALUE_CHARS), counts)
        self.personal.add(values, counts)

    def _count(self, values: pa.Array, counts: np.ndarray) -> None:
        missed = 0
        if counts.size > _BATCH_VALUES:
            order = np.argpartition(counts, -_BATCH_VALUES)
            missed = int(counts[order[:-_BATCH_VALUES]].max())
            values, counts = values.take(pa.array(order[-_BATCH_VALUES:])), counts[order[-_BATCH_VALUES:]]
        part: Counter[Any] = Counter()
        for value, count in zip(values.to_pylist(), counts.tolist(), strict=True):
            part[value] += count
        self.values.add(part, missed)

    def merge(self, other: ColumnProfile) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.types.update(other.types)
        for name in ("numbers", "times", "lengths", "words", "distinct", "values", "personal"):
            getattr(self, name).merge(getattr(other, name))

    @property
    def categorical(self) -> bool:
        """Whether its values are few enough to be told apart one by one: at most fifty, or text that was all counted."""
        counted = self.values.exact and bool(self.values.counts)
        return counted and (len(self.values.counts) <= 50 or not (self.numbers.moments.count or self.times.moments.count))

    def to_json(self, *, brief: bool = False) -> dict[str, Any]:
        """What people look at. A column with personal data shows none of its values."""
        found: dict[str, Any] = {
            "rows": self.rows,
            "nulls": self.nulls,
            "types": dict(self.types.most_common()),
            "distinct": self.distinct.estimate(),
            "distinct_exact": self.distinct.exact,
        }
        if self.numbers.moments.count or self.numbers.not_finite:
            found["numbers"] = self.numbers.to_json()
        if self.times.moments.count:
            found["times"] = {"min": to_text(self.times.moments.minimum), "max": to_text(self.times.moments.maximum)}
        if self.lengths.moments.count:
            found["lengths"] = self.lengths.to_json()
        if self.words.count:
            found["words_mean"] = self.words.mean
        if self.personal.counts:
            found["personal_data"] = self.personal.to_json()
        elif top := self.values.top(3 if brief else TOP):
            found["top"] = [{"value": value, "count": count} for value, count in top]
        if brief:
            for part in ("numbers", "lengths"):
                found.get(part, {}).pop("histogram", None)
        return found


def count_values(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The different values, and how often each is there."""
    found = pc.value_counts(values)
    return found.field("values"), found.field("counts").to_numpy()


def to_mask(flags: pa.Array) -> np.ndarray:
    return np.asarray(flags.to_numpy(zero_copy_only=False), dtype=bool)


def to_float(values: pa.Array) -> np.ndarray:
    """Numbers, or text of numbers, as float64."""
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def to_seconds(values: pa.Array) -> np.ndarray:
    """Dates and times as seconds since 1970, UTC."""
    stamps = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
    return to_float(stamps.cast(pa.int64())) / 1e6


def parse_seconds(texts: pa.Array) -> np.ndarray:
    """ISO 8601 text as seconds since 1970; what is no day of the calendar is left out."""
    try:
        zoned = pc.any(pc.match_substring_regex(texts, r"T?\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})$")).as_py()
        return to_seconds(texts.cast(pa.timestamp("us", "UTC" if zoned else None)))
    except pa.ArrowInvalid:
        return np.array([seconds for text in texts.to_pylist() if (seconds := _parse(text)) is not None])


def _parse(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def to_text(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601; the number where the calendar ends."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"
