"""Named actors come back by themselves: after a kill of their process, and on another node after the loss of theirs."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import leases, ray_head
from cluster.db import Database
from cluster.settings import Settings
from cluster.supervision import write_private
from tests.support.platform import find_free_ports
from tests.support.running import ROOT, RunningPlatform
from tests.support.waiting import wait_until, wait_until_async

ACTOR = "lone-host"
_SECRETS = ("database_url", "s3_access_key", "s3_secret_key")
_PORTS = ("node-manager-port", "object-manager-port", "dashboard-agent-listen-port", "metrics-export-port")
_KILLS = 12  # Ray places an actor without resources at random: not on the second node of two in one of 4096 runs


class TwoNodes:
    """Two Ray nodes of this machine behind a token, and one driver, which joins while there is only the first."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self.home = home
        self.token = secrets.token_hex(32)
        write_private(home / "secrets/aidos_ray_token", self.token)
        for name in _SECRETS:
            write_private(home / f"secrets/aidos_{name}", getattr(settings, name).get_secret_value())
        self._first_port = find_free_ports(3 + 2 * len(_PORTS))
        self.address = f"127.0.0.1:{self._first_port}"
        # a lost node is noticed in two seconds instead of a quarter of a minute
        health = {"initial_delay_ms": "1000", "period_ms": "500", "timeout_ms": "2000", "failure_threshold": "3"}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AIDOS_"))},
            **{f"RAY_health_check_{name}": value for name, value in health.items()},
            "AIDOS_HOME": str(home),
            "AIDOS_S3_ENDPOINT": settings.s3_endpoint,
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "secrets/aidos_ray_token"),
        }
        self._started: list[subprocess.Popen[str]] = []
        gcs, dashboard, client = range(self._first_port, self._first_port + 3)
        own = (f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--temp-dir={home / 'ray'}")
        self.start_node(0, "--head", "--include-dashboard=false", *own)
        self.driver = self._spawn([sys.executable, "-m", "tests.support.lone_host"], RAY_ADDRESS=self.address)
        self.first_node = str(self.ask()["node"])
        self.second = self.start_node(1, f"--address={self.address}")

    def ask(self) -> dict[str, Any]:
        """What the actor's ``ready`` says, asked again by Ray until the actor is there."""
        assert self.driver.stdin and self.driver.stdout
        self.driver.stdin.write("\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        assert line, "the driver ended:\n" + "\n".join(log.read_text()[-2000:] for log in sorted(self.home.glob("*.log")))
        return dict(json.loads(line))

    def kill_actor(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """``kill -9`` of the actor's process; what it said before, and what it says once it is back."""
        before = self.ask()
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(before["pid"]))
        return before, self.ask()

    def start_node(self, number: int, *arguments: str) -> subprocess.Popen[str]:
        first = self._first_port + 3 + number * len(_PORTS)
        ports = [f"--{name}={first + offset}" for offset, name in enumerate(_PORTS)]
        small = ("--num-cpus=1", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0")
        common = ("start", "--block", "--disable-usage-stats", *small)
        node = self._spawn([str(ray_head.RAY), *common, *ports, *arguments])
        wait_until(lambda: self._answers(node, first), within_s=60, every_s=0.2)
        return node

    def lose_second_node(self) -> None:
        """``kill -9`` of everything that the second node runs."""
        lost = psutil.Process(self.second.pid)
        everything = [*lost.children(recursive=True), lost]
        assert "raylet" in {process.name() for process in everything}
        for process in everything:
            process.kill()
        psutil.wait_procs(everything, timeout=10)

    def _answers(self, node: subprocess.Popen[str], node_manager_port: int) -> bool:
        assert node.poll() is None, "\n".join(log.read_text()[-2000:] for log in sorted(self.home.glob("*.log")))
        try:
            ray_head.check(self.address, self.token, node_manager_port)
        except ray_head.NotReady:
            return False
        return True

    def _spawn(self, command: list[str], **environment: str) -> subprocess.Popen[str]:
        driver = "-m" in command
        log = (self.home / f"{len(self._started)}.log").open("w")
        process = subprocess.Popen(
            command,
            env=self._environment | environment,
            cwd=ROOT,
            stdin=subprocess.PIPE if driver else subprocess.DEVNULL,
            stdout=subprocess.PIPE if driver else log,
            stderr=log,
            text=True,
        )
        self._started.append(process)
        return process


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
