"""The only SQL of DeployEngine: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cluster.db import Connection, load_queries, one
from serve_apps.deployengine.models import Deployment, Endpoint, EndpointState

Q = load_queries(__package__)


def _endpoint(row: Mapping[str, Any]) -> Endpoint:
    return Endpoint(**{**row, "state": EndpointState(row["state"])})


async def insert_endpoint(conn: Connection, values: Mapping[str, Any]) -> Endpoint:
    """Raises: psycopg.errors.UniqueViolation on ``endpoints_name``."""
    row = await (await conn.execute(Q.insert_endpoint, values)).fetchone()
    assert row is not None
    return _endpoint(row)


async def find_endpoint(conn: Connection, project_id: UUID, name: str) -> Endpoint | None:
    """By name, or by id; the living one before a deleted one of the same name."""
    row = await (await conn.execute(Q.find_endpoint, {"project_id": project_id, "name": name})).fetchone()
    return _endpoint(row) if row else None


async def list_endpoints(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[Endpoint]:
    rows = await (await conn.execute(Q.list_endpoints, {"project_id": project_id, "before": before, "limit": limit})).fetchall()
    return [_endpoint(row) for row in rows]


async def update_endpoint(conn: Connection, values: Mapping[str, Any]) -> Endpoint | None:
    """None when it is being deleted."""
    row = await (await conn.execute(Q.update_endpoint, values)).fetchone()
    return _endpoint(row) if row else None


async def start_deleting(conn: Connection, project_id: UUID, endpoint_id: UUID, traceparent: str | None) -> Endpoint | None:
    """None when it is being deleted already."""
    values = {"project_id": project_id, "id": endpoint_id, "traceparent": traceparent}
    row = await (await conn.execute(Q.start_deleting, values)).fetchone()
    return _endpoint(row) if row else None


async def insert_deployment(conn: Connection, endpoint: Endpoint) -> None:
    """What its present generation asks for."""
    values = {"project_id": endpoint.project_id, "endpoint_id": endpoint.id, "generation": endpoint.generation}
    what = {"model": endpoint.model, "version": endpoint.version, "model_version_id": endpoint.model_version_id}
    await conn.execute(Q.insert_deployment, values | what)


async def mark_ready(conn: Connection, endpoint_id: UUID, generation: int) -> None:
    await conn.execute(Q.mark_ready, {"endpoint_id": endpoint_id, "generation": generation})


async def find_deployment(conn: Connection, project_id: UUID, endpoint_id: UUID, generation: int) -> Deployment | None:
    values = {"project_id": project_id, "endpoint_id": endpoint_id, "generation": generation}
    return one(Deployment, await (await conn.execute(Q.find_deployment, values)).fetchone())


async def list_live(conn: Connection, project_id: UUID) -> list[Deployment]:
    rows = await (await conn.execute(Q.list_live, {"project_id": project_id})).fetchall()
    return [Deployment(**row) for row in rows]


async def count_endpoints(conn: Connection) -> dict[str, int]:
    return {row["state"]: row["endpoints"] for row in await (await conn.execute(Q.count_endpoints)).fetchall()}


async def claim_endpoint(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Endpoint]:
    """Lock up to ``limit`` endpoints that want work; those that answer already come last, to be looked after."""
    rows = await (await conn.execute(Q.claim_endpoint, {"token": token, "lock_s": lock_s, "limit": limit})).fetchall()
    return [_endpoint(row) for row in rows]


async def apply_endpoint(conn: Connection, values: Mapping[str, Any]) -> bool:
    """Write what a reconciliation came to; False when the claim was lost or the endpoint changed meanwhile."""
    return await (await conn.execute(Q.apply_endpoint, values)).fetchone() is not None
