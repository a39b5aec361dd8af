"""Text tables become Parquet on first sight: every row is read, by one dialect, or the file is refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from data_pipelines.dataforge.files.kinds import TABLES, kind_of
from data_pipelines.dataforge.files.quarantine import BadFile
from data_pipelines.dataforge.files.tables import MAX_LINE_BYTES, TableReader, find_delimiter
from data_pipelines.dataforge.files.unpacking import check_ratio
from data_pipelines.dataforge.tables.models import Answer, Format
from data_pipelines.dataforge.tables.policy import find_format
from data_pipelines.dataforge.tables.reading import lock, quote_text

MAX_COLUMNS = 10_000


def convert(connection: duckdb.DuckDBPyConnection, source: Path, path: str, target: Path) -> Answer:
    """Write the table ``path``, whose bytes are ``source``, as Parquet: types are those that all rows have. Raises: BadFile."""
    lock(connection, [source, target])
    format, packing = find_format(path)
    if packing != "none":
        _check_packed(source, packing)
    if format is Format.JSON:
        read = f"read_json({quote_text(source)}, format = 'auto', sample_size = -1, compression = '{packing}')"
    else:
        # The dialect is RFC 4180's, apart from the delimiter: DuckDB would look for one in which ragged rows make a table after all.
        delimiter = _find_delimiter(source, packing)
        read = (
            f"read_csv({quote_text(source)}, sample_size = -1, compression = '{packing}', delim = '{delimiter}',"
            " quote = '\"', escape = '\"', header = true, skip = 0, comment = '')"
        )
    try:
        connection.execute(
            f"COPY (SELECT * FROM {read}) TO {quote_text(target)} (FORMAT parquet, ROW_GROUP_SIZE 50000, USE_TMP_FILE false)"
        )
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        _find_fault(source, path)
        raise
    return Answer(b"")


def _check_packed(source: Path, packing: str) -> None:
    """Raises: BadFile for what is packed otherwise, or a bomb."""
    packed_bytes, read_bytes = source.stat().st_size, 0
    try:
        with pa.input_stream(str(source), compression=packing) as stream:
            while block := stream.read(2**20):
                read_bytes += len(block)
                check_ratio(packed_bytes, read_bytes)
    except OSError as error:
        raise BadFile(f"it is not packed with {packing}: {error}") from None


def _find_delimiter(source: Path, packing: str) -> str:
    """Raises: BadFile for a first line that is no header."""
    with pa.input_stream(str(source), compression=None if packing == "none" else packing) as stream:
        start = stream.read(MAX_LINE_BYTES)
    line, end, _ = start.partition(b"\n")
    if not end and len(start) == MAX_LINE_BYTES:
        raise BadFile(f"its first line has over {MAX_LINE_BYTES} bytes, so it is no header")
    delimiter = find_delimiter(line.decode(errors="replace"))
    if (columns := line.count(delimiter.encode()) + 1) > MAX_COLUMNS:
        raise BadFile(f"it has {columns} columns; {MAX_COLUMNS} is the limit")
    return delimiter


def _find_fault(source: Path, path: str) -> None:
    """Read it as pipelines do, which know the line. Raises: BadFile where these find something wrong, too."""
    if kind_of(path) in TABLES:
        reader = TableReader(path, source.stat().st_size, lambda: source.open("rb"))
        for _ in reader.batches():
            if reader.broken.count:
                break
        if reader.broken.count:
            raise BadFile(reader.broken.first)
