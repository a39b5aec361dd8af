"""The verbs of SecurityVault: what other modules and the edge call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from actors.securityvault import policy, store
from actors.securityvault.audit import canonical, seal, verify_chain, write_audit
from actors.securityvault.authenticator import CHANNEL, Authenticator
from actors.securityvault.bootstrap import bootstrap, replace_admin_key
from actors.securityvault.directory import (
    archive_project,
    create_organisation,
    create_project,
    create_service_account,
    create_user,
    deactivate_account,
    default_scope,
    delete_member,
    get_account,
    get_member,
    get_organisation,
    get_project,
    invite,
    list_accounts,
    list_members,
    list_organisations,
    list_projects,
    put_member,
)
from actors.securityvault.errors import OrganisationNotFound, ProjectNotFound
from actors.securityvault.jobs import issue_job_token, revoke_job_tokens, role_today
from actors.securityvault.keyring import AUDIT_KEYS, Pepper, read_signing_keys
from actors.securityvault.keys import create_key, list_keys, revoke_key, rotate_key
from actors.securityvault.limits import Limit, RateLimiter
from actors.securityvault.models import AuditEntry, AuditRecord, AuditVerdict, Principal, Role, Scope
from actors.securityvault.project_secrets import (
    delete_secret,
    find_missing_secrets,
    list_secrets,
    open_secrets,
    rotate_secret_key,
    set_secret,
)
from actors.securityvault.sessions import accept_invitation, list_sessions, refresh, revoke_session, sign_in, sign_out
from cluster.db import Connection

__all__ = [
    "AUDIT_KEYS", "CHANNEL", "AuditEntry", "AuditVerdict", "Authenticator", "Caller", "Limit", "Pepper", "RateLimiter", "accept_invitation", "archive_project",
    "bootstrap", "canonical", "create_key", "create_organisation", "create_project", "create_service_account", "create_user",
    "deactivate_account", "default_scope", "delete_member", "delete_secret", "describe_caller", "find_missing_secrets", "get_account", "get_member", "get_organisation", "get_project", "invite", "issue_job_token", "list_accounts",
    "list_audit", "list_keys", "list_members", "list_organisations", "list_projects", "list_secrets", "list_sessions", "open_secrets", "policy", "put_member", "read_signing_keys", "refresh",
    "replace_admin_key", "revoke_job_tokens", "revoke_key", "revoke_session", "role_today", "rotate_key", "rotate_secret_key", "seal", "set_secret", "sign_in", "sign_out",
    "verify_audit", "verify_chain", "write_audit",
]  # fmt: skip


@dataclass(frozen=True)
class Caller:
    """Who calls, and what it may do in the project that it named."""

    actor: str
    kind: str
    id: UUID
    name: str
    organisation: str
    organisation_id: UUID
    org_admin: bool
    operator: bool
    project: str | None
    project_id: UUID | None
    role: Role | None
    permissions: list[str]
    expires_at: datetime | None


async def describe_caller(vault: Authenticator, principal: Principal, project: str | None) -> Caller:
    """Tells who the caller is; without a project where it is a member of none that fits. Raises: ProjectNotFound for a named one."""
    scope = Scope(principal, principal.org_id, None)
    try:
        scope = await vault.scope(principal, project)
    except ProjectNotFound:
        if project is not None:
            raise
    async with vault.db.platform() as conn:
        organisation = await store.find_organisation(conn, str(principal.org_id))
    return Caller(
        actor=principal.actor,
        kind=str(principal.kind),
        id=principal.id,
        name=principal.name,
        organisation=organisation.name if organisation else "",
        organisation_id=principal.org_id,
        org_admin=principal.org_admin,
        operator=principal.operator,
        project=scope.project_name or None,
        project_id=scope.project_id,
        role=scope.role,
        permissions=sorted(permission for permission in policy.ALL if policy.allows(scope, permission)),
        expires_at=principal.expires_at,
    )


async def verify_audit(vault: Authenticator, scope: Scope, organisation: str | None, anchors: Mapping[int, bytes]) -> AuditVerdict:
    """Verify the caller's chain or, for the operator, the named organisation's. Raises: Forbidden, OrganisationNotFound."""
    if organisation is not None:
        policy.require(scope, policy.OPERATE)
    async with vault.db.platform() as conn:
        found = await store.find_organisation(conn, organisation or str(scope.org_id))
        if found is None:
            raise OrganisationNotFound(name=organisation)
        return await verify_chain(conn, vault.audit_keys, found.id, anchors)


async def list_audit(conn: Connection, org_id: UUID, before: int | None, limit: int) -> list[AuditRecord]:
    """The organisation's audit records, newest first."""
    return await store.list_audit(conn, org_id, before, limit)
