"""Organisations, projects, accounts and memberships: who exists, and with which role where."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from actors.securityvault import policy, store
from actors.securityvault.errors import AccountNotFound, MemberNotFound, NameTaken, ProjectNotFound, RoleNotGrantable, SelfLockout
from actors.securityvault.keyring import fingerprint
from actors.securityvault.models import Account, Grade, Member, Organisation, PrincipalKind, Project, Role, Scope, platform_scope
from cluster.db import Connection, new_id, unique
from cluster.events import Event, publish

INVITATION_DAYS = 7


async def emit(conn: Connection, scope: Scope, type: str, subject: UUID, project_id: UUID | None = None, **data: Any) -> None:
    """Publish that something happened to ``subject``."""
    event = Event(
        type=f"securityvault.{type}", subject=str(subject), org_id=scope.org_id, project_id=project_id, actor=scope.actor, data=data
    )
    await publish(conn, event)


async def create_organisation(conn: Connection, scope: Scope, name: str, admin: str) -> tuple[Organisation, str]:
    """A new organisation with its project ``default`` and an invitation for its first administrator.

    ``conn`` must be one of the platform's, for the new rows are another tenant's. Raises: NameTaken.
    """
    policy.require(scope, policy.OPERATE)
    with unique("organisation_name", NameTaken(noun="organisation", name=name)):
        organisation = await store.create_organisation(conn, new_id(), name)
    await store.create_project(
        conn, id=new_id(), org_id=organisation.id, name="default", description="The first project.", rate_limit_per_minute=None
    )
    account = await store.create_account(
        conn, id=new_id(), org_id=organisation.id, kind=PrincipalKind.USER, name=admin, password_hash=None, org_admin=True
    )
    await emit(conn, scope, "organisation.created", organisation.id, name=name)
    return organisation, await _invitation(conn, account)


async def get_organisation(conn: Connection, scope: Scope) -> Organisation:
    """The caller's own."""
    found = await store.find_organisation(conn, str(scope.org_id))
    if found is None:
        raise LookupError("the caller's organisation is gone")
    return found


async def default_scope(conn: Connection) -> Scope:
    """The platform, acting in the first organisation's project ``default``: for what came in beside the API. Raises: ProjectNotFound."""
    organisation = await store.find_organisation(conn, "default")
    project = await store.find_project(conn, organisation.id, "default") if organisation else None
    if project is None:
        raise ProjectNotFound(name="default")
    return platform_scope(project.org_id, project.id)


async def list_organisations(conn: Connection, before: UUID | None, limit: int) -> list[Organisation]:
    """All of them: ``conn`` must be one of the platform's."""
    return await store.list_organisations(conn, before, limit)


async def create_project(
    conn: Connection, scope: Scope, name: str, description: str = "", rate_limit_per_minute: int | None = None
) -> Project:
    """Raises: NameTaken."""
    with unique("project_name", NameTaken(noun="project", name=name)):
        project = await store.create_project(
            conn,
            id=new_id(),
            org_id=scope.org_id,
            name=name,
            description=description,
            rate_limit_per_minute=rate_limit_per_minute,
        )
    await store.announce(conn, f"org:{scope.org_id}")
    await emit(conn, scope, "project.created", project.id, project.id, name=name)
    return project


async def get_project(conn: Connection, scope: Scope, key: str) -> Project:
    """By name or id, if the caller is a member of it. Raises: ProjectNotFound."""
    project = await store.find_project(conn, scope.org_id, key)
    visible = visible_projects(scope)
    if project is None or (visible is not None and project.id not in visible):
        raise ProjectNotFound(name=key)
    return project


def visible_projects(scope: Scope) -> list[UUID] | None:
    """Ids of the projects that the caller may know of; None: all of the organisation."""
    principal = scope.principal
    if principal.project_id is not None:
        return [principal.project_id]
    return None if principal.org_admin or principal.operator else list(principal.roles)


async def list_projects(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[Project]:
    return await store.list_projects(conn, scope.org_id, visible_projects(scope), before, limit)


async def archive_project(conn: Connection, scope: Scope, key: str) -> Project:
    """From now on nobody changes anything in it. Raises: ProjectNotFound."""
    project = await get_project(conn, scope, key)
    archived = await store.archive_project(conn, scope.org_id, project.id)
    await store.announce(conn, f"org:{scope.org_id}")
    await emit(conn, scope, "project.archived", project.id, project.id, name=project.name)
    return archived


async def create_user(
    conn: Connection, scope: Scope, name: str, password_hash: str | None, org_admin: bool = False
) -> tuple[Account, str | None]:
    """A user with a password, or with an invitation to choose one. Raises: NameTaken, RoleNotGrantable."""
    account = await _create_account(conn, scope, PrincipalKind.USER, name, password_hash, org_admin)
    return account, None if password_hash else await _invitation(conn, account)


async def create_service_account(conn: Connection, scope: Scope, name: str, org_admin: bool = False) -> Account:
    """An identity for programs: it has keys and memberships, and no password. Raises: NameTaken, RoleNotGrantable."""
    return await _create_account(conn, scope, PrincipalKind.SERVICE_ACCOUNT, name, None, org_admin)


async def _create_account(
    conn: Connection, scope: Scope, kind: PrincipalKind, name: str, password_hash: str | None, org_admin: bool
) -> Account:
    if org_admin:
        policy.require_grantable(scope, Grade.ADMIN)
    with unique("account_name", NameTaken(noun="account", name=name)):
        account = await store.create_account(
            conn, id=new_id(), org_id=scope.org_id, kind=kind, name=name, password_hash=password_hash, org_admin=org_admin
        )
    await emit(conn, scope, f"{kind}.created", account.id, name=name, org_admin=org_admin)
    return account


async def invite(conn: Connection, scope: Scope, key: str) -> tuple[Account, str]:
    """A new invitation for a user who lost the first one or the password. Raises: AccountNotFound, RoleNotGrantable."""
    account = await get_account(conn, scope, key, PrincipalKind.USER)
    _require_power_over(scope, account)
    await emit(conn, scope, "user.invited", account.id, name=account.name)
    return account, await _invitation(conn, account)


async def _invitation(conn: Connection, account: Account) -> str:
    token = f"aidos_invite_{secrets.token_hex(32)}"
    expires_at = datetime.now(UTC) + timedelta(days=INVITATION_DAYS)
    await store.create_invitation(conn, fingerprint(token), account.org_id, account.id, expires_at)
    return token


async def get_account(conn: Connection, scope: Scope, key: str, kind: PrincipalKind | None = None) -> Account:
    """By name or id. Raises: AccountNotFound."""
    account = await store.find_account(conn, scope.org_id, key, kind)
    if account is None:
        raise AccountNotFound(name=key)
    return account


async def list_accounts(conn: Connection, scope: Scope, kind: PrincipalKind, before: UUID | None, limit: int) -> list[Account]:
    return await store.list_accounts(conn, scope.org_id, kind, before, limit)


async def deactivate_account(conn: Connection, scope: Scope, key: str, kind: PrincipalKind) -> Account:
    """Its sessions, keys and job tokens are dead within a second. Raises: AccountNotFound, SelfLockout, RoleNotGrantable."""
    account = await get_account(conn, scope, key, kind)
    if account.id == scope.principal.user_id:
        raise SelfLockout
    _require_power_over(scope, account)
    gone = await store.deactivate_account(conn, scope.org_id, account.id)
    await store.announce(conn, f"account:{account.id}")
    await emit(conn, scope, f"{kind}.deactivated", account.id, name=account.name)
    return gone


def _require_power_over(scope: Scope, account: Account) -> None:
    """An administrator has no power over the installation's operator: it would become one by resetting its password."""
    if account.operator and not scope.principal.operator:
        raise RoleNotGrantable(own=str(policy.grade(scope)), role=str(Grade.OPERATOR), permission=policy.OPERATE)


async def put_member(conn: Connection, scope: Scope, key: str, role: Role) -> Member:
    """Give an account a role in the project, instead of the one it has. Raises: AccountNotFound, RoleNotGrantable."""
    account = await get_account(conn, scope, key)
    _require_rank(scope, role)
    if (known := await store.find_member(conn, scope.org_id, scope.project, account.id)) is not None:
        _require_rank(scope, known.role)
    await store.put_member(conn, scope.org_id, scope.project, account.id, role)
    await store.announce(conn, f"account:{account.id}")
    await emit(conn, scope, "member.put", account.id, scope.project, name=account.name, role=str(role))
    member = await store.find_member(conn, scope.org_id, scope.project, account.id)
    if member is None:
        raise MemberNotFound(name=key)
    return member


def _require_rank(scope: Scope, role: Role) -> None:
    """A membership is narrowed by no scopes: only who has all of a role's permissions hands the role out, or takes it."""
    policy.require_grantable(scope, Grade(role.value), policy.PERMISSIONS[role])


async def delete_member(conn: Connection, scope: Scope, key: str) -> None:
    """Raises: AccountNotFound, MemberNotFound."""
    known = await get_member(conn, scope, key)
    _require_rank(scope, known.role)
    await store.delete_member(conn, scope.org_id, scope.project, known.account_id)
    await store.announce(conn, f"account:{known.account_id}")
    await emit(conn, scope, "member.deleted", known.account_id, scope.project, name=known.name)


async def get_member(conn: Connection, scope: Scope, key: str) -> Member:
    """By the account's name or id. Raises: AccountNotFound, MemberNotFound."""
    account = await get_account(conn, scope, key)
    member = await store.find_member(conn, scope.org_id, scope.project, account.id)
    if member is None:
        raise MemberNotFound(name=key)
    return member


async def list_members(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[Member]:
    return await store.list_members(conn, scope.org_id, scope.project, before, limit)
