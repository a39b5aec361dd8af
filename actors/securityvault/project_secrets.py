"""Secrets of projects: set, listed without their values, used by jobs, deleted. The values are sealed at rest (``sealing.py``)."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from actors.securityvault import store
from actors.securityvault.directory import emit
from actors.securityvault.errors import SecretNotFound, SecretUnreadable
from actors.securityvault.keyring import put_secret_key_first
from actors.securityvault.models import OpenSecret, ProjectSecret, Scope
from actors.securityvault.sealing import read_master_keys
from cluster.db import Connection, Database, new_id
from cluster.settings import Settings
from cluster.telemetry import get_logger

_BATCH = 500
_log = get_logger("securityvault")


async def set_secret(conn: Connection, scope: Scope, settings: Settings, name: str, value: str) -> ProjectSecret:
    """A new secret, or the next version of it: the value before is gone. Raises: VaultLocked."""
    sealed = read_master_keys(settings).seal(value.encode(), scope.project, name)
    secret = await store.put_secret(
        conn, id=new_id(), org_id=scope.org_id, project_id=scope.project, name=name, set_by=scope.actor, sealed=sealed
    )
    await emit(conn, scope, "secret.set", secret.id, scope.project, name=name, version=secret.version)
    return secret


async def list_secrets(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[ProjectSecret]:
    """Newest first."""
    return await store.list_secrets(conn, scope.project, before, limit)


async def delete_secret(conn: Connection, scope: Scope, name: str) -> None:
    """Who has its value keeps it; nobody gets it any more. Raises: SecretNotFound."""
    id = await store.delete_secret(conn, scope.project, name)
    if id is None:
        raise SecretNotFound(name=name)
    await emit(conn, scope, "secret.deleted", id, scope.project, name=name)


async def find_missing_secrets(conn: Connection, scope: Scope, names: Collection[str]) -> set[str]:
    """Those of these names that the project does not have."""
    return set(names) - {secret.name for secret in await store.list_sealed(conn, scope.project, names)}


async def open_secrets(conn: Connection, scope: Scope, settings: Settings, names: Collection[str]) -> dict[str, OpenSecret]:
    """Their values, for who shows that it may have them. Raises: SecretNotFound, SecretUnreadable, VaultLocked."""
    keys, found = read_master_keys(settings), await store.list_sealed(conn, scope.project, names)
    opened = {secret.name: OpenSecret(secret.version, keys.open(secret).decode()) for secret in found}
    for name in names:
        if name not in opened:
            raise SecretNotFound(name=name)
    await store.touch_secrets(conn, [secret.id for secret in found])
    return opened


async def rotate_secret_key(db: Database, settings: Settings) -> int:
    """Make a new master key and wrap all secrets by it; how many there are. The one before stays in the file until the next rotation, for what was set meanwhile.

    Raises: VaultLocked, OSError where the file is not this process's to write.
    """
    read_master_keys(settings)
    async with db.platform() as conn:
        await store.lock_secret_keys(conn)
        put_secret_key_first(settings, await store.list_secret_keys(conn))
    return await rewrap_secrets(db, settings)


async def rewrap_secrets(db: Database, settings: Settings) -> int:
    """Wrap by the first master key what another one wraps; how many there were. Raises: VaultLocked."""
    keys, after, done = read_master_keys(settings), None, 0
    while True:
        async with db.platform() as conn:
            found = await store.list_wrapped_otherwise(conn, keys.first, after, _BATCH)
            for secret in found:
                try:
                    await store.rewrap_secret(conn, keys.rewrap(secret))
                    done += 1
                except SecretUnreadable as error:
                    _log.warning("secret could not be wrapped anew", project_id=str(secret.project_id), error=str(error))
        if len(found) < _BATCH:
            return done
        after = found[-1].id
