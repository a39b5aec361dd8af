"""A platform on a Ray cluster that somebody else started: what holds secrets runs on the labelled nodes, and nowhere else.

As in ``ray-cluster.yaml`` the head is not one of them. Here it has no secrets at all.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray.util import get_node_ip_address

from cluster import boot, ray_head
from cluster.settings import USER_GROUP, Settings
from tests.support.onnx_models import linear
from tests.support.platform import find_free_ports
from tests.support.ray_nodes import SYSTEM, RayNodes
from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SENTENCE = (
    "Error: no node of the Ray cluster carries the label aidos.io/group=system: "
    "start the nodes that hold AI-DOS's secrets with `ray start --labels=aidos.io/group=system`\n"
)


@dataclass
class Outer:
    """The cluster, at first its head alone, and the platform that shall use it."""

    nodes: RayNodes
    platform: RunningPlatform
    worker_port: int = 0

    def start_system_node(self) -> None:
        """A node with the label and the secrets. On a machine of its own its HAProxy would have the gateway's port too."""
        self.worker_port = find_free_ports(160)
        settings = Settings(home=self.platform.home / "second", ray_host=get_node_ip_address(), ray_port=self.worker_port + 1)
        own = {name: value for name, value in self.platform.environment.items() if name.startswith("AIDOS_")}
        self.nodes.start_node(
            SYSTEM,
            **ray_head.serve_environment(settings),
            **own,
            RAY_SERVE_WORKER_PROXY_HTTP_PORT=str(self.worker_port),
        )
        wait_until(lambda: ray_head.has_system_node(self.nodes.address, self.nodes.token))

    def actors(self) -> dict[str, str]:
        """Name or class of each living actor, and its node."""
        listed = self.platform.run([str(ray_head.RAY), "list", "actors", "--format=json", "--detail", "--limit=1000"], check=True)
        return {actor["name"] or actor["class_name"]: actor["node_id"] for actor in json.loads(listed.out) if actor["state"] == "ALIVE"}

    def labelled(self) -> str:
        listed = self.platform.run([str(ray_head.RAY), "list", "nodes", "--format=json", "--detail"], check=True)
        (node,) = [node for node in json.loads(listed.out) if node["labels"].get("aidos.io/group") == "system"]
        return str(node["node_id"])


@pytest.fixture(scope="module")
def outer() -> Iterator[Outer]:
    home = Path(tempfile.mkdtemp(prefix="aidos-out-"))
    nodes = RayNodes(home)
    platform = RunningPlatform.at(home, RAY_ADDRESS=nodes.address, AIDOS_RAY_DASHBOARD_URL=nodes.dashboard_url)
    platform.environment |= {name: nodes.environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
    settings = Settings(home=home, ray_host=get_node_ip_address(), ray_port=int(platform.environment["AIDOS_RAY_PORT"]))
    try:
        nodes.start_head(**ray_head.serve_environment(settings), AIDOS_HOME=str(home / "bare"))
        yield Outer(nodes, platform)
    finally:
        platform.down()
        wait_until(lambda: not platform.kill() and not RunningPlatform(home / "bare").kill(), within_s=30, every_s=0.2)
        shutil.rmtree(home, ignore_errors=True)


class TestWithoutALabelledNode:
    def test_up_and_doctor_say_what_to_do(self, outer: Outer) -> None:
        refused = outer.platform.aidos("up", timeout_s=60)
        assert (refused.code, refused.out, refused.err) == (1, "", SENTENCE)
        examined = outer.platform.aidos("doctor", "--json")
        (finding,) = [finding for finding in examined.json["findings"] if finding["name"] == "ray label"]
        assert examined.code == 1 and not finding["ok"] and f"Error: {finding['detail']}: {finding['remedy']}\n" == SENTENCE

    def test_a_driver_waits_no_longer_than_it_may_and_says_so_too(self, outer: Outer) -> None:
        settings = Settings(home=outer.platform.home, ray_address=outer.nodes.address)
        with pytest.raises(TimeoutError) as refused:
            ray_head.wait_ready(settings, 0.5)
        assert f"Error: {refused.value}\n" == SENTENCE


@pytest.fixture(scope="module")
def running(outer: Outer, tmp_path_factory: pytest.TempPathFactory) -> Outer:
    """Up, with an endpoint of two replicas and a gateway of three."""
    outer.start_system_node()
    outer.platform.environment["AIDOS_GATEWAY_REPLICAS"] = "3"
    outer.platform.up()
    model = tmp_path_factory.mktemp("model") / "model.onnx"
    model.write_bytes(linear())
    outer.platform.aidos("model", "push", str(model), "--name", "linear", check=True)
    outer.platform.aidos("endpoint", "create", "linear", "--model", "linear@1", "--replicas", "2", "--cpus", "0.1", check=True)
    outer.platform.aidos("endpoint", "wait", "linear", check=True)
    return outer


class TestWithALabelledNode:
    def test_what_holds_secrets_is_there_alone(self, running: Outer) -> None:
        actors, labelled = running.actors(), running.labelled()
        replicas = [name for name in actors if name.startswith("SERVE_REPLICA::")]
        gateways = [name for name in replicas if name.startswith(f"SERVE_REPLICA::{boot.GATEWAY}#")]
        assert (len(gateways), len(replicas)) == (3, 5)
        hosts = [name for name, _ in boot.HOSTS]
        assert {name: actors[name] for name in (*hosts, *replicas)} == dict.fromkeys((*hosts, *replicas), labelled)
        assert set(actors.values()) > {labelled}, "the other node runs actors of Ray's own"

    def test_jobs_are_on_the_others(self, running: Outer, tmp_path: Path) -> None:
        asks = "import aidos, ray; ray.init(log_to_driver=False); print('on', ray.get_runtime_context().get_node_id(), aidos.job().label_selector)"
        asked = ("job", "submit", "--name", "where", "--workers", "0", "--directory", str(tmp_path), "--follow", "--", "python", "-c", asks)
        said = running.platform.aidos(*asked, check=True, timeout_s=100).out
        (found,) = re.findall(r"^on (\w+) (.*)$", said, re.MULTILINE)
        assert found[0] != running.labelled() and found[1] == str(USER_GROUP)

    def test_its_own_proxy_answers_as_the_heads_does(self, running: Outer) -> None:
        """The Service of ray-cluster.yaml reaches no pod but those of the system group."""
        for port in (int(running.platform.environment["AIDOS_GATEWAY_PORT"]), running.worker_port):
            answer = httpx.get(f"http://127.0.0.1:{port}/v1/version")
            assert answer.status_code == 200

    def test_the_audit_has_the_clients_own_address(self, running: Outer) -> None:
        """Through either proxy, and whatever the client says of itself."""
        key = {"Authorization": f"Bearer {running.platform.admin_key}", "X-Forwarded-For": "198.51.100.66"}
        for port, name in ((int(running.platform.environment["AIDOS_GATEWAY_PORT"]), "one"), (running.worker_port, "two")):
            with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), headers=key) as client:
                client.post(f"http://127.0.0.1:{port}/v1/modelhub/experiments", json={"name": name}).raise_for_status()
        made = [record for record in self._audit(running) if record["action"].startswith("create_experiment")]
        assert [record["client_ip"] for record in made] == ["127.0.0.2"] * 2

    def _audit(self, running: Outer) -> list[dict[str, Any]]:
        return list(running.platform.ask("audit", "list"))
