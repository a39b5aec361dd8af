"""Named actors come back by themselves: after a kill of their process, and on another node after the loss of theirs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import leases
from cluster.db import Database
from cluster.settings import Settings
from cluster.supervision import write_private
from tests.support.ray_nodes import SYSTEM, RayNodes
from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until, wait_until_async

ACTOR = "lone-host"
_SECRETS = ("database_url", "s3_access_key", "s3_secret_key")
_KILLS = 12  # Ray places an actor without resources at random: not on the second node of two in one of 4096 runs


class TwoNodes(RayNodes):
    """Two nodes of the system group, and one driver, which joins while there is only the first."""

    def __init__(self, home: Path, settings: Settings) -> None:
        # a lost node is noticed in two seconds instead of a quarter of a minute
        health = {"initial_delay_ms": "1000", "period_ms": "500", "timeout_ms": "2000", "failure_threshold": "3"}
        quick = {f"RAY_health_check_{name}": value for name, value in health.items()}
        super().__init__(home, AIDOS_S3_ENDPOINT=settings.s3_endpoint, **quick)
        for name in _SECRETS:
            write_private(home / f"secrets/aidos_{name}", getattr(settings, name).get_secret_value())
        self.start_head("--include-dashboard=false", SYSTEM)
        self.driver = self.spawn([sys.executable, "-m", "tests.support.lone_host"], talks=True, RAY_ADDRESS=self.address)
        self.first_node = str(self.ask()["node"])
        self.second = self.start_node(SYSTEM)

    def ask(self) -> dict[str, Any]:
        """What the actor's ``ready`` says, asked again by Ray until the actor is there."""
        assert self.driver.stdin and self.driver.stdout
        self.driver.stdin.write("\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        assert line, f"the driver ended:\n{self.logs()}"
        return dict(json.loads(line))

    def kill_actor(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """``kill -9`` of the actor's process; what it said before, and what it says once it is back."""
        before = self.ask()
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(before["pid"]))
        return before, self.ask()

    def lose_second_node(self) -> None:
        """``kill -9`` of everything that the second node runs."""
        lost = psutil.Process(self.second.pid)
        everything = [*lost.children(recursive=True), lost]
        assert "raylet" in {process.name() for process in everything}
        for process in everything:
            process.kill()
        psutil.wait_procs(everything, timeout=10)


@pytest.fixture(scope="module")
def nodes(settings: Settings) -> Iterator[TwoNodes]:
    home = Path(tempfile.mkdtemp(prefix="aidos-host-"))
    try:
        yield TwoNodes(home, settings)
    finally:
        wait_until(lambda: not RunningPlatform(home).kill(), within_s=30, every_s=0.2)
        shutil.rmtree(home, ignore_errors=True)


async def held_by(database: Database, pid: int) -> leases.Lease:
    """The lease, once the loop in process ``pid`` has it and has renewed it."""
    seen: set[leases.Lease] = set()

    async def renewed() -> leases.Lease | None:
        async with database.platform() as conn:
            held = [lease for lease in await leases.list_leases(conn) if lease.name == ACTOR and f":{pid}:" in lease.holder]
        seen.update(held)
        return held[0] if len(seen) > 1 else None

    lease = await wait_until_async(renewed, within_s=20)
    assert lease is not None
    return lease


@pytest.mark.ray
@pytest.mark.timeout(180)
class TestNamedActor:
    async def test_comes_back_after_its_process_was_killed(self, nodes: TwoNodes, database: Database) -> None:
        old = await held_by(database, nodes.ask()["pid"])
        before, after = nodes.kill_actor()
        assert after["name"] == before["name"] == ACTOR
        assert after["pid"] != before["pid"]
        new = await held_by(database, after["pid"])
        assert new.epoch == old.epoch + 1

    async def test_comes_back_on_another_node_and_the_old_epoch_is_fenced(self, nodes: TwoNodes, database: Database) -> None:
        placed = nodes.ask()
        for _ in range(_KILLS):
            if placed["node"] != nodes.first_node:
                break
            _, placed = nodes.kill_actor()
        assert placed["node"] != nodes.first_node, "the actor was never placed on the second node"
        old = await held_by(database, placed["pid"])
        async with database.platform() as conn:
            await leases.hold(conn, old)
        nodes.lose_second_node()
        back = nodes.ask()
        assert back["node"] == nodes.first_node
        new = await held_by(database, back["pid"])
        assert new.epoch > old.epoch
        async with database.platform() as conn:
            await leases.hold(conn, new)
            with pytest.raises(leases.StaleEpoch):
                await leases.hold(conn, old)
