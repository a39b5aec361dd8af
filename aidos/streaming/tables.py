"""Rows of Parquet, CSV and JSON Lines files: where they begin and end, and how a stretch of them is read without the rest.

A Parquet file says itself how many rows each row group has. Text says it to nobody, so it is counted once, and the count is kept
in the client's cache by the content's SHA-256.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aidos import optional
from aidos.config import cache_directory
from aidos.errors import InvalidRequest
from aidos.schemas.dataforge.versions import FileRead
from aidos.streaming.chunks import join_tables
from aidos.transfers.filesystem import AidosFileSystem

FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_BLOCK_BYTES = 2**20
_FOOTERS = 64
_PURPOSE = "Reading rows"


class RowsUnreadable(InvalidRequest):
    title = "Rows cannot be read"
    detail = "'{path}' cannot be read as {format}: {reason}. Mend the file and push it, or leave it out by a pattern."


class Block(NamedTuple):
    """Rows that are read together: row group number ``at``, or ``size_bytes`` of text from ``at``."""

    rows: int
    at: int
    size_bytes: int


class Layout(NamedTuple):
    """Where a file's rows are. ``head`` bytes of a CSV name the columns; ``types`` are Arrow's names of their types."""

    blocks: list[Block]
    head_bytes: int
    types: dict[str, str]


def format_of(path: str) -> str | None:
    """By the path's ending; None for what has no rows."""
    return FORMATS.get(os.path.splitext(path)[1].lower())


class TableReader:
    """Reads blocks of the files of one commit; a block is an Arrow table, of JSON Lines a list of objects."""

    def __init__(self, filesystem: AidosFileSystem, columns: Sequence[str] | None) -> None:
        self._filesystem, self._columns = filesystem, list(columns) if columns is not None else None
        self._layouts: dict[str, Layout] = {}
        self._footers: OrderedDict[str, Any] = OrderedDict()

    def blocks(self, file: FileRead, url: str) -> list[Block]:
        """Where the file's rows are. Raises: RowsUnreadable, LibraryMissing."""
        kind = format_of(file.path)
        layout = _load(file.sha256, str(kind))
        if layout is None:
            with _refusals(file.path, str(kind)):
                layout = self._find_layout(str(kind), url)
            _keep(file.sha256, str(kind), layout)
        self._layouts[file.sha256] = layout
        return layout.blocks

    def _find_layout(self, kind: str, url: str) -> Layout:
        with self._filesystem.open(url) as opened:
            if kind == "parquet":
                metadata = optional.load("pyarrow.parquet", _PURPOSE).ParquetFile(opened).metadata
                groups = (metadata.row_group(at) for at in range(metadata.num_row_groups))
                return Layout([Block(group.num_rows, at, group.total_byte_size) for at, group in enumerate(groups)], 0, {})
            return _lay_out_csv(opened) if kind == "csv" else _lay_out_lines(opened)

    def read(self, file: FileRead, url: str, block: Block) -> Any:
        """The rows of a block. Raises: RowsUnreadable."""
        kind = str(format_of(file.path))
        with _refusals(file.path, kind):
            if kind == "parquet":
                return self._read_row_group(file.sha256, url, block)
            data = self._filesystem.cat_file(url, block.at, block.at + block.size_bytes)
            if kind == "csv":
                layout = self._layouts[file.sha256]
                head = self._filesystem.cat_file(url, 0, layout.head_bytes)
                return _parse_csv(head + data, layout.types, self._columns)
            return [self._chosen(json.loads(line)) for line in data.decode().split("\n") if line.strip()]

    def _read_row_group(self, sha256: str, url: str, block: Block) -> Any:
        """Its columns by one request, where the file's footer is known: that of the files last read is kept."""
        with self._filesystem.open(url) as opened:
            parquet = optional.load("pyarrow.parquet", _PURPOSE).ParquetFile(opened, metadata=self._footers.get(sha256), pre_buffer=True)
            self._footers[sha256] = parquet.metadata
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
            return parquet.read_row_group(block.at, columns=self._columns)

    def _chosen(self, row: Any) -> Any:
        if not isinstance(row, dict):
            raise ValueError(f"a line is no JSON object: {str(row)[:50]}")
        return row if self._columns is None else {name: row.get(name) for name in self._columns}

    @staticmethod
    def take(tables: list[Any], paths: list[str], places: list[int]) -> Any:
        """Rows of the tables of ``paths`` as if they were one, at these places: a list where all are lists, else an Arrow table.

        Raises: TypesDiffer.
        """
        if all(isinstance(table, list) for table in tables):
            joined = [row for table in tables for row in table]
            return [joined[place] for place in places]
        pyarrow = optional.load("pyarrow", _PURPOSE)
        arrow = [pyarrow.Table.from_pylist(table) if isinstance(table, list) else table for table in tables]
        return join_tables(arrow, paths).take(places)


def _records(opened: Any, quoted: bool) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of stretches of about a MiB that end with a record: a line break, outside of quotes where they count."""
    begin, kept = 0, b""
    while piece := opened.read(_BLOCK_BYTES):
        kept += piece
        end = kept.rfind(b"\n") + 1
        while quoted and end and kept.count(b'"', 0, end) % 2:
            end = kept.rfind(b"\n", 0, end - 1) + 1
        if end:
            yield begin, kept[:end]
            begin, kept = begin + end, kept[end:]
    if kept:
        yield begin, kept


def _lay_out_lines(opened: Any) -> Layout:
    blocks = [Block(sum(1 for line in data.split(b"\n") if line.strip()), at, len(data)) for at, data in _records(opened, False)]
    return Layout(blocks, 0, {})


def _lay_out_csv(opened: Any) -> Layout:
    blocks: list[Block] = []
    head, types = b"", dict[str, str]()
    for at, data in _records(opened, True):
        if not blocks and not head:
            head = _first_record(data)
            at, data = len(head), data[len(head) :]
        table = _parse_csv(head + data, {}, None)
        types = {field.name: _widest(types.get(field.name), str(field.type)) for field in table.schema}
        blocks.append(Block(len(table), at, len(data)))
    return Layout(blocks, len(head), types)


def _first_record(data: bytes) -> bytes:
    end = 0
    while (end := data.find(b"\n", end) + 1) and data.count(b'"', 0, end) % 2:
        pass
    return data[:end] if end else data


def _widest(known: str | None, new: str) -> str:
    """A type that holds the values of both: of a column that looks otherwise further down."""
    if known is None or known in (new, "null"):
        return new
    if new == "null":
        return known
    return "double" if {known, new} == {"int64", "double"} else "string"


def _parse_csv(data: bytes, types: dict[str, str], columns: Sequence[str] | None) -> Any:
    csv, pyarrow = optional.load("pyarrow.csv", _PURPOSE), optional.load("pyarrow", _PURPOSE)
    known = {name: _type(pyarrow, text) for name, text in types.items()}
    convert = csv.ConvertOptions(column_types=known, include_columns=list(columns) if columns is not None else None)
    # One block, so that a column has one type; line breaks in quotes are values.
    read = csv.ReadOptions(block_size=max(len(data), 1))
    return csv.read_csv(io.BytesIO(data), read, csv.ParseOptions(newlines_in_values=True), convert)


def _type(pyarrow: Any, text: str) -> Any:
    try:
        return pyarrow.type_for_alias(text)
    except ValueError:
        return pyarrow.string()


@contextlib.contextmanager
def _refusals(path: str, kind: str) -> Iterator[None]:
    """What a parser says of a file, with the file's name. Arrow's errors are ValueErrors and KeyErrors too."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise RowsUnreadable(path=path, format=kind, reason=str(error).rstrip(".")) from error
    except OSError as error:
        if error.errno is None:  # Arrow's own, of a file that breaks off
            raise RowsUnreadable(path=path, format=kind, reason=str(error).rstrip(".")) from error
        raise


def _cached(sha256: str, kind: str) -> str:
    return str(cache_directory() / "rows" / f"{sha256}-{kind}.json")


def _load(sha256: str, kind: str) -> Layout | None:
    try:
        with open(_cached(sha256, kind)) as file:
            blocks, head_bytes, types = json.load(file)
        return Layout([Block(*block) for block in blocks], head_bytes, types)
    except (OSError, ValueError, TypeError):
        return None


def _keep(sha256: str, kind: str, layout: Layout) -> None:
    """A cache that cannot be written only costs time."""
    path = _cached(sha256, kind)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), delete=False) as file:
            json.dump(layout, file)
        os.replace(file.name, path)
