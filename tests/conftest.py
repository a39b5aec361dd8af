"""Tiers: what a test may touch is said by its marker, and held here.

*plain* (the default): no server, and ``ray.init`` raises. *postgres*: the real PostgreSQL and S3, a server
for each test process, rows deleted between tests. *ray*: one local cluster a session. *e2e*: the whole platform.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:  # a plain test loads neither psycopg nor supervisor
    from cluster.db import Database
    from cluster.settings import Settings
    from tests.support.database import Rows

TIERS = ("plain", "postgres", "ray", "e2e")


def pytest_configure() -> None:
    gc.disable()  # until the collection is over: what is imported stays
    # How long an example takes says how busy the machine is, not whether the product is right.
    hypothesis.settings.register_profile("aidos", deadline=None, max_examples=50)
    hypothesis.settings.register_profile("long", deadline=None, max_examples=1000)
    hypothesis.settings.load_profile("aidos")  # --hypothesis-profile is loaded after this
    # `timeout` and CI end a run by SIGTERM: fixtures must still stop their servers.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # A run that a shell began in the background ignores Ctrl-C, and so would all that its tests begin.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that says itself to be of a tier not asked for by ``-m`` is not imported: what it imports is half of a plain run's time."""
    asked = config.option.markexpr.split(" or ")
    if not set(asked) <= set(TIERS) or collection_path.suffix != ".py":
        return None
    own = re.search(r"^pytestmark = \[?pytest\.mark\.(\w+)", collection_path.read_text(), re.MULTILINE)
    return True if own and own[1] not in asked else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tiers = [tier for tier in TIERS if item.get_closest_marker(tier)]
        if not tiers:
            item.add_marker("plain")
        elif len(tiers) > 1:
            raise pytest.UsageError(f"{item.nodeid} is in several tiers: {', '.join(tiers)}")


def pytest_collection_finish() -> None:
    gc.freeze()  # a full collection need not walk every module again
    atexit.register(gc.unfreeze)  # extension modules look for leaks as the process ends
    gc.enable()


class RayInPlainTest(AssertionError):
    """A plain test reached for a cluster."""


@pytest.fixture(autouse=True)
def _plain_tests_start_no_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``ray.init`` raises in a plain test. Ray is not imported for that: most plain tests never load it."""
    if request.node.get_closest_marker("plain") is None:
        yield
        return

    def refuse(*_: object, **__: object) -> None:
        raise RayInPlainTest("a plain test called ray.init(): mark it `ray`, or test the decision without Ray")

    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", refuse)
    yield
    ray = sys.modules.get("ray")
    if ray is not None and getattr(ray, "is_initialized", bool)():
        ray.shutdown()
        raise RayInPlainTest("a plain test imported Ray and started it")


@pytest.fixture(scope="session")
def storage() -> Iterator[Settings]:
    """Settings of this test process's PostgreSQL and S3.

    Not shared between processes: transaction ids are one sequence for all databases of a server, so an open transaction of one
    process would hold back the event cursors of the other; and a test may kill its server.
    """
    home = Path(tempfile.mkdtemp(prefix="aidos-test-"))
    try:
        yield importlib.import_module("tests.support.platform").start_storage(home)
    finally:
        importlib.import_module("cluster.embedded").stop(importlib.import_module("cluster.settings").read_settings(home))
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def settings(storage: Settings) -> Settings:
    """Settings of this test process: a migrated database and a bucket."""
    return importlib.import_module("tests.support.database").make_database(storage, "test").model_copy(update={"s3_bucket": "test"})


@pytest.fixture(scope="session")
def _rows(settings: Settings) -> Iterator[Rows]:
    rows = importlib.import_module("tests.support.database").Rows(settings)
    yield rows
    rows.close()


@pytest.fixture
async def database(settings: Settings, _rows: Rows) -> AsyncIterator[Database]:
    """An open ``cluster.db.Database``; what the test wrote is gone afterwards."""
    _rows.reset()
    async with importlib.import_module("cluster.db").Database(settings) as opened:
        yield opened
    _rows.reset()
