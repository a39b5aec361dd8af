"""One platform a session, started by `aidos up` in an empty home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import RunningPlatform


@pytest.fixture(scope="session")
def platform() -> Iterator[RunningPlatform]:
    home = Path(tempfile.mkdtemp(prefix="aidos-e2e-"))
    running = RunningPlatform.at(home)
    running.up()
    yield running
    running.down()
    shutil.rmtree(home, ignore_errors=True)
