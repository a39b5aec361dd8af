"""A tenant, another one, and the verbs most tests begin with."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from actors.modelhub import service
from actors.modelhub.models import ArtifactSpec, Run, RunSpec
from actors.securityvault.bootstrap import bootstrap
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from aidos.client import Client
from cluster.db import Connection, Database, new_id
from cluster.objects import Objects
from cluster.settings import Settings
from tests.dataforge.server import serve

Upload = Callable[[UUID, dict[str, bytes]], Awaitable[None]]


def make_scope() -> Scope:
    org_id, project_id = new_id(), new_id()
    principal = Principal(PrincipalKind.USER, new_id(), "ada", org_id, {project_id: Role.OWNER})
    return Scope(principal, org_id, project_id, "default", Role.OWNER)


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
async def run(database: Database, scope: Scope) -> Run:
    """A committed run."""
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as opened:
        return await service.create_run(opened, scope, RunSpec("digits", "first"))


@pytest.fixture
async def objects(settings: Settings) -> Objects:
    store = Objects(settings)
    await store.ensure_bucket()
    return store


@pytest.fixture
async def admin_key(database: Database, settings: Settings, objects: Objects) -> str:
    """The key of a fresh installation's operator."""
    key = await bootstrap(database, settings)
    assert key
    return key


@pytest.fixture
def hub(settings: Settings, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Client]:
    """The SDK as the operator, over HTTP; child processes find the same settings."""
    with serve(settings) as url:
        for name, value in {"URL": url, "API_KEY": admin_key, "CONFIG_DIR": str(tmp_path / "config")}.items():
            monkeypatch.setenv(f"AIDOS_{name}", value)
        with Client() as opened:
            yield opened


async def announce(conn: Connection, scope: Scope, run_id: UUID, files: dict[str, bytes]) -> None:
    """Artifacts whose bytes are said to have arrived, for tests that never read them."""
    specs = [ArtifactSpec(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()]
    artifacts = await service.announce_artifacts(conn, scope, run_id, specs)
    sizes = {spec.path: spec.size_bytes for spec in specs}
    measured = {artifact.id: _Measured(sizes[artifact.path]) for artifact in artifacts}
    await service.complete_artifacts(conn, scope, run_id, artifacts, measured)  # type: ignore[arg-type]  # only the size is read


class _Measured:
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


@pytest.fixture
def upload(database: Database, objects: Objects, scope: Scope) -> Upload:
    """Really upload artifacts of a run."""

    async def put(run_id: UUID, files: dict[str, bytes]) -> None:
        specs = [ArtifactSpec(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()]
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as opened:
            artifacts = await service.announce_artifacts(opened, scope, run_id, specs)
        for artifact in artifacts:
            await objects.put(artifact.key, files[artifact.path])
        measured = await service.measure(objects, artifacts)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as opened:
            await service.complete_artifacts(opened, scope, run_id, artifacts, measured)

    return put
