"""Tiers: what a test may touch is said by its marker, and held here.

*plain* (the default): no server, and ``ray.init`` raises. *postgres*: the real PostgreSQL, one database a
test process, rows deleted between tests. *ray*: one local cluster a session. *e2e*: the whole platform.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

TIERS = ("plain", "postgres", "ray", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tiers = [tier for tier in TIERS if item.get_closest_marker(tier)]
        if not tiers:
            item.add_marker("plain")
        elif len(tiers) > 1:
            raise pytest.UsageError(f"{item.nodeid} is in several tiers: {', '.join(tiers)}")


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
