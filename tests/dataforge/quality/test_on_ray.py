"""Units of a report on real Ray workers: done once each, again after a failure, and values come back as they were."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from aidos.config import JobConfig
from data_pipelines.dataforge.reports.source import Source, Tree

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def said() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def source(said: list[tuple[str, int, int]]) -> Source:
    def progress(_: str, *, stage: str, done: int, total: int) -> None:
        said.append((stage, done, total))

    client: Any = SimpleNamespace(reports=SimpleNamespace(progress=progress))
    return Source(client, "report", Tree("people", "commit"), JobConfig(workers=2, cpus_per_worker=0.5))


def fail_first(folder: str, how: str, unit: int) -> int:
    """Fails the first time that it is asked for unit 1."""
    mark = Path(folder) / f"{how}-{unit}"
    if unit == 1 and not mark.exists():
        mark.touch()
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ConnectionError("the network was away")
    return unit * 10


def look(shared: Any, unit: tuple[np.ndarray, tuple[int, ...]]) -> tuple[str, str, float]:
    array, numbers = unit
    return type(array).__name__, type(numbers).__name__, float(shared()[array].sum())


class TestEach:
    @pytest.mark.parametrize("how", ["raises", "dies"])
    def test_does_a_unit_again_that_failed(self, source: Source, tmp_path: Path, how: str) -> None:
        assert sorted(source.each("units", [0, 1, 2], partial(fail_first, str(tmp_path), how))) == [0, 10, 20]
        assert (tmp_path / f"{how}-1").exists()

    def test_gives_and_takes_values_as_they_are(self, source: Source, said: list[tuple[str, int, int]]) -> None:
        shared = source.share(np.arange(10.0))
        units = [(np.array([1, 2]), (1,)), (np.array([9]), (1, 2))]
        assert sorted(source.each("looks", units, partial(look, shared))) == [("ndarray", "tuple", 3.0), ("ndarray", "tuple", 9.0)]
        assert said[0] == ("looks", 0, 2) and said[-1] == ("looks", 2, 2)

    def test_of_nothing_is_nothing(self, source: Source) -> None:
        assert list(source.each("none", [], partial(fail_first, "", "raises"))) == []
