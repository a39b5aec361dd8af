"""Tokens for user code in jobs: one project, few permissions, an hour at most, dead when the job is over."""

from __future__ import annotations

from uuid import UUID

from actors.securityvault import policy, store
from actors.securityvault.errors import JobIsOver
from actors.securityvault.keyring import TOKEN_KEYS, read_signing_keys
from actors.securityvault.models import Role, Scope
from actors.securityvault.tokens import TokenSigner
from cluster.db import Connection
from cluster.settings import Settings, get_settings


async def issue_job_token(
    conn: Connection,
    scope: Scope,
    job_id: UUID,
    epoch: int,
    *,
    settings: Settings | None = None,
    scopes: frozenset[str] = policy.JOB_SCOPES,
) -> str:
    """A token for this epoch of the job; tokens of earlier epochs die. Call again to renew it.

    It acts with the submitter's role in the project, a developer's at most. Raises: JobIsOver.
    """
    settings = settings or get_settings()
    role = policy.weaker(scope.role or Role.DEVELOPER, Role.DEVELOPER) or Role.VIEWER
    granted = await store.put_job_grant(
        conn, job_id=job_id, org_id=scope.org_id, project_id=scope.project, account_id=scope.principal.user_id, role=role, epoch=epoch
    )
    if not granted:
        raise JobIsOver(job_id=str(job_id), epoch=epoch)
    await store.announce(conn, f"job:{job_id}")
    signer = TokenSigner(read_signing_keys(settings, TOKEN_KEYS), settings.url)
    own = scope.principal.scopes
    narrowed = scopes if own is None else frozenset(each for each in scopes if policy.covers(own, each))
    return signer.issue_job_token(
        job_id=job_id, org_id=scope.org_id, project_id=scope.project, scopes=narrowed, epoch=epoch, ttl_s=settings.job_token_ttl_s
    )


async def role_today(conn: Connection, scope: Scope) -> Role | None:
    """What is left of the role that a kept ``scope`` has in its project: None once its account has left that or was deactivated."""
    if scope.principal.user_id is None:
        return scope.role
    account = await store.find_account(conn, scope.org_id, str(scope.principal.user_id))
    if account is None or account.deactivated_at is not None:
        return None
    if account.org_admin or account.operator:
        return scope.role
    return policy.weaker(scope.role, (await store.list_roles(conn, scope.org_id, account.id)).get(scope.project))


async def revoke_job_tokens(conn: Connection, job_id: UUID) -> None:
    """The job is over: its tokens are refused by every replica within a second of this transaction's commit."""
    await store.revoke_job_grant(conn, job_id)
    await store.announce(conn, f"job:{job_id}")
