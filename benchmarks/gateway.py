"""The gateway against bare Serve: one authenticated GET with its database read, behind the same HAProxy, in turns.

The peer is the same handler with the same read in a FastAPI application on Serve, without middleware, authentication, limits,
permissions, logs and problems. The bar: at least 0.8 of its throughput at 16 connections.

By default a platform of its own is started in a temporary home and ended again. ``--home`` uses one that runs; its requests must
not be limited (``AIDOS_RATE_LIMIT_PER_MINUTE``), and ``AIDOS_API_KEY`` must be a key of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from benchmarks.harness import Figure, Load, in_turns, load, parse_arguments, report
from cluster import embedded, ray_head
from cluster.settings import SYSTEM_GROUP, Settings, read_settings

EXPERIMENT = "bench-gateway"
ROUTE = f"/v1/modelhub/experiments/{EXPERIMENT}"
PEER, PEER_PREFIX = "bench-bare", "/bench-bare"
BAR = 0.8


@contextlib.contextmanager
def platform(home: str) -> Iterator[tuple[Settings, str]]:
    """Settings and a key of a running platform: the one in ``home``, or a new one."""
    if home:
        yield read_settings(Path(home).absolute()), os.environ["AIDOS_API_KEY"]
        return
    directory = Path(tempfile.mkdtemp(prefix="aidos-bench-"))
    os.environ |= {"AIDOS_HOME": str(directory), "AIDOS_RATE_LIMIT_PER_MINUTE": "100000000", **_free_ports()}
    settings = read_settings(directory)
    try:
        settings = embedded.start(settings, lambda title, message: print(f"  {title}: {message}", file=sys.stderr))
        yield settings, str(embedded.take_admin_key(directory))
    finally:
        embedded.stop(settings)
        shutil.rmtree(directory, ignore_errors=True)


def _free_ports() -> dict[str, str]:
    first = next(port for port in range(21_000, 30_000, 250) if _all_free(range(port, port + 220)))
    names = {"GATEWAY_PORT": 0, "POSTGRES_PORT": 10, "S3_PORT": 11, "RAY_DASHBOARD_PORT": 35, "RAY_PORT": 40}
    return {f"AIDOS_{name}": str(first + offset) for name, offset in names.items()} | {"AIDOS_URL": f"http://127.0.0.1:{first}"}


def _all_free(ports: range) -> bool:
    for port in ports:
        with socket.socket() as candidate:
            try:
                candidate.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def prepare(url: str, key: str) -> dict[str, Any]:
    """Make the experiment that is read; who the key is."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        made = client.post("/v1/modelhub/experiments", json={"name": EXPERIMENT})
        if made.status_code not in {201, 409}:
            raise SystemExit(f"the experiment cannot be made: {made.status_code} {made.text}")
        return client.get("/v1/securityvault/whoami").raise_for_status().json()


def deploy_peer(settings: Settings, org_id: UUID, project_id: UUID) -> Callable[[], None]:
    """Put the bare application beside the gateway; returns what takes it away."""
    os.environ |= ray_head.driver_environment(settings)
    import ray  # after the environment that it reads when it is imported
    from ray import serve

    def build() -> Any:
        return _build_bare(org_id, project_id)

    ray.init(address=ray_head.address(settings), namespace="aidos", log_to_driver=False, configure_logging=False)

    @serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0, "label_selector": SYSTEM_GROUP})
    @serve.ingress(build)
    class Bare:
        """The peer's replica."""

    serve.run(Bare.bind(), name=PEER, route_prefix=PEER_PREFIX)  # type: ignore[attr-defined]  # the decorator's return type is not known

    def remove() -> None:
        serve.delete(PEER)
        ray.shutdown()

    return remove


def _build_bare(org_id: UUID, project_id: UUID) -> Any:
    """The handler of ``GET /v1/modelhub/experiments/{experiment}``, and nothing around it."""
    from fastapi import FastAPI

    from actors.modelhub import service as modelhub
    from actors.securityvault.models import platform_scope
    from aidos.schemas.modelhub import ExperimentRead
    from cluster.db import Database
    from cluster.settings import get_settings

    db, scope = Database(get_settings()), platform_scope(org_id, project_id)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        async with db:
            yield

    app = FastAPI(lifespan=lifespan)

    async def get_experiment(experiment: str) -> ExperimentRead:
        async with db.tenant(org_id=org_id, project_id=project_id) as conn:
            return ExperimentRead.model_validate(await modelhub.get_experiment(conn, scope, experiment))

    app.get("/v1/modelhub/experiments/{experiment}", response_model=ExperimentRead)(get_experiment)
    return app


def measure(url: str, key: str, seconds: float, rounds: int) -> tuple[dict[str, float], dict[str, Load]]:
    """Requests a second of both in turns, and the last load of each."""
    headers = {"Authorization": f"Bearer {key}"}
    last: dict[str, Load] = {}

    def ask(name: str, target: str) -> bool:
        last[name] = load(target, seconds=seconds, headers=headers)
        return set(last[name].statuses) == {200} and not last[name].broken_connections

    def run(name: str, target: str) -> float:
        if not ask(name, target):
            raise SystemExit(f"{name} answered {last[name].statuses}, {last[name].broken_connections} broken connections")
        return last[name].per_second

    subjects = {"ours": url + ROUTE, "bare": url + PEER_PREFIX + ROUTE}
    for name, target in subjects.items():
        # Warm: connections, caches, prepared statements. HAProxy closes its connections when it takes up the peer's new route.
        next((True for _ in range(5) if ask(name, target)), False)
    measured = in_turns({name: (lambda n=name, t=target: run(n, t)) for name, target in subjects.items()}, rounds)
    return measured, last


def main(arguments: argparse.Namespace) -> int:
    with platform(arguments.home) as (settings, key):
        url = f"http://127.0.0.1:{settings.gateway_port}"
        who = prepare(url, key)
        remove = deploy_peer(settings, UUID(who["organisation_id"]), UUID(who["project_id"]))
        try:
            measured, last = measure(url, key, 2.0 if arguments.quick else 8.0, 3 if arguments.quick else 7)
        finally:
            remove()
    peer = "bare Ray Serve 2.60"
    figures = [Figure("gateway.authenticated_get", measured["ours"], "requests/s", peer, measured["bare"], BAR)]
    for percent in (50, 99):
        ours, theirs = (last[name].percentile_ms(percent) for name in ("ours", "bare"))
        figures.append(Figure(f"gateway.authenticated_get.p{percent}", ours, "ms", peer, theirs, lower_is_better=True))
    return report(figures)


if __name__ == "__main__":
    print(json.dumps({"bench": "gateway", "connections": 16, "cores": os.cpu_count()}), file=sys.stderr)
    sys.exit(main(parse_arguments(__doc__ or "", home="")))
