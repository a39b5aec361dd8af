"""A bootstrapped installation: secrets in a directory of the session's, the organisation ``default`` anew for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from actors.securityvault import service
from actors.securityvault.authenticator import Authenticator
from actors.securityvault.keyring import make_secrets
from actors.securityvault.models import Grade, Principal, Role, Scope
from cluster import postgres_server
from cluster.db import Database
from cluster.settings import Settings


@dataclass(frozen=True)
class Vault:
    """What most tests need: the open database, one replica's authenticator, and the operator."""

    db: Database
    settings: Settings
    authenticator: Authenticator
    admin_key: str
    admin: Principal
    scope: Scope


@pytest.fixture(scope="session")
def vault_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vault")


@pytest.fixture
async def vault(database: Database, settings: Settings, vault_home: Path) -> AsyncIterator[Vault]:
    settings = settings.model_copy(update={"home": vault_home})
    make_secrets(settings)
    key = await service.bootstrap(database, settings)
    assert key is not None
    async with Authenticator(database, settings) as authenticator:
        await authenticator.listening.wait()
        admin = await authenticator.resolve(key)
        yield Vault(database, settings, authenticator, key, admin, await authenticator.scope(admin, None))


@pytest.fixture
async def replica(vault: Vault) -> AsyncIterator[Authenticator]:
    """A second replica of the gateway, with a pool of its own."""
    async with Database(vault.settings) as db, Authenticator(db, vault.settings) as other:
        await other.listening.wait()
        yield other


@pytest.fixture
async def root(settings: Settings) -> AsyncIterator[psycopg.AsyncConnection]:
    """The database's superuser: an attacker whom no policy and no grant stops."""
    name = settings.database_url.get_secret_value().rsplit("/", 1)[1]
    superuser = postgres_server.connect_superuser(settings, name)
    dsn = superuser.info.dsn
    superuser.close()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        yield conn


async def make_member(vault: Vault, name: str, role: Role | None) -> str:
    """A service account with this role in the project ``default`` and a key of its own; the key."""
    async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
        await service.create_service_account(conn, vault.scope, name)
        if role is not None:
            await service.put_member(conn, vault.scope, name, role)
        made = await service.create_key(
            conn,
            vault.scope,
            vault.authenticator.pepper,
            name=f"{name}-key",
            grade=Grade(role.value if role else "viewer"),
            service_account=name,
        )
    return made.secret
