"""Which files are tables, and how a cell becomes JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from data_pipelines.dataforge.tables.errors import NoTable
from data_pipelines.dataforge.tables.models import CELL_CHARS, Format

_ENDINGS = {
    ".parquet": Format.PARQUET, ".pq": Format.PARQUET, ".csv": Format.CSV, ".tsv": Format.TSV, ".tab": Format.TSV,
    ".jsonl": Format.JSON, ".ndjson": Format.JSON, ".json": Format.JSON,
}  # fmt: skip
_PACKED = (".gz", ".zst")
_AS_THEY_ARE = frozenset(
    {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE"}
)
_EXACT_INT = 2**53
_NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")


def find_format(path: str) -> tuple[Format, str]:
    """The format by the name's ending, and the compression: ``gzip``, ``zstd`` or ``none``. Raises: NoTable."""
    name = path.lower()
    packing = next((ending for ending in _PACKED if name.endswith(ending)), "")
    name = name.removesuffix(packing)
    found = next((format for ending, format in _ENDINGS.items() if name.endswith(ending)), None)
    if found is None or (packing and found is Format.PARQUET):
        raise NoTable(path=path, endings=f"{', '.join(_ENDINGS)} (text also with {' or '.join(_PACKED)})")
    return found, {".gz": "gzip", ".zst": "zstd"}.get(packing, "none")


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(_NESTED)


def to_cell_sql(column: str, kind: str) -> str:
    """The expression that brings a column of DuckDB type ``kind`` into a form that ``to_cell`` finishes.

    It is cut there, so that a long cell never leaves DuckDB whole.
    """
    if kind in _AS_THEY_ARE:
        return column
    if kind == "BLOB":
        # Whole groups of 3 bytes, so that what is cut is still base64.
        return f"base64(CAST(array_slice({column}, 1, {CELL_CHARS // 4 * 3 + 3}) AS BLOB))"
    if is_nested(kind):
        column = f"to_json({column})"
    return f"left(CAST({column} AS VARCHAR), {CELL_CHARS + 1})"


def to_cell(value: Any, kind: str) -> tuple[Any, bool]:
    """A fetched value as JSON has it, and whether it was cut.

    Not-a-number and infinities are the strings ``NaN``, ``Infinity``, ``-Infinity``; integers that a double does not hold exactly
    are strings, as are decimals, dates and times (ISO 8601); bytes are base64; lists and structs are JSON.
    """
    if isinstance(value, str):
        if len(value) > CELL_CHARS:
            return value[:CELL_CHARS], True
        if is_nested(kind):
            return json.loads(value, parse_constant=str), False
        return (value.replace(" ", "T", 1) if kind.startswith("TIMESTAMP") else value), False
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity", False
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT_INT:
        return str(value), False
    return value, False


def build_diff(key: Sequence[str], most: int) -> str:
    """The SELECT of what differs from table ``base`` to table ``head``: change, old and new row as JSON, how many changed so.

    Rows of the same ``key`` are the same row, the first of several with the first; without a key a row is all that it holds, so that
    none is changed. ``most`` of each change are given.
    """
    columns = ", ".join(f"{quote(name)} AS k{at}" for at, name in enumerate(key)) or "to_json(t)::VARCHAR AS k0"
    names = [f"k{at}" for at in range(max(1, len(key)))]

    def numbered(table: str) -> str:
        rows = f"SELECT {columns}, to_json(t)::VARCHAR AS content FROM {table} t"  # noqa: S608  # the columns are quoted
        return f"SELECT *, row_number() OVER (PARTITION BY {', '.join(names)} ORDER BY content) AS turn FROM ({rows})"  # noqa: S608  # names of our own

    same = " AND ".join(f"o.{name} IS NOT DISTINCT FROM n.{name}" for name in (*names, "turn"))
    return f"""
        WITH o AS ({numbered("base")}), n AS ({numbered("head")}),
             d AS (SELECT o.content AS old, n.content AS new,
                          CASE WHEN o.turn IS NULL THEN 'added' WHEN n.turn IS NULL THEN 'removed' ELSE 'changed' END AS change
                     FROM o FULL JOIN n ON {same}
                    WHERE o.content IS DISTINCT FROM n.content)
        SELECT change, old, new, count(*) OVER (PARTITION BY change) AS total
          FROM d
       QUALIFY row_number() OVER (PARTITION BY change ORDER BY old, new) <= {most}
         ORDER BY change, old, new"""  # noqa: S608  # of parts that are quoted or ours
