"""A tenant, another one, and the verbs most tests begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from actors.modelhub import service
from actors.modelhub.models import ArtifactSpec, Run, RunSpec
from actors.securityvault.models import Scope
from cluster.db import Connection, Database
from cluster.objects import Objects
from tests.support.tenant import admin_key, client, conn, objects, other_scope, scope, url

Upload = Callable[[UUID, dict[str, bytes]], Awaitable[None]]
__all__ = ["admin_key", "client", "conn", "objects", "other_scope", "scope", "url"]


@pytest.fixture
async def run(database: Database, scope: Scope) -> Run:
    """A committed run."""
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as opened:
        return await service.create_run(opened, scope, RunSpec("digits", "first"))


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
