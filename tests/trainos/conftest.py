"""A tenant that exists, its object store, and jobs in it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Awaitable, Callable

import pytest

from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from cluster.db import Database
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support.tenant import admin_key, as_job, client, objects, url
from tests.trainos.fake_cluster import FakeCluster
from tune.trainos import service
from tune.trainos.models import Job, JobSpec
from tune.trainos.queue.reconciler import Admission
from tune.trainos.reconciler import JobReconciler

__all__ = ["admin_key", "as_job", "client", "objects", "url"]

Submit = Callable[..., Awaitable[Job]]


def zip_of(**files: str) -> bytes:
    """A code package; ``main_py="…"`` is the file main.py."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for name, text in files.items():
            package.writestr(name.replace("_py", ".py"), text)
    return buffer.getvalue()


async def make_due(database: Database) -> None:
    """Every job is to be looked at now."""
    async with database.platform() as conn:
        await conn.execute("UPDATE trainos.jobs SET next_attempt_at = now() - interval '1 s'")


async def take_step(database: Database, reconciler: JobReconciler) -> None:
    """A look at the queue, then a step of every job, however far off the next look is."""
    await make_due(database)
    await Admission(database, reconciler.ray, "tests").look()
    await reconciler.run_once()


@pytest.fixture
async def scope(database: Database, admin_key: str) -> Scope:
    """A developer of the project ``default``."""
    async with database.platform() as conn:
        platform = await securityvault.default_scope(conn)
    principal = Principal(PrincipalKind.USER, platform.project, "ada", platform.org_id, {platform.project: Role.DEVELOPER})
    return Scope(principal, platform.org_id, platform.project, "default", Role.DEVELOPER)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def reconciler(database: Database, objects: Objects, settings: Settings, cluster: FakeCluster) -> JobReconciler:
    return JobReconciler(database, objects, settings, cluster)


@pytest.fixture
def submit(database: Database, scope: Scope) -> Submit:
    """Queue a job."""

    async def queue(name: str = "digits", **fields: object) -> Job:
        spec = JobSpec(**{"name": name, "command": ("python", "main.py"), "workers": 2, **fields})  # type: ignore[arg-type]  # as named
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            return await service.submit_job(conn, scope, spec)

    return queue


@pytest.fixture
def reread(database: Database, scope: Scope) -> Callable[[Job], Awaitable[Job]]:
    """The job as it is now."""

    async def read(job: Job) -> Job:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            return await service.get_job(conn, scope, str(job.id))

    return read


@pytest.fixture
def upload_code(objects: Objects, scope: Scope) -> Callable[[bytes], Awaitable[str]]:
    """Put a package where a client would have."""

    async def put(content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        await objects.put(service.code_key(scope.project, sha256), content)
        return sha256

    return put
