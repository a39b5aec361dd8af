"""Tables of files as Arrow batches of bounded size, and what is wrong with a file as a sentence.

A file that cannot be read is set aside, never the end of the others: ``BadFile`` says why. Lines that are broken in a file that is
not are counted, with the first of them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from data_pipelines.dataforge.files.kinds import kind_of
from data_pipelines.dataforge.files.quarantine import BadFile, BrokenLines
from data_pipelines.dataforge.files.unpacking import CheckedText, first_line, unpack

MAX_COLUMNS = 1000
BATCH_ROWS = 65_536
BATCH_BYTES = 32 * 2**20
MAX_FOOTER_BYTES = 64 * 2**20
MAX_LINE_BYTES = 4 * 2**20
MAX_CELLS_PER_BYTE = 50_000
_LARGE_ROW_GROUP_BYTES = 2**28
_JSON_ROWS = 10_000
NULLS = ["", "NA", "N/A", "NULL", "null", "NaN", "nan", "None"]
DATA_ERRORS = (pa.ArrowException, pa.ArrowInvalid, ValueError, EOFError, zipfile.BadZipFile, gzip.BadGzipFile, KeyError, IndexError)
"""What libraries raise over bytes that are not what they should be. Errors of the network are others."""


@dataclass
class TableReader:
    """The batches of one file. ``open`` gives the file's bytes; ``row_groups`` narrows a Parquet file down."""

    path: str
    size_bytes: int
    open: Callable[[], Any]
    row_groups: tuple[int, ...] | None = None
    broken: BrokenLines = field(default_factory=BrokenLines)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Raises: BadFile."""
        read = {"parquet": self._parquet, "csv": self._csv, "jsonl": self._jsonl}[kind_of(self.path)]
        try:
            with self.open() as file:
                yield from read(file)
        except DATA_ERRORS as error:
            raise BadFile(f"{first_line(error)}") from error
        except OSError as error:
            # Arrow says of corrupt Parquet that it is an input/output error; the network's have classes of their own.
            if type(error) is OSError:
                raise BadFile(first_line(error)) from error
            raise

    def _parquet(self, file: Any) -> Iterator[pa.RecordBatch]:
        table = open_parquet(file, self.path, self.size_bytes)
        for group in self.row_groups if self.row_groups is not None else range(table.metadata.num_row_groups):
            described = table.metadata.row_group(group)
            if not described.num_rows:
                continue
            row_bytes = max(1, described.total_byte_size // described.num_rows)
            rows = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
            if described.total_byte_size > _LARGE_ROW_GROUP_BYTES:  # slower, and never the whole group in memory
                table = pq.ParquetFile(file, buffer_size=2**23)
            yield from table.iter_batches(batch_size=rows, row_groups=[group], use_threads=False)

    def _csv(self, file: Any) -> Iterator[pa.RecordBatch]:
        stream = io.BufferedReader(CheckedText(unpack(self.path, file), self.size_bytes), MAX_LINE_BYTES)
        start = stream.peek(1)
        if not start:
            return
        line = start.split(b"\n", 1)[0]
        if len(line) > MAX_LINE_BYTES - 1:
            raise BadFile(f"its first line has over {MAX_LINE_BYTES} bytes, so it is no header of at most {MAX_COLUMNS} columns")
        text = line.decode("utf-8-sig").rstrip("\r")
        delimiter = find_delimiter(text)
        header = next(csv.reader([text], delimiter=delimiter), [])
        names = check_columns(header)
        reader = pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(column_names=names, skip_rows=1, block_size=MAX_LINE_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=self._skip_ragged),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=NULLS, strings_can_be_null=True
            ),
        )
        yield from reader

    def _skip_ragged(self, row: Any) -> str:
        where = f"line {row.number}: " if row.number else ""
        self.broken.add(f"{where}it has {row.actual_columns} columns, the header {row.expected_columns}")
        return "skip"

    def _jsonl(self, file: Any) -> Iterator[pa.RecordBatch]:
        stream = io.BufferedReader(CheckedText(unpack(self.path, file), self.size_bytes), 2**20)
        rows: list[dict[str, Any]] = []
        held = 0
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise BadFile(f"line {number} has over {MAX_LINE_BYTES} bytes")
            if line.strip():
                self._take_object(line, number, rows)
                held += len(line)
            if len(rows) >= _JSON_ROWS or held > BATCH_BYTES:
                yield from rows_to_batch(rows)
                rows, held = [], 0
        yield from rows_to_batch(rows)

    def _take_object(self, line: bytes, number: int, rows: list[dict[str, Any]]) -> None:
        try:
            value = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            self.broken.add(f"line {number}, character {error.pos + 1}: {error.msg}")
            return
        except RecursionError:
            self.broken.add(f"line {number}: it is nested too deeply")
            return
        if isinstance(value, dict) and len(value) <= MAX_COLUMNS:
            rows.append(value)
        else:
            self.broken.add(f"line {number}: it is no JSON object of at most {MAX_COLUMNS} members")


def open_parquet(file: Any, path: str, size_bytes: int) -> pq.ParquetFile:
    """Raises: BadFile for a footer, a width or an expansion that no real table has."""
    if size_bytes < 12:
        raise BadFile(f"a Parquet file has at least 12 bytes, this one {size_bytes}")
    file.seek(size_bytes - 8)
    tail = file.read(8)
    if tail[4:] != b"PAR1":
        raise BadFile("it does not end as a Parquet file does: cut off, or another format")
    if (footer := int.from_bytes(tail[:4], "little")) > min(MAX_FOOTER_BYTES, size_bytes):
        raise BadFile(f"its footer would have {footer} bytes; {MAX_FOOTER_BYTES} is the limit")
    file.seek(0)
    table = pq.ParquetFile(file)
    check_columns(table.schema_arrow.names)
    cells = table.metadata.num_rows * max(1, len(table.schema_arrow.names))
    if cells > MAX_CELLS_PER_BYTE * size_bytes:
        raise BadFile(f"{size_bytes} bytes would unpack to {cells} values: a bomb")
    return table


def check_columns(names: list[str]) -> list[str]:
    """The names, made different from each other. Raises: BadFile where there are too many."""
    if len(names) > MAX_COLUMNS:
        raise BadFile(f"it has {len(names)} columns; {MAX_COLUMNS} is the limit")
    seen: dict[str, int] = {}
    found = []
    for at, name in enumerate(names, 1):
        name = name.strip() or f"column_{at}"
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found


def rows_to_batch(rows: list[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    """Objects as columns; values of several types in one column become JSON text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MAX_COLUMNS:
        raise BadFile(f"its objects have over {MAX_COLUMNS} members between them")
    if names:
        yield pa.RecordBatch.from_arrays([_to_array([row.get(name) for row in rows]) for name in names], names=names)


def _to_array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
        return pa.array(texts, pa.string())


def find_delimiter(line: str) -> str:
    """What separates the names in a header: the most frequent of comma, semicolon, tab and bar."""
    return max(",;\t|", key=lambda sign: (line.count(sign), sign == ","))
