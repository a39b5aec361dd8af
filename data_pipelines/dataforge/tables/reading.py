"""What is asked of tables, answered by DuckDB: in a process that holds nothing else (``child``)."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from aidos.schemas.common import encode_cursor
from data_pipelines.dataforge.tables import statements
from data_pipelines.dataforge.tables.models import ANSWER_BYTES, ARROW_BYTES, COLUMNS, MEMORY_BYTES, Answer
from data_pipelines.dataforge.tables.policy import quote, to_cell, to_cell_sql
from data_pipelines.dataforge.tables.statements import Refused

_BATCH = 256


@dataclass(frozen=True)
class Column:
    """A name, and the type as DuckDB writes it."""

    name: str
    type: str


def connect(threads: int) -> duckdb.DuckDBPyConnection:
    """A DuckDB without files, extensions and spilling to disk; what it may read is said by ``lock``."""
    return duckdb.connect(
        ":memory:",
        config={
            "threads": threads,
            "async_threads": 0,
            "memory_limit": f"{MEMORY_BYTES}B",
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def lock(connection: duckdb.DuckDBPyConnection, files: Sequence[str | Path]) -> None:
    """Only these files from now on."""
    connection.execute(f"SET allowed_paths = [{', '.join(quote_text(file) for file in files)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def read_schema(connection: duckdb.DuckDBPyConnection, file: str, head: dict[str, Any]) -> Answer:
    """Columns and how many rows."""
    lock(connection, [file])
    found = _columns(connection, _table(file))
    return _to_answer({**head, "columns": [column.__dict__ for column in found], "rows": _count(connection, file)})


def read_rows(connection: duckdb.DuckDBPyConnection, file: str, asked: dict[str, Any], head: dict[str, Any]) -> Answer:
    """A page. Unsorted it goes by row number, so that row groups before it are not read, and the page after it begins where it ended.

    For a filter and an order only their own columns are read of all rows, and the others of the rows of the page.
    """
    lock(connection, [file])
    known = _columns(connection, _table(file))
    shown = _choose(known, asked["columns"])
    where = _where(connection, asked["filter"], file)
    row, numbered = _number(known, file)
    limit, offset, after = asked["limit"], asked["offset"], asked["after"]
    keys = [_order(known, each) for each in asked["sort"]]
    if keys or asked["filter"]:
        first, skipped = (after, 0) if after is not None and not keys else (0, offset if after is None else after)
        picked = f"SELECT {row} FROM {numbered} WHERE {where} AND {row} >= {first} ORDER BY {', '.join([*keys, row])}"
        numbers = [number for (number,) in connection.execute(f"{picked} LIMIT {limit + 1} OFFSET {skipped}").fetchall()]
        chosen = f"{row} IN ({', '.join(map(str, numbers)) or 'NULL'})"
    else:
        first = offset if after is None else after
        numbers = list(range(first, first + limit + 1))
        chosen = f"{row} >= {first} AND {row} <= {first + limit}"
    cells = ", ".join([row, *(to_cell_sql(quote(column.name), column.type) for column in shown)])
    fetched = connection.execute(f"SELECT {cells} FROM {numbered} WHERE {chosen} ORDER BY {row}")
    place = {number: at for at, number in enumerate(numbers)}
    rows = iter(sorted(fetched.fetchall(), key=lambda row: place[row[0]])) if keys else _fetch(fetched)
    page = _Page(shown, limit)
    following = page.fill(rows, numbered=True)
    after = None if following is None else skipped + len(page.rows) if keys else following
    cursor = None if after is None else encode_cursor(head["commit_id"], after)
    total = None if asked["filter"] else _count(connection, file)
    return page.to_answer({**head, "row_numbers": page.numbers, "total_rows": total, "next_cursor": cursor})


def run_query(
    connection: duckdb.DuckDBPyConnection, tables: dict[str, str], sql: str, limit: int, arrow: bool, head: dict[str, Any]
) -> Answer:
    """One SELECT over files by the names of tables. Raises: Refused."""
    for name, file in tables.items():
        connection.execute(f"CREATE VIEW {quote(name)} AS SELECT * FROM {_table(file)}")
    lock(connection, list(tables.values()))
    statements.check_select(connection, sql, tables)
    inner = f"(\n{sql.strip().rstrip(';')}\n)"
    found = _columns(connection, inner)
    if arrow:
        return _to_arrow(connection.sql(f"SELECT * FROM {inner} LIMIT {limit + 1}"), limit)
    shown = _choose(found, ())
    names = [quote(f"c{number}") for number in range(len(shown))]
    cells = ", ".join(to_cell_sql(name, column.type) for name, column in zip(names, shown, strict=True))
    page = _Page(shown, limit)
    fetched = connection.execute(f"SELECT {cells} FROM {inner} AS answer({', '.join(names)}) LIMIT {limit + 1}")
    cut = page.fill(_fetch(fetched), numbered=False) is not None
    return page.to_answer({**head, "truncated": cut})


def is_whole(connection: duckdb.DuckDBPyConnection, file: str) -> bool:
    """Whether all of a table can be read."""
    try:
        connection.execute(f"SELECT max(hash(COLUMNS(*))) FROM {_table(file)}")
    except duckdb.Error:
        return False
    return True


class _Page:
    """Rows as JSON, as many as there is room for."""

    def __init__(self, columns: Sequence[Column], limit: int) -> None:
        self.columns, self.limit = columns, limit
        self.rows: list[str] = []
        self.numbers: list[int] = []
        self.cut: list[list[int]] = []

    def fill(self, rows: Iterator[tuple[Any, ...]], *, numbered: bool) -> int | None:
        """The number (or 0) of the first row that found no room, None when all did."""
        size_bytes = 0
        for row in rows:
            number, values = (row[0], row[1:]) if numbered else (0, row)
            cells = [to_cell(value, column.type) for value, column in zip(values, self.columns, strict=True)]
            text = json.dumps([cell for cell, _ in cells], ensure_ascii=False, separators=(",", ":"))
            size_bytes += len(text)
            if len(self.rows) == self.limit or (self.rows and size_bytes > ANSWER_BYTES):
                return number
            self.cut += [[len(self.rows), at] for at, (_, was_cut) in enumerate(cells) if was_cut]
            self.rows.append(text)
            self.numbers.append(number)
        return None

    def to_answer(self, head: dict[str, Any]) -> Answer:
        """With the rows spliced in: they are JSON already."""
        columns = [column.__dict__ for column in self.columns]
        start = json.dumps({**head, "columns": columns, "cut_cells": self.cut}, ensure_ascii=False)
        return Answer(f'{start[:-1]}, "rows": [{",".join(self.rows)}]}}'.encode(errors="replace"))


def _fetch(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while batch := result.fetchmany(_BATCH):
        yield from batch


def _to_arrow(result: duckdb.DuckDBPyRelation, limit: int) -> Answer:
    """An Arrow IPC stream of as many whole batches as there is room for."""
    batches = result.to_arrow_reader(2048)
    target, rows, whole = io.BytesIO(), 0, True
    with pa.ipc.new_stream(target, batches.schema) as writer:
        for batch in batches:
            if rows + batch.num_rows > limit or target.tell() + batch.nbytes > ARROW_BYTES:
                batch, whole = batch.slice(0, limit - rows if batch.nbytes <= ARROW_BYTES else 0), False
            writer.write_batch(batch)
            rows += batch.num_rows
            if not whole:
                break
    return Answer(target.getvalue(), {"truncated": not whole})


def _table(file: str) -> str:
    return f"read_parquet({quote_text(file)})"


def quote_text(file: str | Path) -> str:
    """A path as SQL has it."""
    return "'" + str(file).replace("'", "''") + "'"


def _number(known: Sequence[Column], file: str) -> tuple[str, str]:
    """The name of the rows' number, from 0, and the table that has it. A file with such a column of its own is counted through."""
    names = {column.name.lower() for column in known}
    if "file_row_number" not in names:
        return "file_row_number", f"read_parquet({quote_text(file)}, file_row_number = true)"
    row = next(name for name in map("row_{}".format, itertools.count()) if name not in names)
    return row, f"(SELECT *, row_number() OVER () - 1 AS {row} FROM {_table(file)})"


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[Column]:
    return [Column(name, kind) for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()]


def _count(connection: duckdb.DuckDBPyConnection, file: str) -> int:
    (rows,) = connection.execute(f"SELECT num_rows FROM parquet_file_metadata({quote_text(file)})").fetchone() or (0,)
    return int(rows)


def _find(known: Sequence[Column], name: str) -> Column:
    """Raises: Refused."""
    for column in known:
        if column.name == name:
            return column
    shown = ", ".join(f"'{column.name}'" for column in known[:20])
    raise Refused(f"The file has no column '{name}'; it has {shown}{' and others' if len(known) > 20 else ''}.")


def _choose(known: Sequence[Column], names: Sequence[str]) -> list[Column]:
    chosen = [_find(known, name) for name in names] or list(known)
    if len(chosen) > COLUMNS:
        raise Refused(f"An answer has at most {COLUMNS} columns, not {len(chosen)}. Choose them by 'columns'.")
    return chosen


def _order(known: Sequence[Column], asked: str) -> str:
    descending = asked.startswith("-") and all(column.name != asked for column in known)
    return f"{quote(_find(known, asked[1:] if descending else asked).name)} {'DESC' if descending else 'ASC'} NULLS LAST"


def _where(connection: duckdb.DuckDBPyConnection, condition: str, file: str) -> str:
    """A condition over the columns, checked as part of the statement that it becomes. Raises: Refused."""
    if not condition:
        return "true"
    statements.check_select(connection, f"SELECT 1 FROM data WHERE (\n{condition}\n)", {"data"})
    connection.execute(f"CREATE VIEW data AS SELECT * FROM {_table(file)}")
    return f"(\n{condition}\n)"


def _to_answer(value: dict[str, Any]) -> Answer:
    return Answer(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
