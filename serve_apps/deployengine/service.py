"""The verbs of DeployEngine: write what is wanted; the reconciler makes it so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation

from actors.modelhub import service as modelhub
from actors.modelhub.exceptions import service as exceptions
from actors.modelhub.governance import service as governance
from actors.modelhub.models import ModelVersion, Node
from actors.securityvault.models import Scope
from cluster.db import Connection, new_id, savepoint, unique
from cluster.events import Event, publish
from cluster.settings import Settings
from cluster.telemetry import current_traceparent
from serve_apps.deployengine import policy, store
from serve_apps.deployengine.errors import EndpointBeingDeleted, EndpointExists, EndpointNotFound
from serve_apps.deployengine.models import Deployed, Deployment, Endpoint, EndpointSpec, EndpointState, ModelFileSpec

RESYNC_S = 20.0


async def create_endpoint(
    conn: Connection, scope: Scope, settings: Settings, *, name: str, model: str, replicas: int, cpus: float
) -> Endpoint:
    """Ask for an endpoint that serves ``model`` (``name@version`` or ``name@alias``).

    Raises: EndpointExists, ModelVersionNotFound, ModelNotServable, VersionDeprecated.
    """
    version = await _get_servable(conn, scope, settings, *policy.split_model(model))
    governance.refuse_deprecated(version)
    values = {
        "id": new_id(),
        "org_id": scope.org_id,
        "project_id": scope.project,
        "name": name,
        "route": policy.route_of(scope.project_name or str(scope.project), name),
        "model": version.model,
        "version": version.version,
        "model_version_id": version.id,
        "replicas": replicas,
        "cpus": cpus,
        "traceparent": current_traceparent(),
        "created_by": scope.actor,
    }
    endpoint = await _insert(conn, values)
    await store.insert_deployment(conn, endpoint)
    await _publish(conn, scope, endpoint, "created")
    return endpoint


async def _insert(conn: Connection, values: dict[str, Any]) -> Endpoint:
    """Insert under a route by project name or, where another organisation's project has that route, by project id."""
    with unique("endpoints_name", EndpointExists(name=values["name"])):
        try:
            async with savepoint(conn):
                return await store.insert_endpoint(conn, values)
        except UniqueViolation as violation:
            if violation.diag.constraint_name != "endpoints_route":
                raise
        return await store.insert_endpoint(conn, {**values, "route": policy.route_of(str(values["project_id"]), values["name"])})


async def get_endpoint(conn: Connection, scope: Scope, name: str) -> Endpoint:
    """By name or id. Raises: EndpointNotFound."""
    endpoint = await store.find_endpoint(conn, scope.project, name)
    if endpoint is None:
        raise EndpointNotFound(name=name)
    return endpoint


async def list_endpoints(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[Endpoint]:
    """Newest first, without the deleted ones."""
    return await store.list_endpoints(conn, scope.project, before, limit)


async def update_endpoint(
    conn: Connection, scope: Scope, settings: Settings, endpoint: Endpoint, *, model: str | None, replicas: int | None, cpus: float | None
) -> Endpoint:
    """Change what is served or how wide; the old version answers until the new one is ready.

    Raises: EndpointBeingDeleted, ModelVersionNotFound, ModelNotServable, VersionDeprecated.
    """
    version_id, model_name, number = endpoint.model_version_id, endpoint.model, endpoint.version
    if model is not None:
        version = await _get_servable(conn, scope, settings, *policy.split_model(model))
        if version.id != endpoint.model_version_id:
            governance.refuse_deprecated(version)
        version_id, model_name, number = version.id, version.model, version.version
    values = {
        "id": endpoint.id,
        "project_id": scope.project,
        "model": model_name,
        "version": number,
        "model_version_id": version_id,
        "replicas": replicas if replicas is not None else endpoint.replicas,
        "cpus": cpus if cpus is not None else endpoint.cpus,
        "traceparent": current_traceparent(),
    }
    changed = await store.update_endpoint(conn, values)
    if changed is None:
        raise EndpointBeingDeleted(name=endpoint.name)
    await store.insert_deployment(conn, changed)
    await _publish(conn, scope, changed, "updated")
    return changed


async def delete_endpoint(conn: Connection, scope: Scope, name: str) -> Endpoint:
    """Ask for its removal; asking twice is no error. Raises: EndpointNotFound."""
    endpoint = await get_endpoint(conn, scope, name)
    deleting = await store.start_deleting(conn, scope.project, endpoint.id, current_traceparent())
    if deleting is None:
        return endpoint
    await _publish(conn, scope, deleting, "deletion_requested")
    return deleting


async def count_endpoints(conn: Connection) -> dict[str, int]:
    """Of all projects, by state, without the deleted ones."""
    return await store.count_endpoints(conn)


async def list_live(conn: Connection, scope: Scope) -> list[Deployment]:
    """What the project's endpoints answer with now, and what they are about to."""
    return await store.list_live(conn, scope.project)


async def find_answer(conn: Connection, scope: Scope, prediction: str) -> tuple[Deployment, datetime] | None:
    """What gave a prediction, and when, by its id (``x-aidos-prediction``); None where the project has no such deployment."""
    parts = policy.parse_prediction_id(prediction)
    found = parts and await store.find_deployment(conn, scope.project, parts[0], parts[1])
    return (found, parts[2]) if parts and found else None


async def build_spec(conn: Connection, scope: Scope, settings: Settings, endpoint: Endpoint) -> EndpointSpec:
    """What a replica needs to serve the endpoint. Raises: ModelVersionNotFound, ModelNotServable."""
    version = await _get_servable(conn, scope, settings, endpoint.model, str(endpoint.version))
    return EndpointSpec(
        endpoint_id=endpoint.id,
        org_id=endpoint.org_id,
        project_id=endpoint.project_id,
        name=endpoint.name,
        route=endpoint.route,
        model=endpoint.model,
        version=endpoint.version,
        flavour=version.flavour,
        files=tuple(ModelFileSpec(file.path, file.key, file.size_bytes, file.sha256) for file in policy.graph_first(version.files)),
        replicas=endpoint.replicas,
        cpus=endpoint.cpus,
        generation=endpoint.generation,
    )


async def _get_servable(conn: Connection, scope: Scope, settings: Settings, model: str, version: str) -> ModelVersion:
    """Raises: ModelVersionNotFound, ModelNotServable unless it is READY, or an owner answers for all that its scan found."""
    found = await modelhub.get_version(conn, scope, model, version)
    excepted = bool(found.findings) and not await exceptions.list_uncovered(conn, scope, settings, found)
    policy.require_servable(found, excepted=excepted)
    return found


async def apply_deployed(conn: Connection, scope: Scope, endpoint: Endpoint, token: UUID, deployed: Deployed) -> bool:
    """Write what the reconciler found, with its events, lease and lineage edge; False when the claim was lost."""
    lease_id = endpoint.lease_id
    serving = deployed.state is EndpointState.READY
    fresh = endpoint.deployed_generation != endpoint.generation or endpoint.state is not deployed.state
    if serving and fresh:
        lease_id = new_id()
    elif not serving:
        lease_id = None
    values = {
        "id": endpoint.id,
        "token": token,
        "state": deployed.state,
        "reason": deployed.reason[:2000],
        "generation": endpoint.generation,
        "lease_id": lease_id,
        "again_s": RESYNC_S,
    }
    if not await store.apply_endpoint(conn, values):
        return False
    if endpoint.lease_id is not None and endpoint.lease_id != lease_id:
        await _publish_lease(conn, scope, endpoint, endpoint.lease_id, "closed")
    if lease_id is not None and endpoint.lease_id != lease_id:
        await _publish_lease(conn, scope, endpoint, lease_id, "opened")
    if serving and fresh:
        await store.mark_ready(conn, endpoint.id, endpoint.generation)
        source = Node("model_version", str(endpoint.model_version_id), f"{endpoint.model}@{endpoint.version}")
        await modelhub.add_edge(conn, scope, source, Node("endpoint", str(endpoint.id), endpoint.name), "served by")
    if fresh:
        await _publish(conn, scope, endpoint, deployed.state.lower(), reason=deployed.reason)
    return True


async def _publish(conn: Connection, scope: Scope, endpoint: Endpoint, what: str, **data: str) -> None:
    event = Event(
        type=f"deployengine.endpoint.{what}",
        subject=str(endpoint.id),
        org_id=endpoint.org_id,
        project_id=endpoint.project_id,
        actor=scope.actor,
        data={"name": endpoint.name, "model": f"{endpoint.model}@{endpoint.version}", "generation": endpoint.generation, **data},
        traceparent=endpoint.traceparent,
    )
    await publish(conn, event)


async def _publish_lease(conn: Connection, scope: Scope, endpoint: Endpoint, lease_id: UUID, what: str) -> None:
    data = {
        "lease_id": str(lease_id),
        "owner_kind": "endpoint",
        "owner_id": str(endpoint.id),
        "owner_name": endpoint.name,
        "resources": {"cpu": endpoint.cpus * endpoint.replicas, "gpu": 0.0, "memory_gib": 0.5 * endpoint.replicas},
        "at": datetime.now(UTC).isoformat(),
    }
    event = Event(
        type=f"deployengine.lease.{what}",
        subject=str(endpoint.id),
        org_id=endpoint.org_id,
        project_id=endpoint.project_id,
        actor=scope.actor,
        data=data,
    )
    await publish(conn, event)
