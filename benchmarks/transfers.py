"""Push, a change of one file, and pull of many small files: AI-DOS, DVC and bare S3 in turns, on one object store.

The platform runs in a process of its own, as in production; AI-DOS and DVC are the commands that a user types, so each pays for its
own start. Every round has files that no one has seen, and a pull begins with empty caches. Bare S3 is the least that any tool does
that keeps a file an object: one presigned request a file in eight threads of this process, without hashes, versions or checks.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import structlog
import urllib3

from benchmarks import dvc
from benchmarks.harness import Figure
from benchmarks.storage import make_key
from cluster.objects import Objects
from cluster.settings import Settings, inherited_environment
from tests.support.platform import find_free_ports
from tests.support.server import serve

FILE_BYTES = 10_000
BARS = {"push": 4.0, "push_one_changed": 8.0, "pull": 6.0}
"""How many times DVC's speed each should have."""
_AIDOS = Path(sys.executable).parent / "aidos"
_THREADS = 8


def measure_transfers(settings: Settings, directory: Path, count: int, rounds: int, *, held: bool) -> list[Figure]:
    """Files a second of each verb, the median of the rounds; ``held`` to the bars."""
    key = make_key(settings)
    taken: dict[tuple[str, str], list[float]] = {}
    with serve_apart(settings) as url:
        for number in range(rounds):
            work = directory / f"round-{number}"
            subjects = [
                ("AI-DOS", _Aidos(url, key, work / "aidos")),
                ("DVC", _Dvc(settings, work / "dvc")),
                ("bare S3", _Bare(settings, work)),
            ]
            for name, subject in subjects if number % 2 == 0 else subjects[::-1]:
                for verb, seconds in _go_round(subject, work / "out", count):
                    taken.setdefault((name, verb), []).append(seconds)
            shutil.rmtree(work)
    per_second = {case: count / statistics.median(seconds) for case, seconds in taken.items()}
    figures = [
        Figure(f"dataforge.{verb}_of_{count}", per_second["AI-DOS", verb], "files/s", "DVC", per_second["DVC", verb], bar if held else None)
        for verb, bar in BARS.items()
    ]
    return figures + [
        Figure(f"dataforge.{verb}_of_{count}", per_second["AI-DOS", verb], "files/s", "a request a file", per_second["bare S3", verb])
        for verb in ("push", "pull")
    ]


def _go_round(subject: Any, out: Path, count: int) -> Iterator[tuple[str, float]]:
    """Seconds of each verb. What was pulled must be what was pushed."""
    paths = [_write(subject.data, number) for number in range(count)]
    yield "push", _seconds(subject.push)
    _write(subject.data, count // 2)
    yield "push_one_changed", _seconds(subject.push)
    pulled = subject.prepare_pull(out)
    yield "pull", _seconds(subject.pull)
    for path in paths:
        if (pulled / path.relative_to(subject.data)).read_bytes() != path.read_bytes():
            sys.exit(f"{path} was not pulled as it was pushed")
    shutil.rmtree(out)


def _write(folder: Path, number: int) -> Path:
    path = folder / f"{number // 1000:04}" / f"{number:07}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(FILE_BYTES))
    return path


class _Aidos:
    """`aidos dataset push` and `pull`."""

    def __init__(self, url: str, key: str, root: Path) -> None:
        self.data, self._root, self._out, self._name = root / "data", root, root, root.parent.name
        self._environment = inherited_environment() | {"AIDOS_URL": url, "AIDOS_API_KEY": key, "AIDOS_CACHE_DIR": str(root / "cache")}

    def push(self) -> None:
        self._aidos("push", self.data, "--name", self._name)

    def prepare_pull(self, out: Path) -> Path:
        self._out = out
        self._environment["AIDOS_CACHE_DIR"] = str(self._root / "empty")
        return out

    def pull(self) -> None:
        self._aidos("pull", self._name, self._out)

    def _aidos(self, *arguments: str | Path) -> None:
        dvc.run([_AIDOS, "dataset", *arguments, "--json"], self._environment)


class _Dvc:
    """`dvc add` and `dvc push`; `dvc pull`."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._objects, self._repository = Objects(settings), dvc.Repository(root, Objects(settings), root.parent.name)
        self.data, self.push, self._name = self._repository.data, self._repository.push, root.parent.name

    def prepare_pull(self, out: Path) -> Path:
        self._other = dvc.Repository(out, self._objects, self._name)
        return self._other.data

    def pull(self) -> None:
        self._other.pull(self._repository)


class _Bare:
    """A request a file."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.data, self._out, self._prefix = root / "bare", root, f"bare-{root.name}"
        self._objects, self._http = Objects(settings), urllib3.PoolManager(maxsize=_THREADS)

    def push(self) -> None:
        self._each(self._put)

    def prepare_pull(self, out: Path) -> Path:
        self._out = out
        return out

    def pull(self) -> None:
        self._each(self._get)

    def _each(self, work: Callable[[Path], None]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(work, sorted(self.data.rglob("*.bin"))))

    def _put(self, path: Path) -> None:
        answer = self._http.request("PUT", self._objects.presign_put(f"{self._prefix}/{path.name}"), body=path.read_bytes())
        assert answer.status == 200, answer.data

    def _get(self, path: Path) -> None:
        answer = self._http.request("GET", self._objects.presign_get(f"{self._prefix}/{path.name}"))
        assert answer.status == 200, answer.data
        target = self._out / path.relative_to(self.data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(answer.data)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextlib.contextmanager
def serve_apart(settings: Settings) -> Iterator[str]:
    """The API in a process of its own; its address."""
    context, port = multiprocessing.get_context("spawn"), find_free_ports(1)
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_serve, args=(settings, port, ready, done))
    process.start()
    try:
        while not ready.wait(1):
            if not process.is_alive():
                sys.exit("the platform did not come up")
        yield f"http://127.0.0.1:{port}"
    finally:
        done.set()
        process.join()


def _serve(settings: Settings, port: int, ready: Event, done: Event) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with serve(settings, port):
        ready.set()
        done.wait()
