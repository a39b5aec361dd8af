"""A badly behaved server, clients of it, and a user's own configuration directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aidos.client import Client
from tests.aidos.counterpart import Counterpart, serve
from tests.aidos.nouns import Widgets


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AIDOS_URL",
        "AIDOS_API_KEY",
        "AIDOS_PROJECT",
        "AIDOS_TOKEN_FILE",
        "AIDOS_RETRY_BUDGET_S",
        "AIDOS_TIMEOUT_S",
        "AIDOS_DEBUG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIDOS_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def _running() -> Iterator[Counterpart]:
    with serve(Counterpart()) as running:
        yield running


@pytest.fixture
def counterpart(_running: Counterpart) -> Counterpart:
    _running.planned.clear()
    _running.seen.clear()
    return _running


@pytest.fixture
def client(counterpart: Counterpart) -> Iterator[Client]:
    with Client(counterpart.url, "the-key") as client:
        yield client


@pytest.fixture
def widgets(client: Client) -> Widgets:
    return Widgets(client.transport)
