"""Signing in and staying so: a password for a session, refresh tokens that rotate, invitations.

A refresh token is good once. Its successor is derived from it, so a client that lost the answer asks again within ten
seconds and gets the same one; any other second use means that two parties hold the token, and ends the session
(RFC 9700, section 4.14).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from actors.securityvault import store
from actors.securityvault.audit import write_audit
from actors.securityvault.authenticator import Authenticator
from actors.securityvault.errors import InvitationInvalid, RefreshRefused, SessionNotFound, SignInFailed
from actors.securityvault.keyring import fingerprint, new_refresh_token
from actors.securityvault.limits import Limit
from actors.securityvault.models import Account, AuditEntry, Principal, Scope, Session, Tokens
from cluster.db import Connection, new_id

GRACE_S = 10.0
SIGN_INS_PER_MINUTE = 10
ADDRESS_PER_MINUTE = 3000
"""Of one peer. Ray's HAProxy does not say whom it speaks for, so behind it this is the limit of all callers together."""


async def sign_in(vault: Authenticator, organisation: str, name: str, password: str, where: AuditEntry) -> Tokens:
    """Raises: SignInFailed (which does not say what was wrong), TooManyRequests."""
    await _limit(vault, where, Limit("sign-in", f"{organisation}/{name}", SIGN_INS_PER_MINUTE))
    async with vault.db.platform() as conn:
        found = await store.find_password(conn, organisation, name)
    stored = found[1] if found else None
    if not await vault.passwords.verify(stored, password) or found is None or stored is None:
        raise SignInFailed
    renewed = await vault.passwords.hash(password) if vault.passwords.needs_rehash(stored) else None
    account, refresh_token, id = found[0], new_refresh_token(), new_id()
    expires_at = datetime.now(UTC) + timedelta(seconds=vault.settings.refresh_token_ttl_s)
    async with vault.db.platform() as conn:
        if renewed is not None:
            await store.set_password(conn, account.org_id, account.id, renewed)
        await store.create_session(
            conn, id=id, org_id=account.org_id, account_id=account.id, client_ip=where.client_ip[:100], expires_at=expires_at
        )
        await store.create_refresh_token(conn, fingerprint(refresh_token), account.org_id, id)
        await write_audit(conn, _as(account), where)
    return _tokens(vault, account, id, refresh_token)


async def refresh(vault: Authenticator, refresh_token: str, where: AuditEntry) -> Tokens:
    """Raises: RefreshRefused, TooManyRequests."""
    await _limit(vault, where)
    async with vault.db.platform() as conn:
        tokens = await _refresh(conn, vault, refresh_token, where)
    if tokens is None:
        raise RefreshRefused
    return tokens


async def _refresh(conn: Connection, vault: Authenticator, refresh_token: str, where: AuditEntry) -> Tokens | None:
    """None, and not an error, when refused: what is revoked here must be committed."""
    digest = fingerprint(refresh_token)
    found = await store.find_refresh_token(conn, digest, GRACE_S)
    if found is None:
        return None
    session, used_at, in_grace = found
    account = await store.find_session_account(conn, session.id)
    if account is None:
        return None
    successor = vault.pepper.successor(refresh_token)
    if used_at is None:
        await store.use_refresh_token(conn, digest, session.id)
        await store.create_refresh_token(conn, fingerprint(successor), session.org_id, session.id)
    elif not in_grace or await store.was_used(conn, fingerprint(successor)):
        await _end(conn, session)
        await write_audit(conn, _as(account), AuditEntry("refresh_token_reused", str(session.id), where.client_ip, where.request_id))
        return None
    return _tokens(vault, account, session.id, successor)


async def sign_out(vault: Authenticator, refresh_token: str, where: AuditEntry) -> None:
    """End the session of the refresh token; an unknown token has none, which is as good."""
    await _limit(vault, where)
    async with vault.db.platform() as conn:
        found = await store.find_refresh_token(conn, fingerprint(refresh_token), GRACE_S)
        account = await store.find_session_account(conn, found[0].id) if found else None
        if found is None or account is None:
            return
        await _end(conn, found[0])
        await write_audit(conn, _as(account), where)


async def accept_invitation(vault: Authenticator, token: str, password: str, where: AuditEntry) -> Account:
    """Choose the first, or a new, password; sessions made with an older one end. Raises: InvitationInvalid, TooManyRequests."""
    await _limit(vault, where)
    password_hash = await vault.passwords.hash(password)
    async with vault.db.platform() as conn:
        account = await store.use_invitation(conn, fingerprint(token))
        if account is None:
            raise InvitationInvalid
        await store.set_password(conn, account.org_id, account.id, password_hash)
        await store.revoke_sessions(conn, account.org_id, account.id)
        await store.announce(conn, f"account:{account.id}")
        await write_audit(conn, _as(account), where)
    return account


async def list_sessions(conn: Connection, scope: Scope, before: UUID | None, limit: int) -> list[Session]:
    """The caller's own."""
    if scope.principal.user_id is None:
        return []
    return await store.list_sessions(conn, scope.org_id, scope.principal.user_id, before, limit)


async def revoke_session(conn: Connection, scope: Scope, id: UUID) -> None:
    """End one of the caller's sessions; an administrator, anybody's. Raises: SessionNotFound."""
    session = await store.find_session(conn, id)
    principal = scope.principal
    if session is None or session.org_id != scope.org_id or not (principal.org_admin or session.account_id == principal.user_id):
        raise SessionNotFound(name=str(id))
    await _end(conn, session)


async def _end(conn: Connection, session: Session) -> None:
    await store.revoke_session(conn, session.id)
    await store.announce(conn, f"session:{session.id}")


async def _limit(vault: Authenticator, where: AuditEntry, *limits: Limit) -> None:
    await vault.limiter.take([*limits, Limit("address", where.client_ip[:100], ADDRESS_PER_MINUTE)])


def _as(account: Account) -> Scope:
    return Scope(Principal(account.kind, account.id, account.name, account.org_id, user_id=account.id), account.org_id, None)


def _tokens(vault: Authenticator, account: Account, session_id: UUID, refresh_token: str) -> Tokens:
    ttl_s = vault.settings.access_token_ttl_s
    access_token = vault.signer.issue_access_token(account_id=account.id, org_id=account.org_id, session_id=session_id, ttl_s=ttl_s)
    return Tokens(access_token, refresh_token, ttl_s, session_id)
