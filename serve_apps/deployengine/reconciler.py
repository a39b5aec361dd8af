"""Brings Serve to what the endpoints ask for, and looks after those that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from ray import serve
from ray.serve.schema import ApplicationStatus

from actors.securityvault.models import platform_scope
from aidos.errors import AidosError
from cluster import metrics, telemetry
from cluster.db import Connection
from cluster.events import Topics
from cluster.host import Host
from cluster.reconciler import Reconciler
from serve_apps.deployengine import policy, service, store
from serve_apps.deployengine.app import build_app
from serve_apps.deployengine.models import Deployed, Endpoint, EndpointSpec, EndpointState

DEPLOY_TIMEOUT_S = 180.0
ATTEMPTS = 6
_POLL_S = 0.3


class EndpointNotReadyInTime(Exception):
    """Serve did not bring the application up within DEPLOY_TIMEOUT_S."""


@dataclass(frozen=True)
class ServeStatus:
    """What Serve says of one application."""

    status: str | None
    message: str


def _status(app_name: str) -> ServeStatus:
    found = serve.status().applications.get(app_name)
    if found is None or found.status is ApplicationStatus.NOT_STARTED:
        return ServeStatus(None, "")
    details = [deployment.message for deployment in found.deployments.values() if deployment.message]
    return ServeStatus(found.status.value, "; ".join([found.message, *details]).strip("; "))


class EndpointReconciler(Reconciler[Endpoint]):
    """Claims endpoints that are asked for, being deleted, or due to be looked at."""

    name: ClassVar[str] = "deployengine.endpoints"
    table: ClassVar[tuple[str, str]] = ("deployengine", "endpoints")
    topics: ClassVar[Topics] = ("deployengine.",)
    concurrency: ClassVar[int] = 4

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Endpoint]:
        return await store.claim_endpoint(conn, token, lock_s, limit)

    async def process(self, item: Endpoint) -> Deployed:
        with telemetry.bind(project_id=item.project_id, endpoint=item.name):
            if item.state is EndpointState.DELETING:
                await asyncio.to_thread(serve.delete, item.app_name)
                return Deployed(EndpointState.DELETED)
            return await self._deploy(item)

    async def _deploy(self, item: Endpoint) -> Deployed:
        settled = item.deployed_generation == item.generation
        if settled:
            known = await asyncio.to_thread(_status, item.app_name)
            if found := policy.decide(known.status, known.message, asked_generation_is_deployed=True):
                # An endpoint that once answered is not given up: Serve heals it, and the next look tells.
                return Deployed(EndpointState.READY, "" if found.state is EndpointState.READY else found.reason)
        try:
            async with self.db.platform() as conn:
                spec = await service.build_spec(conn, platform_scope(item.org_id, item.project_id), self.db.settings, item)
        except AidosError as error:
            return Deployed(EndpointState.FAILED, str(error))
        await asyncio.to_thread(_run, spec, item.app_name)
        return await self._until_decided(item)

    async def _until_decided(self, item: Endpoint) -> Deployed:
        deadline = asyncio.get_running_loop().time() + DEPLOY_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            known = await asyncio.to_thread(_status, item.app_name)
            if found := policy.decide(known.status, known.message, asked_generation_is_deployed=True):
                return found
            await asyncio.sleep(_POLL_S)  # Serve has no notification of an application's status
        raise EndpointNotReadyInTime(f"Serve did not bring {item.app_name} up in {DEPLOY_TIMEOUT_S:.0f} s")

    async def apply(self, conn: Connection, item: Endpoint, token: UUID, outcome: Deployed) -> bool:
        return await service.apply_deployed(conn, platform_scope(item.org_id, item.project_id), item, token, outcome)

    async def give_up(self, conn: Connection, item: Endpoint, token: UUID, error: BaseException) -> bool:
        """After ATTEMPTS a new generation has failed; what answered before, or is to be removed, is tried for ever."""
        if item.attempts + 1 < ATTEMPTS or item.state is not EndpointState.DEPLOYING:
            return False
        return await self.apply(conn, item, token, Deployed(EndpointState.FAILED, str(error)))


def _run(spec: EndpointSpec, app_name: str) -> None:
    target = serve.RunTarget(target=build_app(spec), name=app_name, route_prefix=spec.route)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


async def reconcile_endpoints(host: Host) -> None:
    """The loop of the named actor ``deployengine``."""
    await EndpointReconciler(host.db).run(host.holder, host.wakeup)


async def report_endpoints(host: Host) -> None:
    """How many endpoints there are in each state, for the dashboards."""
    await host.report(metrics.ENDPOINTS, [state for state in EndpointState if state is not EndpointState.DELETED], service.count_endpoints)
