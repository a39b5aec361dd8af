"""DataForge's reading: streams of rows and of small files beside plain pyarrow and bare S3, and who has seen a row.

``python -m benchmarks.dataforge_reading [--quick]``, on a PostgreSQL and SeaweedFS of its own; the API runs in a thread of this process.
The peers read the same bytes from the same S3 in the order in which they lie: no shuffle, no resume, no check, no record. The peer of
rows makes batches of tensors from row groups with pyarrow; that of files asks once a file in eight threads.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import structlog
import torch
import urllib3

import aidos
from actors.securityvault import service as securityvault
from aidos.client import Client
from aidos.transfers.directories import push
from benchmarks.harness import Figure, in_turns, parse_arguments, report
from benchmarks.storage import make_key, own_storage
from cluster.db import Database, new_id
from cluster.objects import Objects
from cluster.settings import Settings
from data_pipelines.dataforge.reads import service as reads
from data_pipelines.dataforge.reads.models import ReadFile, ReadsSpec
from tests.support.server import serve

FILE_BYTES = 10_000
COLUMNS = 10
SOURCES = 100
RANGES = 100
ROWS = 1000


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with own_storage("reading") as (settings, directory):
        key = make_key(settings)
        os.environ["AIDOS_CACHE_DIR"] = str(directory / "cache")
        with serve(settings) as url, Client(url, key) as client:
            figures = measure_streams(settings, client, directory, quick=arguments.quick)
            figures += measure_seen_by(settings, client, *((1000, 100) if arguments.quick else (10_000, 1000)))
    return report(figures)


def measure_streams(settings: Settings, client: Client, directory: Path, *, quick: bool) -> list[Figure]:
    """Rows a second of Parquet, files a second of small files; shuffled, through the SDK."""
    rows, files, rounds = (100_000, 1000, 1) if quick else (1_000_000, 10_000, 3)
    tables, small = directory / "tables", directory / "small"
    tables.mkdir()
    small.mkdir()
    for number in range(4):
        columns = {f"c{n}": [random.random() for _ in range(rows // 4)] for n in range(COLUMNS)}
        pyarrow.parquet.write_table(pyarrow.table(columns), tables / f"{number}.parquet", row_group_size=10_000)
    for number in range(files):
        (small / f"{number:06}.bin").write_bytes(os.urandom(FILE_BYTES))
    push(tables, "tables", client=client)
    push(small, "small", client=client)
    objects = Objects(settings)
    bare = {path: _put(objects, path) for path in (*sorted(tables.iterdir()), *sorted(small.iterdir()))}
    row_rates = in_turns(
        {
            "ours": lambda: _batched_rate(rows, lambda: aidos.dataset("tables", client=client).to_torch(seed=1, batch_size=1024)),
            "peer": lambda: _batched_rate(rows, lambda: _plain_rows([bare[path] for path in sorted(tables.iterdir())])),
        },
        rounds,
    )
    file_rates = in_turns(
        {
            "ours": lambda: _rate(files, lambda: aidos.dataset("small", client=client).to_torch(seed=1)),
            "peer": lambda: _rate(files, lambda: _plain_files([bare[path] for path in sorted(small.iterdir())])),
        },
        rounds,
    )
    return [
        Figure("dataforge.stream_rows", row_rates["ours"], "rows/s", "pyarrow over S3, as they lie", row_rates["peer"]),
        Figure("dataforge.stream_small_files", file_rates["ours"], "files/s", "a request a file, 8 threads", file_rates["peer"]),
    ]


def _put(objects: Objects, path: Path) -> str:
    key = f"bare/{path.parent.name}/{path.name}"
    answer = urllib3.request("PUT", objects.presign_put(key), body=path.read_bytes())
    assert answer.status == 200, answer.data
    return objects.presign_get(key)


def _rate(count: int, begin: Callable[[], Any]) -> float:
    began = time.perf_counter()
    read = sum(1 for _ in begin())
    assert read == count, f"{read} of {count}"
    return count / (time.perf_counter() - began)


def _batched_rate(count: int, begin: Callable[[], Iterable[dict[str, Any]]]) -> float:
    began = time.perf_counter()
    read = sum(len(batch["c0"]) for batch in begin())
    assert read == count, f"{read} of {count}"
    return count / (time.perf_counter() - began)


def _plain_rows(urls: list[str]) -> Iterator[dict[str, Any]]:
    for url in urls:
        opened = pyarrow.parquet.ParquetFile(io.BytesIO(urllib3.request("GET", url).data))
        for batch in opened.iter_batches(1024):
            columns = zip(batch.schema.names, batch.columns, strict=True)
            yield {name: torch.from_numpy(column.to_numpy(zero_copy_only=False).copy()) for name, column in columns}


def _plain_files(urls: list[str]) -> Iterator[bytes]:
    http = urllib3.PoolManager(maxsize=8)
    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(lambda url: http.request("GET", url).data, urls)


def measure_seen_by(settings: Settings, client: Client, runs: int, files: int) -> list[Figure]:
    """Seconds until all runs that saw one row are told, where each run read most of a thousand files, in scattered ranges."""
    asyncio.run(_record(settings, runs, files))
    expected = len(list(client.reads.seen_by(_sha(files // 2), row=7, limit=runs)))
    assert 0 < expected < runs, "some saw it, some did not"
    name = f"of {runs:,} runs over {files:,} files"
    all_s = in_turns({"": lambda: _seconds(lambda: list(client.reads.seen_by(_sha(files // 2), row=7, limit=runs)))}, 3)[""]
    page_s = in_turns({"": lambda: _seconds(lambda: list(client.reads.seen_by(_sha(files // 2), row=7, limit=100)))}, 3)[""]
    return [
        Figure(f"dataforge.seen_by_row_newest_100 {name}", page_s, "s", bar=1.0, lower_is_better=True),
        Figure(f"dataforge.seen_by_row_all_{expected} {name}", all_s, "s", bar=1.0, lower_is_better=True),
    ]


async def _record(settings: Settings, runs: int, files: int) -> None:
    """Runs over a hundred sources (as a dataset that had a hundred commits), each with a hundred ranges of what it read."""
    chance = random.Random(0)
    async with Database(settings) as db:
        async with db.platform() as conn:
            scope = await securityvault.default_scope(conn)
        sources = [sha256(f"source {number}".encode()).hexdigest() for number in range(SOURCES)]
        size = files * ROWS
        for source in sources:
            async with db.tenant(org_id=scope.org_id, project_id=scope.project) as conn:
                described = [ReadFile(f"{number:06}.parquet", _sha(number), ROWS) for number in range(files)]
                await reads.describe_source(conn, scope, source, "row", size, 0, described)
        for batch in _batches(runs, 500):
            async with db.tenant(org_id=scope.org_id, project_id=scope.project) as conn:
                for number in batch:
                    cuts = sorted(chance.sample(range(size), 2 * RANGES))
                    ranges = tuple(itertools.pairwise(cuts))[::2]
                    await reads.record_reads(conn, scope, ReadsSpec(new_id(), sources[number % SOURCES], "bench", new_id(), ranges))


def _batches(count: int, size: int) -> Iterator[range]:
    return (range(start, min(count, start + size)) for start in range(0, count, size))


def _sha(number: int) -> str:
    return sha256(f"file {number}".encode()).hexdigest()


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
