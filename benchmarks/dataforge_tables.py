"""DataForge's viewer: a page of a million rows, asked over HTTP of files in S3, beside plain DuckDB on the same file on local disk.

``python -m benchmarks.dataforge_tables [--quick]``, on a PostgreSQL and SeaweedFS of its own; the API runs in a thread of this process.
Cold: nothing of the file is in the viewer's cache, so that it comes from S3. DuckDB gives rows of Python; ours come as JSON, and checked.
Of a large file it says how many bytes came for a question, too.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import structlog

from aidos.client import Client
from aidos.transfers.directories import push
from benchmarks.harness import Figure, in_turns, parse_arguments, report
from benchmarks.storage import make_key, own_storage
from cluster.settings import Settings
from tests.support.server import serve

PAGE_ROWS, PAGE = 100, 9000
COLUMNS = 9


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with own_storage("tables") as (settings, directory):
        key, tables = make_key(settings), directory / "tables"
        write(tables, 1_000_000)
        write_large(tables, 1_000_000 if arguments.quick else 10_000_000)
        with serve(settings) as url, Client(url, key) as client:
            push(tables, "tables", client=client)
            figures = measure(settings, client, tables, 1 if arguments.quick else 9)
            figures += measure_large(settings, client, 1 if arguments.quick else 3)
    return report(figures)


def write(folder: Path, rows: int) -> None:
    """The same rows as Parquet of some 80 MB, and as CSV."""
    folder.mkdir()
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {"id": np.arange(rows), "kind": random.choice(["a", "b", "c"], rows)}
    columns |= {f"x{at}": random.normal(size=rows) for at in range(COLUMNS)}
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, folder / "t.parquet", row_group_size=100_000)
    pyarrow.csv.write_csv(table.select(["id", "kind", "x0", "x1"]), folder / "t.csv")


def write_large(folder: Path, rows: int) -> None:
    """Some 90 bytes a row, in row groups of 100,000: ``id`` is in order, all else is not."""
    random, writer = np.random.default_rng(1), None
    for first in range(0, rows, 100_000):
        columns: dict[str, Any] = {"id": np.arange(first, first + 100_000), "kind": random.choice(["a", "b", "c"], 100_000)}
        columns |= {f"x{at}": random.normal(size=100_000) for at in range(COLUMNS)}
        table = pyarrow.table(columns)
        writer = writer or pyarrow.parquet.ParquetWriter(folder / "large.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure_large(settings: Settings, client: Client, rounds: int) -> list[Figure]:
    """Seconds a cold question of the large file, and the megabytes that it fetched."""
    cache = settings.home / "cache" / "viewer" / "files"
    rows = partial(client.tables.rows, "tables", path="large.parquet", limit=PAGE_ROWS)
    count = "SELECT count(*), avg(x1) FROM t WHERE kind = 'a'"
    questions: dict[str, Callable[[], Any]] = {
        "filter_in_order": lambda: rows(filter="id BETWEEN 500000 AND 500050"),
        "filter": lambda: rows(filter="x0 > 4.2", columns=["id", "kind", "x0"]),
        "sort_in_order": lambda: rows(sort=["-id"]),
        "sort": lambda: rows(sort=["x0"], columns=["id", "kind", "x0"]),
        "sql": lambda: client.tables.query("tables", count, files={"t": "large.parquet"}),
    }
    figures = []
    for name, question in questions.items():
        seconds = median(rounds, question, lambda: shutil.rmtree(cache, ignore_errors=True))
        fetched_bytes = sum(entry.stat().st_size for entry in cache.iterdir())
        figures.append(Figure(f"dataforge.large_{name}", seconds, "s"))
        figures.append(Figure(f"dataforge.large_{name}_fetched", fetched_bytes / 1e6, "MB"))
    return figures


def measure(settings: Settings, client: Client, folder: Path, rounds: int) -> list[Figure]:
    """Seconds a question."""
    cache = settings.home / "cache" / "viewer" / "files"
    local = duckdb.connect(config={"threads": 2})
    local.read_parquet(str(folder / "t.parquet")).create_view("t")

    def page(path: str, **asked: Any) -> list[Any]:
        return client.tables.rows("tables", path=path, offset=PAGE * PAGE_ROWS, limit=PAGE_ROWS, **asked).rows

    def plain(sql: str) -> list[Any]:
        return local.execute(f"{sql} LIMIT ? OFFSET ?", [PAGE_ROWS, PAGE * PAGE_ROWS]).fetchall()

    def whole() -> Any:
        return client.tables.query("tables", "SELECT count(*) FROM t WHERE kind = 'a'", files={"t": "t.parquet"}).rows[0][0]

    def forget() -> None:
        shutil.rmtree(cache)

    first_s = timed(lambda: page("t.parquet"))
    assert [tuple(row) for row in page("t.parquet")] == plain("FROM t")
    cold_s = median(rounds, lambda: page("t.parquet"), forget)
    csv_s = median(min(rounds, 3), lambda: page("t.csv"), forget)
    whole_s = median(min(rounds, 3), whole, forget)
    assert whole() == local.execute("SELECT count(*) FROM t WHERE kind = 'a'").fetchall()[0][0]
    warm = in_turns({"ours": lambda: timed(lambda: page("t.parquet")), "peer": lambda: timed(lambda: plain("FROM t"))}, rounds)
    ordered = in_turns(
        {"ours": lambda: timed(lambda: page("t.parquet", sort=["x0"])), "peer": lambda: timed(lambda: plain("FROM t ORDER BY x0"))}, rounds
    )
    return [
        Figure("dataforge.page_first_ever", first_s, "s"),
        Figure("dataforge.page_9000_cold", cold_s, "s", bar=1.0, lower_is_better=True),
        Figure("dataforge.page_9000_warm", warm["ours"], "s", bar=1.0, lower_is_better=True),
        Figure("dataforge.page_9000_beside", warm["ours"], "s", "DuckDB, local file", warm["peer"]),
        Figure("dataforge.page_9000_sorted", ordered["ours"], "s", "DuckDB, local file", ordered["peer"]),
        Figure("dataforge.count_where_cold", whole_s, "s"),
        Figure("dataforge.page_9000_csv_cold", csv_s, "s"),
    ]


def timed(work: Callable[[], Any]) -> float:
    """Seconds it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(rounds: int, work: Callable[[], Any], before: Callable[[], None]) -> float:
    """Of ``rounds``, each after ``before``, which is not counted."""
    values = []
    for _ in range(rounds):
        before()
        values.append(timed(work))
    return statistics.median(values)


if __name__ == "__main__":
    sys.exit(main())
