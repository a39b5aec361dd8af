"""A tenant that exists, the API over HTTP, and clients with the tokens of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from aidos.client import Client
from cluster.db import Database
from cluster.settings import Settings
from tests.support.tenant import admin_key, client, objects, url

__all__ = ["admin_key", "client", "objects", "url"]
JobClient = Callable[[Any], Client]


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
