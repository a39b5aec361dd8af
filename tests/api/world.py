"""Two organisations in a real database and one principal of every kind, for tests of who may do and see what."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI

from actors.securityvault import service as securityvault
from actors.securityvault.models import Grade, Role, Scope
from api.app import build_app, build_edge
from api.deps import Edge
from cluster.db import Database, new_id
from cluster.settings import Settings
from tests.api import probe

NARROW = "modelhub:read"
"""The one permission of the principal ``narrow``."""


@dataclass(frozen=True)
class Tenant:
    """An organisation, its project ``default``, and its administrator."""

    org_id: UUID
    project_id: UUID
    admin_key: str


@dataclass(frozen=True)
class World:
    """``ours`` has a principal of every role; ``theirs`` is the other organisation."""

    edge: Edge
    app: FastAPI
    ours: Tenant
    theirs: Tenant
    credentials: dict[str, str | None]
    operator: Scope

    def client(self, principal: str, app: FastAPI | None = None, **headers: str) -> httpx.AsyncClient:
        """A client that calls as one of ``credentials``."""
        credential = self.credentials[principal]
        sent = {**({"Authorization": f"Bearer {credential}"} if credential else {}), **headers}
        # A server that answers 500 and raises is tested by its answer.
        transport = httpx.ASGITransport(app or self.app, raise_app_exceptions=False, client=("192.0.2.1", 4711))
        return httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=sent)


async def build_world(settings: Settings) -> World:
    """Make both organisations and all principals; the edge is open."""
    edge = await _open(settings)
    operator_key = await securityvault.bootstrap(edge.db, settings) or await securityvault.replace_admin_key(edge.db, settings)
    operator = await edge.vault.scope(await edge.vault.resolve(operator_key), None)
    ours = Tenant(operator.org_id, operator.project, await make_key(edge, operator, Grade.ADMIN))
    theirs = await make_tenant(edge, operator)
    credentials: dict[str, str | None] = {"anonymous": None, "operator": operator_key}
    credentials |= {str(role): await _member_key(edge, operator, role) for role in Role}
    owner = await edge.vault.scope(await edge.vault.resolve(str(credentials["owner"])), None)
    credentials |= {
        "org_admin": ours.admin_key,
        "foreign_admin": theirs.admin_key,
        "narrow": await make_key(edge, owner, Grade.OWNER, scopes=frozenset({NARROW})),
        "expired": await make_key(edge, owner, Grade.OWNER, expires_in_s=1),
        "revoked": await _revoked_key(edge, owner),
        "malformed": "aidos_live_nonsense",
        "job": await _job_token(edge, owner),
    }
    app = build_app(edge)
    app.include_router(probe.router)
    return World(edge, app, ours, theirs, credentials, operator)


async def _open(settings: Settings) -> Edge:
    async with Database(settings) as db:
        await securityvault.bootstrap(db, settings)  # makes the signing keys that an edge cannot be built without
    edge = build_edge(settings)
    await edge.db.open()
    await edge.wakeup.__aenter__()
    await edge.vault.start()
    return edge


async def close_world(world: World) -> None:
    await world.edge.vault.stop()
    await world.edge.wakeup.__aexit__()
    await world.edge.db.__aexit__()


def with_settings(edge: Edge, **changes: Any) -> Edge:
    """The same edge under other settings; it shares the pool."""
    db = edge.db
    other = type(db).__new__(type(db))
    other.__dict__.update(db.__dict__, settings=db.settings.model_copy(update=changes))
    return dataclasses.replace(edge, db=other)


async def make_tenant(edge: Edge, operator: Scope) -> Tenant:
    """Another organisation with an administrator."""
    name = f"theirs-{new_id().hex[-12:]}"
    async with edge.db.platform() as conn:
        organisation, _ = await securityvault.create_organisation(conn, operator, name, "admin")
        projects = await securityvault.list_projects(conn, dataclasses.replace(operator, org_id=organisation.id), None, 10)
    there = dataclasses.replace(operator, org_id=organisation.id, project_id=projects[0].id)
    return Tenant(
        organisation.id,
        projects[0].id,
        await make_key(edge, there, Grade.ADMIN, service_account=await _account(edge, there, org_admin=True)),
    )


async def _account(edge: Edge, scope: Scope, **options: Any) -> str:
    name = f"account-{new_id().hex[-12:]}"
    async with edge.db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        await securityvault.create_service_account(conn, scope, name, **options)
    return name


async def make_key(edge: Edge, scope: Scope, grade: Grade, **options: Any) -> str:
    async with edge.db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        made = await securityvault.create_key(conn, scope, edge.vault.pepper, name=f"key-{new_id().hex[-12:]}", grade=grade, **options)
    return made.secret


async def _member_key(edge: Edge, operator: Scope, role: Role) -> str:
    account = await _account(edge, operator)
    async with edge.db.tenant(org_id=operator.org_id, project_id=operator.project_id) as conn:
        await securityvault.put_member(conn, operator, account, role)
    return await make_key(edge, operator, Grade(role.value), service_account=account)


async def _revoked_key(edge: Edge, owner: Scope) -> str:
    text = await make_key(edge, owner, Grade.OWNER)
    principal = await edge.vault.resolve(text)
    async with edge.db.tenant(org_id=owner.org_id, project_id=owner.project_id) as conn:
        await securityvault.revoke_key(conn, owner, str(principal.id))
    return text


async def _job_token(edge: Edge, owner: Scope) -> str:
    async with edge.db.tenant(org_id=owner.org_id, project_id=owner.project_id) as conn:
        return await securityvault.issue_job_token(conn, owner, new_id(), 1, settings=edge.db.settings)
