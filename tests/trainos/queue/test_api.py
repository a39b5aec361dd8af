"""What the queue foretells and costs, over real HTTP with the SDK and the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from aidos.client import Client
from cluster.db import Database
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_api import command
from tune.trainos.errors import JobTooLarge
from tune.trainos.queue.reconciler import Admission

pytestmark = pytest.mark.postgres
CPU = 40_000
"""Micro-dollars an hour of the platform's own price book."""


@pytest.fixture
def look(database: Database, cluster: FakeCluster) -> Callable[[], None]:
    """A look at the queue and its forecasts, as the platform's process takes them."""

    async def go() -> None:
        async with Database(database.settings) as db:
            admission = Admission(db, cluster, "tests")
            await admission.look()
            await admission.foresee()

    return lambda: asyncio.run(go())


def test_who_waits_is_shown_when_it_starts_and_ends(client: Client, look: Callable[[], None]) -> None:
    client.jobs.create("first", command=["true"], workers=7, timeout_s=7200)
    client.jobs.create("second", command=["true"], workers=7, timeout_s=3600)
    look()
    first, second = client.jobs.get("first"), client.jobs.get("second")
    assert first.forecast is None and second.forecast is not None
    assert second.starts_at == second.forecast.starts_at > second.forecast.made_at + timedelta(minutes=119)
    assert [job.forecast for job in client.queues.get().items] == [job.forecast for job in reversed(list(client.jobs.list()))]
    assert client.queues.get().coverage.starts == 0, "no promise is due yet"


def test_what_a_job_would_do_is_said_before_it_is_queued(client: Client, look: Callable[[], None], tmp_path: Path) -> None:
    client.jobs.create("first", command=["true"], workers=7, timeout_s=7200)
    look()
    asked = command(
        "job", "submit", "--name", "next", "--workers", "7", "--timeout-s", "1800", "--dry-run", "--json", "--", "true", cwd=tmp_path
    )
    said = json.loads(asked.stdout)
    assert said["resources"]["cpu"] == 8.0 and said["run_s"] == 1800.0
    assert said["forecast"]["starts_at"] > said["forecast"]["made_at"]
    assert said["cost"] == {"micro_usd": 4 * CPU, "at_most_micro_usd": 4 * CPU, "an_hour_micro_usd": 8 * CPU}
    assert [job.name for job in client.jobs.list()] == ["first"], "nothing was queued"
    shown = command("job", "submit", "--name", "next", "--dry-run", "--", "true", cwd=tmp_path).stdout
    assert "forecast.starts_at" in shown and "cost.micro_usd" in shown


def test_what_can_never_start_is_refused_before_it_is_asked_for(client: Client, look: Callable[[], None]) -> None:
    look()
    for ask in (client.jobs.outlook, client.jobs.create):
        with pytest.raises(JobTooLarge, match="needs 21 CPU, 8 in the whole cluster"):
            ask("huge", command=["true"], workers=20)


def test_where_nobody_knows_the_cluster_no_start_is_promised(client: Client) -> None:
    outlook = client.jobs.outlook("first", command=["true"], workers=7)
    assert outlook.forecast is None and outlook.run_s == 3600.0


def test_the_prices_of_now_say_what_resources_would_cost(client: Client) -> None:
    assert client.costs.estimate(cpu=1.5, seconds=7200).micro_usd == 3 * CPU
    assert client.costs.estimate().micro_usd == 0
