"""The SQL of SecurityVault as functions: one a named query, rows in and dataclasses out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.securityvault.models import (
    Account,
    ApiKey,
    AuditCheckpoint,
    AuditHead,
    AuditRecord,
    Grade,
    Member,
    Organisation,
    PrincipalKind,
    Project,
    ProjectSecret,
    Role,
    Sealed,
    SealedSecret,
    Session,
)
from cluster.db import Connection, load_queries, one

Q = load_queries(__package__)
Row = dict[str, Any]


async def create_organisation(conn: Connection, id: UUID, name: str) -> Organisation:
    return Organisation(**await _must(conn, Q.create_organisation, id=id, name=name))


async def find_organisation(conn: Connection, key: str) -> Organisation | None:
    return one(Organisation, await _row(conn, Q.find_organisation, key=key))


async def list_organisations(conn: Connection, before: UUID | None, limit: int) -> list[Organisation]:
    return [Organisation(**row) for row in await _rows(conn, Q.list_organisations, before=before, limit=limit)]


async def create_project(
    conn: Connection, *, id: UUID, org_id: UUID, name: str, description: str, rate_limit_per_minute: int | None
) -> Project:
    row = await _must(
        conn, Q.create_project, id=id, org_id=org_id, name=name, description=description, rate_limit_per_minute=rate_limit_per_minute
    )
    return Project(**row)


async def find_project(conn: Connection, org_id: UUID, key: str) -> Project | None:
    return one(Project, await _row(conn, Q.find_project, org_id=org_id, key=key))


async def list_projects(conn: Connection, org_id: UUID, only: Sequence[UUID] | None, before: UUID | None, limit: int) -> list[Project]:
    only = list(only) if only is not None else None
    return [Project(**row) for row in await _rows(conn, Q.list_projects, org_id=org_id, only=only, before=before, limit=limit)]


async def archive_project(conn: Connection, org_id: UUID, id: UUID) -> Project:
    return Project(**await _must(conn, Q.archive_project, org_id=org_id, id=id))


async def create_account(
    conn: Connection,
    *,
    id: UUID,
    org_id: UUID,
    kind: PrincipalKind,
    name: str,
    password_hash: str | None = None,
    org_admin: bool = False,
    operator: bool = False,
) -> Account:
    row = await _must(
        conn,
        Q.create_account,
        id=id,
        org_id=org_id,
        kind=str(kind),
        name=name,
        password_hash=password_hash,
        org_admin=org_admin,
        operator=operator,
    )
    return _account(row)


async def find_account(conn: Connection, org_id: UUID, key: str, kind: PrincipalKind | None = None) -> Account | None:
    row = await _row(conn, Q.find_account, org_id=org_id, key=key, kind=str(kind) if kind else None)
    return _account(row) if row else None


async def list_accounts(conn: Connection, org_id: UUID, kind: PrincipalKind, before: UUID | None, limit: int) -> list[Account]:
    return [_account(row) for row in await _rows(conn, Q.list_accounts, org_id=org_id, kind=str(kind), before=before, limit=limit)]


async def deactivate_account(conn: Connection, org_id: UUID, id: UUID) -> Account:
    return _account(await _must(conn, Q.deactivate_account, org_id=org_id, id=id))


async def find_password(conn: Connection, organisation: str, name: str) -> tuple[Account, str | None] | None:
    """The active user of that name with the hash of its password."""
    row = await _row(conn, Q.find_password, organisation=organisation, name=name)
    if row is None:
        return None
    password_hash = row.pop("password_hash")
    return _account(row), password_hash


async def set_password(conn: Connection, org_id: UUID, id: UUID, password_hash: str) -> None:
    await conn.execute(Q.set_password, {"org_id": org_id, "id": id, "password_hash": password_hash})


async def create_invitation(conn: Connection, token_sha256: bytes, org_id: UUID, account_id: UUID, expires_at: datetime) -> None:
    await conn.execute(
        Q.create_invitation, {"token_sha256": token_sha256, "org_id": org_id, "account_id": account_id, "expires_at": expires_at}
    )


async def use_invitation(conn: Connection, token_sha256: bytes) -> Account | None:
    row = await _row(conn, Q.use_invitation, token_sha256=token_sha256)
    return _account(row) if row else None


async def put_member(conn: Connection, org_id: UUID, project_id: UUID, account_id: UUID, role: Role) -> None:
    await conn.execute(Q.put_member, {"org_id": org_id, "project_id": project_id, "account_id": account_id, "role": str(role)})


async def find_member(conn: Connection, org_id: UUID, project_id: UUID, account_id: UUID) -> Member | None:
    row = await _row(conn, Q.find_member, org_id=org_id, project_id=project_id, account_id=account_id)
    return _member(row) if row else None


async def list_members(conn: Connection, org_id: UUID, project_id: UUID, before: UUID | None, limit: int) -> list[Member]:
    return [_member(row) for row in await _rows(conn, Q.list_members, org_id=org_id, project_id=project_id, before=before, limit=limit)]


async def delete_member(conn: Connection, org_id: UUID, project_id: UUID, account_id: UUID) -> bool:
    return await _row(conn, Q.delete_member, org_id=org_id, project_id=project_id, account_id=account_id) is not None


async def list_roles(conn: Connection, org_id: UUID, account_id: UUID) -> dict[UUID, Role]:
    return {row["project_id"]: Role(row["role"]) for row in await _rows(conn, Q.list_roles, org_id=org_id, account_id=account_id)}


async def create_key(conn: Connection, *, secret_hmac: bytes, **values: Any) -> ApiKey:
    """``values``: the columns of ApiKey that the caller chooses."""
    return _key(await _must(conn, Q.create_key, secret_hmac=secret_hmac, **{**values, "grade": str(values["grade"])}))


async def find_key(conn: Connection, org_id: UUID, project_id: UUID | None, key: str, everywhere: bool) -> ApiKey | None:
    """A key by id or name, locked. ``everywhere``: of any project of the organisation."""
    row = await _row(conn, Q.find_key, org_id=org_id, project_id=project_id, key=key, everywhere=everywhere)
    return _key(row) if row else None


async def list_keys(
    conn: Connection, org_id: UUID, project_id: UUID | None, everywhere: bool, before: UUID | None, limit: int
) -> list[ApiKey]:
    rows = await _rows(conn, Q.list_keys, org_id=org_id, project_id=project_id, everywhere=everywhere, before=before, limit=limit)
    return [_key(row) for row in rows]


async def rotate_key(conn: Connection, org_id: UUID, id: UUID, secret_hmac: bytes) -> None:
    await conn.execute(Q.rotate_key, {"org_id": org_id, "id": id, "secret_hmac": secret_hmac})


async def revoke_key(conn: Connection, org_id: UUID, id: UUID) -> None:
    await conn.execute(Q.revoke_key, {"org_id": org_id, "id": id})


async def find_key_secret(conn: Connection, id: UUID) -> Row | None:
    """The live key with its HMAC and what its account may do."""
    return await _row(conn, Q.find_key_secret, id=id)


async def touch_keys(conn: Connection, used: Mapping[UUID, datetime]) -> None:
    await conn.execute(Q.touch_keys, {"ids": list(used), "times": list(used.values())})


async def create_session(conn: Connection, *, id: UUID, org_id: UUID, account_id: UUID, client_ip: str, expires_at: datetime) -> None:
    values = {"id": id, "org_id": org_id, "account_id": account_id, "client_ip": client_ip, "expires_at": expires_at}
    await conn.execute(Q.create_session, values)


async def find_session(conn: Connection, id: UUID) -> Session | None:
    return one(Session, await _row(conn, Q.find_session, id=id))


async def find_session_account(conn: Connection, id: UUID) -> Account | None:
    """The active account of a live session."""
    row = await _row(conn, Q.find_session_account, id=id)
    return _account(row) if row else None


async def list_sessions(conn: Connection, org_id: UUID, account_id: UUID, before: UUID | None, limit: int) -> list[Session]:
    rows = await _rows(conn, Q.list_sessions, org_id=org_id, account_id=account_id, before=before, limit=limit)
    return [Session(**row) for row in rows]


async def revoke_session(conn: Connection, id: UUID) -> None:
    await conn.execute(Q.revoke_session, {"id": id})


async def revoke_sessions(conn: Connection, org_id: UUID, account_id: UUID) -> None:
    """End all sessions of an account."""
    await conn.execute(Q.revoke_sessions, {"org_id": org_id, "account_id": account_id})


async def create_refresh_token(conn: Connection, token_sha256: bytes, org_id: UUID, session_id: UUID) -> None:
    await conn.execute(Q.create_refresh_token, {"token_sha256": token_sha256, "org_id": org_id, "session_id": session_id})


async def find_refresh_token(conn: Connection, token_sha256: bytes, grace_s: float) -> tuple[Session, datetime | None, bool] | None:
    """The token's session (locked), when it was used, and whether that is so recent that the answer may have been lost."""
    row = await _row(conn, Q.find_refresh_token, token_sha256=token_sha256, grace_s=grace_s)
    if row is None:
        return None
    used_at, in_grace = row.pop("used_at"), bool(row.pop("in_grace"))
    return Session(**row), used_at, in_grace


async def was_used(conn: Connection, token_sha256: bytes) -> bool:
    row = await _row(conn, Q.was_used, token_sha256=token_sha256)
    return bool(row and row["used"])


async def use_refresh_token(conn: Connection, token_sha256: bytes, session_id: UUID) -> None:
    await conn.execute(Q.use_refresh_token, {"token_sha256": token_sha256, "session_id": session_id})


async def forget_sessions(conn: Connection) -> None:
    await conn.execute(Q.forget_sessions)


async def put_job_grant(
    conn: Connection, *, job_id: UUID, org_id: UUID, project_id: UUID, account_id: UUID | None, role: Role, epoch: int
) -> bool:
    """Whether the job may have a token of this epoch."""
    values = {"job_id": job_id, "org_id": org_id, "project_id": project_id, "account_id": account_id, "role": str(role), "epoch": epoch}
    return await _row(conn, Q.put_job_grant, **values) is not None


async def find_job_grant(conn: Connection, job_id: UUID) -> Row | None:
    return await _row(conn, Q.find_job_grant, job_id=job_id)


async def revoke_job_grant(conn: Connection, job_id: UUID) -> None:
    await conn.execute(Q.revoke_job_grant, {"job_id": job_id})


async def put_secret(
    conn: Connection, *, id: UUID, org_id: UUID, project_id: UUID, name: str, set_by: str, sealed: Sealed
) -> ProjectSecret:
    """Of a name that is there, the next version."""
    values = {"id": id, "org_id": org_id, "project_id": project_id, "name": name, "set_by": set_by, **asdict(sealed)}
    return ProjectSecret(**await _must(conn, Q.put_secret, **values))


async def list_secrets(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[ProjectSecret]:
    return [ProjectSecret(**row) for row in await _rows(conn, Q.list_secrets, project_id=project_id, before=before, limit=limit)]


async def delete_secret(conn: Connection, project_id: UUID, name: str) -> UUID | None:
    """The id that it had."""
    row = await _row(conn, Q.delete_secret, project_id=project_id, name=name)
    return row["id"] if row else None


async def list_sealed(conn: Connection, project_id: UUID, names: Collection[str]) -> list[SealedSecret]:
    return [_sealed(row) for row in await _rows(conn, Q.list_sealed, project_id=project_id, names=list(names))]


async def touch_secrets(conn: Connection, ids: Collection[UUID]) -> None:
    """They were used now, give or take ten seconds: who reads them in a crowd does not wait for a row."""
    await conn.execute(Q.touch_secrets, {"ids": sorted(ids)})


async def list_wrapped_otherwise(conn: Connection, key_id: str, after: UUID | None, limit: int) -> list[SealedSecret]:
    """Of all projects, those that another master key wraps."""
    return [_sealed(row) for row in await _rows(conn, Q.list_wrapped_otherwise, key_id=key_id, after=after, limit=limit)]


async def rewrap_secret(conn: Connection, secret: SealedSecret) -> None:
    """Unless it was set again meanwhile."""
    wrapped = {"key_id": secret.sealed.key_id, "wrapped_key": secret.sealed.wrapped_key}
    await conn.execute(Q.rewrap_secret, {"id": secret.id, "version": secret.version, **wrapped})


async def lock_secret_keys(conn: Connection) -> None:
    """Until the end of the transaction nobody else changes the file of the master keys."""
    await conn.execute(Q.lock_secret_keys)


async def list_secret_keys(conn: Connection) -> set[str]:
    """The master keys that secrets are wrapped by."""
    return {row["key_id"] for row in await _rows(conn, Q.list_secret_keys)}


async def announce(conn: Connection, payload: str) -> None:
    """Tell every replica, at commit, to forget what it knows of ``payload``."""
    await conn.execute(Q.announce, {"payload": payload})


async def announce_seal(conn: Connection, payload: str) -> None:
    """Ask, at commit, for a checkpoint of the organisation's chain."""
    await conn.execute(Q.announce_seal, {"payload": payload})


async def lease_requests(conn: Connection, subject: str, window_s: int, limit: int, count: int) -> Row:
    """Take up to ``count`` of the window's requests: window_start, granted, used, left_s."""
    return await _must(conn, Q.lease_requests, subject=subject, window_s=window_s, limit=limit, count=count)


async def return_requests(conn: Connection, subject: str, window_start: int, count: int) -> None:
    await conn.execute(Q.return_requests, {"subject": subject, "window_start": window_start, "count": count})


async def forget_windows(conn: Connection) -> None:
    await conn.execute(Q.forget_windows)


async def create_audit_head(conn: Connection, org_id: UUID, genesis: bytes) -> None:
    await conn.execute(Q.create_audit_head, {"org_id": org_id, "genesis": genesis})


async def append_audit(conn: Connection, record: AuditRecord, before: bytes, between: bytes) -> AuditHead | None:
    """Put the record behind the head, which moves onto it; None where there is no head yet. ``before``, ``between``: ``audit.spell``."""
    return one(AuditHead, await _row(conn, Q.append_audit, **{**asdict(record), "before": before, "between": between}))


async def find_audit_head(conn: Connection, org_id: UUID) -> AuditHead | None:
    return one(AuditHead, await _row(conn, Q.find_audit_head, org_id=org_id))


async def list_audit(conn: Connection, org_id: UUID, before: int | None, limit: int) -> list[AuditRecord]:
    """Newest first."""
    return [AuditRecord(**row) for row in await _rows(conn, Q.list_audit, org_id=org_id, before=before, limit=limit)]


async def scan_audit(conn: Connection, org_id: UUID, after: int, limit: int) -> list[AuditRecord]:
    """Oldest first."""
    return [AuditRecord(**row) for row in await _rows(conn, Q.scan_audit, org_id=org_id, after=after, limit=limit)]


async def list_checkpoints(conn: Connection, org_id: UUID) -> list[AuditCheckpoint]:
    return [AuditCheckpoint(**row) for row in await _rows(conn, Q.list_checkpoints, org_id=org_id)]


async def list_unsealed(conn: Connection, org_id: UUID | None) -> list[AuditHead]:
    """Heads that no checkpoint covers."""
    return [AuditHead(**row) for row in await _rows(conn, Q.list_unsealed, org_id=org_id)]


async def create_checkpoint(conn: Connection, checkpoint: AuditCheckpoint) -> None:
    await conn.execute(Q.create_checkpoint, asdict(checkpoint))


def _account(row: Row) -> Account:
    return Account(**{**row, "kind": PrincipalKind(row["kind"])})


def _member(row: Row) -> Member:
    return Member(**{**row, "kind": PrincipalKind(row["kind"]), "role": Role(row["role"])})


def _key(row: Row) -> ApiKey:
    return ApiKey(**{**row, "grade": Grade(row["grade"])})


def _sealed(row: Row) -> SealedSecret:
    sealed = Sealed(row["key_id"], row["wrapped_key"], row["content"])
    return SealedSecret(row["id"], row["project_id"], row["name"], row["version"], sealed)


async def _rows(conn: Connection, query: Any, **values: Any) -> list[Row]:
    return await (await conn.execute(query, values)).fetchall()


async def _row(conn: Connection, query: Any, **values: Any) -> Row | None:
    return await (await conn.execute(query, values)).fetchone()


async def _must(conn: Connection, query: Any, **values: Any) -> Row:
    row = await _row(conn, query, **values)
    if row is None:
        raise LookupError("the statement returned no row")
    return row
