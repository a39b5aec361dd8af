"""Fixtures that the modules' conftests take over: a tenant and another one, its store, and the API over HTTP for the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from aidos.client import Client
from aidos.transfers.filesystem import AidosFileSystem
from cluster.db import Connection, Database, new_id
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support.server import serve

JobClient = Callable[[Any], Client]


def make_scope(role: Role = Role.OWNER) -> Scope:
    """Somebody in a project of a tenant that nobody else is in."""
    org_id, project_id = new_id(), new_id()
    return Scope(Principal(PrincipalKind.USER, new_id(), "ada", org_id, {project_id: role}), org_id, project_id, "default", role)


@pytest.fixture
def scope() -> Scope:
    return make_scope()


@pytest.fixture
def other_scope() -> Scope:
    return make_scope()


@pytest.fixture
async def conn(database: Database, scope: Scope) -> AsyncIterator[Connection]:
    """One transaction of the tenant."""
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as opened:
        yield opened


@pytest.fixture
async def objects(settings: Settings) -> Objects:
    made = Objects(settings)
    await made.ensure_bucket()
    return made


@pytest.fixture
async def admin_key(database: Database, settings: Settings) -> str:
    """The key of a fresh installation's operator."""
    key = await securityvault.bootstrap(database, settings)
    assert key
    return key


@pytest.fixture
def url(settings: Settings, admin_key: str, objects: Objects) -> Iterator[str]:
    """The address of the API."""
    with serve(settings) as address:
        yield address


@pytest.fixture
def client(
    url: str, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """The SDK as the operator; child processes find the same settings."""
    monkeypatch.setenv("AIDOS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))  # not in ``tmp_path``, which tests push
    monkeypatch.setenv("AIDOS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("AIDOS_OFFLINE_DIR", str(tmp_path / "offline"))
    monkeypatch.setenv("AIDOS_URL", url)
    monkeypatch.setenv("AIDOS_API_KEY", admin_key)
    AidosFileSystem.clear_instance_cache()  # fsspec's own, which knows the address of the test before
    with Client() as opened:
        yield opened


@pytest.fixture
def as_job(settings: Settings, url: str, client: Client) -> JobClient:
    """A client with the token of a job, as TrainOS gives it to the job's code."""

    def make(job_id: Any) -> Client:
        async def issue() -> str:
            async with Database(settings) as db, db.platform() as conn:
                platform = await securityvault.default_scope(conn)
                principal = Principal(PrincipalKind.PLATFORM, UUID(int=0), "platform", platform.org_id)
                scope = Scope(principal, platform.org_id, platform.project, "default", Role.DEVELOPER)
                return await securityvault.issue_job_token(conn, scope, job_id, 1, settings=settings)

        return Client(url, asyncio.run(issue()))

    return make
