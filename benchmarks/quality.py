"""A profile of Parquet on local Ray workers: how fast beside what plain Ray Data computes of the same files, and in how much memory.

The peer computes count, mean, deviation, least and greatest of the numeric columns, by ``Dataset.aggregate``; the profile beside these
quantiles, histograms, distinct and frequent values, personal data, equal rows and leaks. Both read the same local files.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.aggregate import Count, Max, Mean, Min, Std

from aidos.config import JobConfig
from aidos.schemas.dataforge.reports import ProfileParams
from aidos.schemas.dataforge.versions import FileRead
from benchmarks.harness import Figure, parse_arguments, report
from data_pipelines.dataforge.quality import pipeline
from data_pipelines.dataforge.reports.source import Source

WORKERS = 2
NUMBERS = [f"x{at}" for at in range(8)]


@dataclass(frozen=True)
class Folder:
    """A folder in the place of a commit."""

    path: str

    def open(self, path: str) -> Any:
        return (Path(self.path) / path).open("rb")

    def read(self, path: str) -> bytes:
        return (Path(self.path) / path).read_bytes()


def measured(work: Callable[[Any], Any], unit: Any) -> tuple[Any, int]:
    """What the work gives, and the most memory that its worker has had, in bytes."""
    return work(unit), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class LocalSource(Source):
    """A report's source over a folder; remembers the largest worker."""

    peak_bytes: int = field(default=0)

    def files(self, tree: Any = None) -> list[FileRead]:
        found = sorted(Path(self.tree.path).iterdir())  # type: ignore[attr-defined]  # a Folder
        return [FileRead(path=path.name, sha256=path.name, size_bytes=path.stat().st_size) for path in found]

    def each(self, stage: str, units: Sequence[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
        for result, peak_bytes in super().each(stage, units, partial(measured, work)):
            self.peak_bytes = max(self.peak_bytes, peak_bytes)
            yield result


def write(folder: Path, size_bytes: int) -> int:
    """Parquet files of at least so many bytes together; their rows."""
    random, rows, part, batch = np.random.default_rng(0), 0, 0, 1_000_000
    users = pa.array([f"user-{number}" for number in range(10**6)])
    while sum(path.stat().st_size for path in folder.iterdir()) < size_bytes:
        columns: dict[str, Any] = {name: random.normal(size=batch) for name in NUMBERS}
        columns |= {"kind": random.choice(["a", "b", "c"], batch), "user": users.take(pa.array(random.integers(0, 10**6, batch)))}
        columns["at"] = random.integers(0, 10**9, batch).astype("datetime64[s]")
        pq.write_table(
            pa.table({name: pa.array(values) for name, values in columns.items()}), folder / f"{part:04}.parquet", row_group_size=500_000
        )
        rows, part = rows + batch, part + 1
    return rows


def profile(folder: Path) -> tuple[float, int, int]:
    """Seconds, rows seen, and the peak of the largest worker in bytes."""
    client: Any = SimpleNamespace(reports=SimpleNamespace(progress=lambda *_, **__: None))
    source = LocalSource(client, "", Folder(str(folder)), JobConfig(workers=WORKERS))  # type: ignore[arg-type]  # in the place of a Tree
    began = time.perf_counter()
    found = pipeline.profile(source, ProfileParams())
    return time.perf_counter() - began, found["table"]["rows"], source.peak_bytes


@contextmanager
def workers() -> Iterator[None]:
    """Processes of their own, so that one's memory is none of the other's; each is begun and has its libraries."""
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        ray.data.range(WORKERS, override_num_blocks=WORKERS).map(_load).materialize()
        yield
    finally:
        ray.shutdown()


def _load(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "loaded": pipeline.__name__}


def worker_peak_bytes() -> int:
    """The most memory that one of the workers which are there has had (proc(5), VmHWM)."""
    peaks = [0]
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError, psutil.Error):
            if process.name().startswith("ray::"):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks += [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")]
    return max(peaks)


def aggregate(folder: Path) -> float:
    """Seconds that plain Ray Data takes for the moments and ranges."""
    began = time.perf_counter()
    data = ray.data.read_parquet(str(folder), columns=NUMBERS)
    data.aggregate(Count(), *(make(name) for name in NUMBERS for make in (Mean, Std, Min, Max)))
    return time.perf_counter() - began


def main() -> int:
    options = parse_arguments(__doc__ or "", gigabytes=5.0)
    with tempfile.TemporaryDirectory(prefix="aidos-quality-") as directory:
        folder = Path(directory)
        rows = write(folder, int((0.15 if options.quick else options.gigabytes) * 1e9))
        size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        with workers():
            plain_s, plain_bytes = aggregate(folder), worker_peak_bytes()
        with workers():
            profile_s, seen, peak_bytes = profile(folder)
        assert seen == rows
    return report(
        [
            Figure("quality.profile", size_mb / profile_s, "MB/s of Parquet", "Ray Data's moments", size_mb / plain_s),
            Figure("quality.profile_size", size_mb / 1e3, "GB"),
            Figure("quality.worker_peak", peak_bytes / 1e9, "GB", bar=2.0, lower_is_better=True),
            Figure("quality.worker_peak", peak_bytes / 1e9, "GB", "Ray Data's moments", plain_bytes / 1e9),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
