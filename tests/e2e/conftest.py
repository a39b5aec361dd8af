"""One platform a session, started by `aidos up` in an empty home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.otlp import Collector, collecting
from tests.support.running import RunningPlatform


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the platform's traces go."""
    with collecting() as listening:
        yield listening


@pytest.fixture(scope="session")
def platform(collector: Collector) -> Iterator[RunningPlatform]:
    home = Path(tempfile.mkdtemp(prefix="aidos-e2e-"))
    running = RunningPlatform.at(home, AIDOS_OTLP_ENDPOINT=collector.endpoint)
    running.up()
    yield running
    running.down()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def demo(platform: RunningPlatform) -> str:
    """What ``make demo`` prints; it has ended well."""
    return platform.python("-m", "examples.digits.demo", timeout_s=500, check=True, COLUMNS="160").out
