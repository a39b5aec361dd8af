"""The verbs of SecurityVault: what other modules and the edge call."""

from __future__ import annotations

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
    get_organisation,
    get_project,
    invite,
    list_accounts,
    list_members,
    list_organisations,
    list_projects,
    put_member,
)
from actors.securityvault.jobs import issue_job_token, revoke_job_tokens
from actors.securityvault.keys import create_key, list_keys, revoke_key, rotate_key
from actors.securityvault.limits import Limit, RateLimiter
from actors.securityvault.models import AuditEntry, AuditRecord, AuditVerdict
from actors.securityvault.sessions import accept_invitation, list_sessions, refresh, revoke_session, sign_in, sign_out
from cluster.db import Connection

__all__ = [
    "CHANNEL", "AuditEntry", "AuditVerdict", "Authenticator", "Limit", "RateLimiter", "accept_invitation", "archive_project",
    "bootstrap", "canonical", "create_key", "create_organisation", "create_project", "create_service_account", "create_user",
    "deactivate_account", "default_scope", "delete_member", "get_account", "get_organisation", "get_project", "invite", "issue_job_token", "list_accounts",
    "list_audit", "list_keys", "list_members", "list_organisations", "list_projects", "list_sessions", "policy", "put_member", "refresh",
    "replace_admin_key", "revoke_job_tokens", "revoke_key", "revoke_session", "rotate_key", "seal", "sign_in", "sign_out",
    "verify_chain", "write_audit",
]  # fmt: skip


async def list_audit(conn: Connection, org_id: UUID, before: int | None, limit: int) -> list[AuditRecord]:
    """The organisation's audit records, newest first."""
    return await store.list_audit(conn, org_id, before, limit)
