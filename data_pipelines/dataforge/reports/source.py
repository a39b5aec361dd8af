"""What a report's pipeline works with: the files of a commit, workers of Ray Data, and a way to say how far it is.

Everything heavy goes through ``Source.each``: a Ray Data graph of small units whose results are merged here as they come, so that
neither a worker nor the driver holds more than a unit's bytes. A worker that dies costs its units only; they are done again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import ray
import ray.data
from ray.data import ExecutionResources

from aidos.client import Client
from aidos.config import JobConfig
from aidos.errors import AidosError
from aidos.schemas.dataforge.versions import FileRead
from aidos.transfers.filesystem import AidosFileSystem
from aidos.transfers.listing import read_listing

Unit = TypeVar("Unit")
Result = TypeVar("Result")
RETRIES = 3
"""How often a unit is done again whose work raised; one whose worker died is done again by Ray itself, as often."""
_SAY_EVERY_S = 1.0


@dataclass(frozen=True)
class Tree:
    """The files of one commit; small enough to travel to every worker."""

    dataset: str
    commit_id: str

    def url(self, path: str) -> str:
        return f"{self.dataset}@{self.commit_id}/{path}"

    def open(self, path: str) -> Any:
        """A file for reading in bytes."""
        return AidosFileSystem().open(self.url(path))

    def read(self, path: str) -> bytes:
        return AidosFileSystem().cat_file(self.url(path))


@dataclass(frozen=True)
class Opaque:
    """Keeps Ray Data from making Arrow of a value: tuples would come back as lists, arrays as lists of numbers."""

    value: Any


@dataclass
class Source:
    """A commit, and the job that looks into it."""

    client: Client
    report_id: str
    tree: Tree
    job: JobConfig
    _said: float = field(default=0.0)
    _saying: threading.Lock = field(default_factory=threading.Lock)

    def files(self, tree: Tree | None = None) -> list[FileRead]:
        """Files by path, of this commit or another."""
        tree = tree or self.tree
        return list(read_listing(self.client, tree.dataset, self.client.datasets.show(tree.dataset, tree.commit_id).id).values())

    def each(self, stage: str, units: Sequence[Unit], work: Callable[[Unit], Result]) -> Iterator[Result]:
        """``work`` of every unit, in any order, on as many workers as the job asked for.

        ``work`` runs in a Ray worker: it must be picklable and free of state. What it raises ends the report once it was tried
        again ``RETRIES`` times; a file that is bad is no exception, the pipeline sets it aside with its reason.
        """
        self.say(stage, 0, len(units), now=True)
        if not units:
            return
        data = ray.data.from_items([{"unit": Opaque(unit)} for unit in units], override_num_blocks=len(units))
        data.context.execution_options.resource_limits = ExecutionResources(cpu=self.job.workers * self.job.cpus_per_worker)
        data.context.enable_progress_bars = False
        # Ray Data wraps what the work raises, so that the task's own retry_exceptions would not know it.
        data.context.retried_map_errors, data.context.max_map_retries = True, RETRIES
        results = data.map(lambda row: {"result": Opaque(work(row["unit"].value))}, num_cpus=self.job.cpus_per_worker)
        for done, row in enumerate(results.iter_rows(), 1):
            yield row["result"].value
            self.say(stage, done, len(units), now=done == len(units))

    def share(self, value: Result) -> Callable[[], Result]:
        """A large value that every worker needs: kept once, and fetched by calling what is given."""
        return partial(ray.get, ray.put(value))

    def say(self, stage: str, done: int, total: int, *, now: bool = False) -> None:
        """Progress for who waits: once a second at most, and never a reason to fail."""
        with self._saying:
            if not now and time.monotonic() < self._said + _SAY_EVERY_S:
                return
            self._said = time.monotonic()
        try:
            self.client.reports.progress(self.report_id, stage=stage, done=done, total=total)
        except AidosError as error:
            print(f"progress was not taken: {error}", flush=True)  # noqa: T201  # the job's log is where it belongs
