"""Rows of a file as items: JSON Lines, CSV and Parquet."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pyarrow
import pyarrow.parquet

from aidos.errors import Unavailable
from aidos.transfers.downloading import object_changed
from data_pipelines.dataforge.labelling.errors import RowsInvalid
from data_pipelines.dataforge.labelling.models import Item
from data_pipelines.dataforge.models import Downloads

LARGEST_FILE_BYTES = 64 * 2**20
"""Largest file whose rows are made into tasks."""
LARGEST_ROW_BYTES = 2**18


async def fetch(downloads: Downloads) -> bytes:
    """The bytes of the one file. Raises: RowsInvalid when it is too large, ImportedObjectChanged, Unavailable."""
    (file,) = downloads.files
    if file.size_bytes > LARGEST_FILE_BYTES:
        raise RowsInvalid(path=file.path, reason=f"it has {file.size_bytes} bytes, and {LARGEST_FILE_BYTES} is the most")
    if file.source is None:
        return b""
    headers = {
        "Range": f"bytes={file.offset_bytes}-{file.offset_bytes + file.size_bytes - 1}",
        **(file.place.headers if file.place else {}),
    }
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.get(downloads.sources[file.source], headers=headers)
            if file.place and answer.status_code in {404, 412}:
                raise object_changed(file, "there is no such object with that content now")
            answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(reason="The object store cannot be reached.", retry_after_s=3) from error
    return answer.content


async def read_items(path: str, data: bytes, most: int) -> list[Item]:
    """The rows from 0, ``most`` and one at most. Raises: RowsInvalid with the line."""
    return await asyncio.to_thread(_read, path, data, most)


def _read(path: str, data: bytes, most: int) -> list[Item]:
    suffix = path.rsplit(".", 1)[-1].lower()
    readers = {"jsonl": _jsonl, "ndjson": _jsonl, "csv": _csv, "parquet": _parquet}
    if suffix not in readers:
        raise RowsInvalid(path=path, reason="rows are read from .jsonl, .csv and .parquet")
    items = []
    for number, row in enumerate(readers[suffix](path, data)):
        if len(json.dumps(row)) > LARGEST_ROW_BYTES:
            raise RowsInvalid(path=path, reason=f"row {number} has over {LARGEST_ROW_BYTES} bytes")
        items.append(Item(path, number, row))
        if len(items) > most:
            break
    return items


def _text(path: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowsInvalid(path=path, reason=f"byte {error.start} is not UTF-8") from error
    if "\0" in text:
        raise RowsInvalid(path=path, reason="it holds NUL")
    return text


def _jsonl(path: str, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(path, data).split("\n"), 1):
        if line.strip():
            try:
                row = _storable(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise RowsInvalid(path=path, reason=f"line {number}: {error}") from error
            if not isinstance(row, dict):
                raise RowsInvalid(path=path, reason=f"line {number} is no JSON object")
            yield row


def _csv(path: str, data: bytes) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(_text(path, data), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise RowsInvalid(path=path, reason="two columns have one name")
        for row in reader:
            if row and len(row) != len(header):
                raise RowsInvalid(path=path, reason=f"line {reader.line_num} has {len(row)} cells, and the header has {len(header)}")
            if row:
                yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise RowsInvalid(path=path, reason=f"line {reader.line_num}: {error}") from error


def _parquet(path: str, data: bytes) -> Iterator[dict[str, Any]]:
    try:
        for batch in pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).iter_batches(1000):
            for row in batch.to_pylist():
                yield _storable(row)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RowsInvalid(path=path, reason=str(error)[:300]) from error


def _storable(value: Any) -> Any:
    """A value as JSON and PostgreSQL can keep it: NaN as null, moments and decimals as text, bytes as their number. Raises: ValueError."""
    match value:
        case dict():
            return {_storable(str(name)): _storable(each) for name, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
        case float() if not math.isfinite(value):
            return None
        case bytes():
            return f"({len(value)} bytes)"
        case datetime.date() | datetime.time() | datetime.timedelta() | Decimal():
            return str(value)
        case str() if "\0" in value:
            raise ValueError("a text holds NUL")
        case str():
            value.encode()  # an unpaired surrogate is a ValueError
    return value
