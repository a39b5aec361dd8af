"""API keys: made, listed, rotated and revoked. The key itself is seen once, by who asked for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from actors.securityvault import policy, store
from actors.securityvault.credentials import new_key
from actors.securityvault.directory import emit, get_account, get_project
from actors.securityvault.errors import KeyNotFound, NameTaken, ProjectNotFound, RoleNotGrantable
from actors.securityvault.keyring import Pepper
from actors.securityvault.models import ApiKey, Grade, PrincipalKind, Role, Scope, Secret
from cluster.db import Connection, new_id, unique


async def create_key(
    conn: Connection,
    scope: Scope,
    pepper: Pepper,
    *,
    name: str,
    grade: Grade,
    project: str | None = None,
    scopes: frozenset[str] | None = None,
    expires_in_s: int | None = None,
    service_account: str | None = None,
    rate_limit_per_minute: int | None = None,
) -> Secret:
    """A key of the caller, or of a service account. A role's key is bound to one project: the named one, else the caller's.

    Raises: NameTaken, ProjectNotFound, AccountNotFound, RoleNotGrantable, ScopeNotGrantable, ScopeUnknown.
    """
    acting = await _acting_in(conn, scope, project)
    if scopes is None and scope.principal.scopes is not None:
        scopes = scope.principal.scopes
    policy.require_grantable(acting, grade, scopes)
    project_id = None if grade in (Grade.ADMIN, Grade.OPERATOR) else acting.project
    account_id = await _owner(conn, scope, service_account)
    id = new_id()
    text, secret = new_key(id)
    expires_at = _earlier(expires_in_s, scope.principal.expires_at if scope.principal.key_id else None)
    with unique("api_key_name", NameTaken(noun="key", name=name)):
        key = await store.create_key(
            conn,
            secret_hmac=pepper.of_key(secret),
            id=id,
            org_id=scope.org_id,
            project_id=project_id,
            account_id=account_id,
            name=name,
            grade=grade,
            scopes=sorted(scopes) if scopes is not None else None,
            rate_limit_per_minute=rate_limit_per_minute,
            expires_at=expires_at,
        )
    await emit(conn, scope, "key.created", id, project_id, name=name, grade=str(grade))
    return Secret(key, text)


def _earlier(expires_in_s: int | None, own: datetime | None) -> datetime | None:
    """A key that makes a key does not outlive itself."""
    asked = datetime.now(UTC) + timedelta(seconds=expires_in_s) if expires_in_s else None
    return min((moment for moment in (asked, own) if moment), default=None)


async def _acting_in(conn: Connection, scope: Scope, project: str | None) -> Scope:
    """The caller with the role that it has in the named project."""
    if project is None:
        return scope
    found = await get_project(conn, scope, project)
    principal = scope.principal
    role = Role.OWNER if principal.org_admin or principal.operator else principal.roles.get(found.id)
    if role is None:
        raise ProjectNotFound(name=project)
    acting = Scope(principal, scope.org_id, found.id, found.name, role)
    policy.require(acting, "securityvault:manage")
    return acting


async def _owner(conn: Connection, scope: Scope, service_account: str | None) -> UUID:
    if service_account is not None:
        account = await get_account(conn, scope, service_account, PrincipalKind.SERVICE_ACCOUNT)
        if account.operator and not scope.principal.operator:
            raise RoleNotGrantable(own=str(policy.grade(scope)), role=str(Grade.OPERATOR), permission=policy.OPERATE)
        return account.id
    return scope.principal.user_id or scope.principal.id


def _everywhere(scope: Scope) -> bool:
    return scope.principal.org_admin or scope.principal.operator


async def list_keys(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[ApiKey]:
    """The project's; an administrator sees the organisation's."""
    return await store.list_keys(conn, scope.org_id, scope.project_id, _everywhere(scope), before, limit)


async def rotate_key(conn: Connection, scope: Scope, pepper: Pepper, key: str) -> Secret:
    """A new secret under the same name; the old one is dead within a second. Raises: KeyNotFound, RoleNotGrantable."""
    found = await _get_key(conn, scope, key)
    text, secret = new_key(found.id)
    await store.rotate_key(conn, scope.org_id, found.id, pepper.of_key(secret))
    await store.announce(conn, f"key:{found.id}")
    await emit(conn, scope, "key.rotated", found.id, found.project_id, name=found.name)
    return Secret(found, text)


async def revoke_key(conn: Connection, scope: Scope, key: str) -> None:
    """Dead within a second, for ever. Raises: KeyNotFound, RoleNotGrantable."""
    found = await _get_key(conn, scope, key)
    await store.revoke_key(conn, scope.org_id, found.id)
    await store.announce(conn, f"key:{found.id}")
    await emit(conn, scope, "key.revoked", found.id, found.project_id, name=found.name)


async def _get_key(conn: Connection, scope: Scope, key: str) -> ApiKey:
    """The live key, which must not be stronger than the caller: rotating it would hand its power over."""
    found = await store.find_key(conn, scope.org_id, scope.project_id, key, _everywhere(scope))
    if found is None or found.revoked_at is not None:
        raise KeyNotFound(name=key)
    policy.require_grantable(scope, found.grade, frozenset(found.scopes) if found.scopes is not None else None)
    return found
