"""A Ray cluster of several nodes on this machine, behind a token: what an operator would have started."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from cluster import ray_head
from cluster.supervision import write_private
from tests.support.platform import find_free_ports
from tests.support.running import ROOT
from tests.support.waiting import wait_until

_PORTS = ("node-manager-port", "object-manager-port", "dashboard-agent-listen-port", "metrics-export-port")
_MOST = 3
SYSTEM = f"--labels={ray_head.SYSTEM_LABEL}"


class RayNodes:
    """Nodes with one CPU each and ports of their own. Their token is the home's; ``environment`` is every node's."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.token = secrets.token_hex(32)
        write_private(home / "secrets/aidos_ray_token", self.token)
        self._first_port = find_free_ports(3 + _MOST * len(_PORTS))
        self.address = f"127.0.0.1:{self._first_port}"
        self.dashboard_url = f"http://127.0.0.1:{self._first_port + 1}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AIDOS_"))},
            "AIDOS_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "secrets/aidos_ray_token"),
            **environment,
        }
        self._nodes = 0
        self._logs = 0

    def start_head(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The first node."""
        gcs, dashboard, client = range(self._first_port, self._first_port + 3)
        own = (f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--temp-dir={self.home / 'ray'}")
        return self._start_node("--head", *own, *arguments, **environment)

    def start_node(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """One more node."""
        return self._start_node(f"--address={self.address}", *arguments, **environment)

    def spawn(self, command: list[str], *, talks: bool = False, **environment: str) -> subprocess.Popen[str]:
        """A process in the nodes' environment, its output in a log; with ``talks`` its input and output are pipes."""
        log = (self.home / f"{self._logs}.log").open("w")
        self._logs += 1
        return subprocess.Popen(
            command,
            env=self.environment | environment,
            cwd=ROOT,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else log,
            stderr=log,
            text=True,
        )

    def logs(self) -> str:
        """The end of what each process wrote."""
        return "\n".join(log.read_text()[-2000:] for log in sorted(self.home.glob("*.log")))

    def _start_node(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        first = self._first_port + 3 + self._nodes * len(_PORTS)
        self._nodes += 1
        ports = [f"--{name}={first + offset}" for offset, name in enumerate(_PORTS)]
        small = ("--num-cpus=1", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0")
        node = self.spawn([str(ray_head.RAY), "start", "--block", "--disable-usage-stats", *small, *ports, *arguments], **environment)
        wait_until(lambda: self._answers(node, first), within_s=60, every_s=0.2)
        return node

    def _answers(self, node: subprocess.Popen[str], node_manager_port: int) -> bool:
        assert node.poll() is None, self.logs()
        try:
            ray_head.check(self.address, self.token, node_manager_port)
        except ray_head.NotReady:
            return False
        return True
