"""A project, its S3, and the API over HTTP for the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from actors.securityvault.bootstrap import bootstrap
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from aidos.client import Client
from aidos.transfers.filesystem import AidosFileSystem
from cluster.db import Connection, Database
from cluster.objects import Objects
from cluster.settings import Settings
from tests.dataforge.server import serve


def make_scope(role: Role = Role.OWNER) -> Scope:
    org_id, project_id = uuid4(), uuid4()
    principal = Principal(PrincipalKind.USER, uuid4(), "ada", org_id, roles={project_id: role})
    return Scope(principal, org_id, project_id, "default", role)


@pytest.fixture
def scope() -> Scope:
    return make_scope()


@pytest.fixture
def other_scope() -> Scope:
    return make_scope()


@pytest.fixture
async def conn(database: Database, scope: Scope) -> AsyncIterator[Connection]:
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
    key = await bootstrap(database, settings)
    assert key
    return key


@pytest.fixture
def url(settings: Settings, admin_key: str, objects: Objects) -> Iterator[str]:
    """The address of the API."""
    with serve(settings) as address:
        yield address


@pytest.fixture
def client(url: str, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Client]:
    """The SDK as the operator; child processes find the same settings."""
    monkeypatch.setenv("AIDOS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AIDOS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("AIDOS_URL", url)
    monkeypatch.setenv("AIDOS_API_KEY", admin_key)
    AidosFileSystem.clear_instance_cache()  # fsspec's own, which knows the address of the test before
    with Client() as opened:
        yield opened
