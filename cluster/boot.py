"""Composition root: the one file that names all modules, and the program that makes a platform of a Ray cluster.

``python -m cluster.boot`` brings the database to its schema, makes the bucket, the first organisation and the signing keys, starts
Serve, the gateway and the named actors, says where it all is in ``$AIDOS_HOME/run/platform.json``, and then stays to put back
what Ray lost. It can be ended and started at any time, on any node that has the secrets.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import time
from typing import Any

import ray
from ray import serve

from actors.costoptimizer.reconciler import meter_usage, watch_budgets
from actors.modelhub.reconciler import inspect_versions
from actors.securityvault import service as securityvault
from actors.securityvault.reconciler import seal_audit, wrap_secrets
from api.collection import collect_garbage
from api.gateway import build_gateway_app
from api.protocols.openlineage.forwarder import forward_lineage
from api.protocols.openlineage.incoming import join_imports
from cluster import ray_head, telemetry
from cluster.db import Database
from cluster.host import NAMESPACE, Loop, get_or_create_host
from cluster.housekeeping import sweep
from cluster.migrate import migrate
from cluster.objects import Objects
from cluster.settings import Settings, get_settings
from data_pipelines.dataforge.imports.reconciler import import_objects
from data_pipelines.dataforge.verification.reconciler import verify_commits
from serve_apps.deployengine.reconciler import reconcile_endpoints, report_endpoints
from tune.studies.reconciler import reconcile_studies
from tune.trainos.queue.reconciler import admit_jobs, foresee_jobs
from tune.trainos.reconciler import adopt_ray_jobs, reconcile_jobs, report_jobs
from tune.trainos.schedules.reconciler import run_schedules

SCHEMAS = (
    "cluster",
    "actors.securityvault",
    "data_pipelines.dataforge",
    "actors.modelhub",
    "serve_apps.deployengine",
    "tune.trainos",
    "tune.studies",
    "actors.costoptimizer",
)
"""Packages with migrations, lower tiers first."""

HOSTS: tuple[tuple[str, tuple[Loop, ...]], ...] = (
    ("securityvault", (seal_audit, wrap_secrets, sweep)),
    ("dataforge", (collect_garbage, import_objects, verify_commits)),
    ("modelhub", (inspect_versions, join_imports, forward_lineage)),
    ("deployengine", (reconcile_endpoints, report_endpoints)),
    ("trainos", (admit_jobs, foresee_jobs, run_schedules, reconcile_jobs, adopt_ray_jobs, report_jobs, reconcile_studies)),
    ("costoptimizer", (meter_usage, watch_budgets)),
)
"""The named actors, and the loops that each runs."""

GATEWAY = "gateway"
_WATCH_S = 5.0
_ACTOR_TIMEOUT_S = 60.0

log = telemetry.get_logger(__name__)


async def prepare(settings: Settings) -> str | None:
    """Schema, bucket, first organisation; the one-time administrator key, or None when there was one before."""
    ran = await asyncio.to_thread(migrate, settings, SCHEMAS)
    log.info("boot.migrated", ran=ran)
    await Objects(settings).ensure_bucket()
    async with Database(settings) as db:
        return await securityvault.bootstrap(db, settings, keep=functools.partial(keep_admin_key, settings))


def connect(settings: Settings) -> None:
    """Join the Ray cluster as a driver of the platform's namespace."""
    ray_head.wait_ready(settings)
    ray.init(address=ray_head.address(settings), namespace=NAMESPACE, log_to_driver=False, configure_logging=False)


def start_serve(settings: Settings) -> None:
    """Start Serve's controller and ingress where there are none, then the gateway."""
    serve.start(proxy_location="EveryNode", http_options={"host": settings.gateway_host, "port": settings.gateway_port})
    ensure_gateway(settings)


def ensure_gateway(settings: Settings) -> None:
    """Deploy the gateway; an unchanged one is left alone by Serve."""
    target = serve.RunTarget(target=build_gateway_app(settings), name=GATEWAY, route_prefix="/")
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=True)


def make_hosts() -> list[Any]:
    """The handles of the named actors; those that are missing start now, and are not waited for."""
    return [get_or_create_host(name, loops) for name, loops in HOSTS]


def wait_for_hosts(actors: list[Any]) -> dict[str, dict[str, Any]]:
    """Who and where each actor is, once it answers."""
    found = ray.get([actor.ready.remote() for actor in actors], timeout=_ACTOR_TIMEOUT_S)
    return {info["name"]: info for info in found}


def announce(settings: Settings, hosts: dict[str, dict[str, Any]]) -> None:
    """Write where the platform is, in one rename."""
    run = settings.home / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = {
        "url": settings.url,
        "ray_dashboard": settings.ray_dashboard_url or f"http://127.0.0.1:{settings.ray_dashboard_port}",
        "pid": os.getpid(),
        "ready_at": time.time(),
        "hosts": hosts,
    }
    draft = run / "platform.json.new"
    draft.write_text(json.dumps(facts))
    draft.replace(run / "platform.json")


def keep_admin_key(settings: Settings, key: str) -> None:
    """Leave the one-time key where ``aidos up`` prints and removes it."""
    path = settings.home / "run" / "admin_key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key)


def watch(settings: Settings) -> None:
    """Put back what is missing, for ever. Ends with the Ray connection; the supervisor then starts this program again."""
    while True:
        time.sleep(_WATCH_S)
        announce(settings, wait_for_hosts(make_hosts()))
        if GATEWAY not in serve.status().applications:
            log.warning("boot.gateway_missing")
            ensure_gateway(settings)


def main() -> int:
    settings = get_settings()
    telemetry.configure(settings, "boot")
    asyncio.run(prepare(settings))
    connect(settings)
    actors = make_hosts()
    start_serve(settings)
    announce(settings, wait_for_hosts(actors))
    log.info("boot.ready", url=settings.url)
    watch(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
