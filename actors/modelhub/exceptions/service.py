"""The verbs of exceptions. Each is signed with the platform's key and verified whenever it is used: a row that somebody wrote or changed in the
database excepts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.exceptions import store
from actors.modelhub.exceptions.errors import ExceptionNotFound, NothingToExcept
from actors.modelhub.exceptions.models import ExceptionSpec, ExceptionState, SignedException, uncovered
from actors.modelhub.models import Finding, ModelVersion
from actors.securityvault import service as securityvault
from actors.securityvault.models import AuditEntry, Scope
from cluster.db import Connection, new_id
from cluster.events import Event, publish
from cluster.settings import Settings


async def sign_exception(
    conn: Connection, scope: Scope, settings: Settings, model: str, version: str, spec: ExceptionSpec
) -> SignedException:
    """Answer for what the scan of a version found, for a time. Raises: VersionNotFound, VersionNotReady, NothingToExcept, VaultLocked."""
    found = await service.get_kept_version(conn, scope, model, version)
    if not any(each.kind == spec.finding and spec.path in ("", each.path) for each in found.findings):
        where = f" in '{spec.path}'" if spec.path else ""
        listed = ", ".join(sorted({f"{each.kind} in {each.path}" for each in found.findings})[:10]) or "nothing"
        raise NothingToExcept(reference=found.reference, finding=spec.finding, where=where, found=listed)
    now = datetime.now(UTC)
    said: dict[str, Any] = {"finding": spec.finding, "path": spec.path, "reason": spec.reason, "author": scope.principal.name}
    said |= {"author_id": scope.principal.person_id, "created_at": now, "expires_at": now + spec.lasts}
    exception = SignedException(id=new_id(), version_id=found.id, **said, kid="", signature=b"")
    kid, signature = securityvault.read_signing_keys(settings, securityvault.AUDIT_KEYS).sign(_statement(exception, found))
    exception = replace(exception, kid=kid, signature=signature)
    await store.insert_exception(conn, scope.project, exception)
    data = {"finding": spec.finding, "path": spec.path, "reason": spec.reason, "expires_at": exception.expires_at.isoformat()}
    await _announce(conn, scope, "exception.signed", found, exception=str(exception.id), signature=signature.hex(), **data)
    return exception


async def revoke_exception(conn: Connection, scope: Scope, model: str, version: str, id: UUID) -> None:
    """From now on it excepts nothing; what serves already goes on. Raises: VersionNotFound, ExceptionNotFound."""
    found = await service.get_version(conn, scope, model, version)
    finding = await store.revoke_exception(conn, scope.project, found.id, id, scope.principal.name)
    if finding is None:
        raise ExceptionNotFound(reference=found.reference, id=str(id))
    await _announce(conn, scope, "exception.revoked", found, exception=str(id), finding=finding)


async def list_exceptions(
    conn: Connection, scope: Scope, settings: Settings, model: str, version: str, before: UUID | None, limit: int
) -> list[SignedException]:
    """Newest first, each with whether it holds now. Raises: VersionNotFound, VaultLocked."""
    found = await service.get_version(conn, scope, model, version)
    return _judge(settings, found, await store.list_exceptions(conn, scope.project, found.id, before, limit))


async def list_uncovered(conn: Connection, scope: Scope, settings: Settings, version: ModelVersion) -> list[Finding]:
    """What the scan found and nobody answers for now. Raises: VaultLocked."""
    exceptions = await store.list_exceptions(conn, scope.project, version.id)
    return uncovered(version.findings, _judge(settings, version, exceptions))


def _judge(settings: Settings, version: ModelVersion, exceptions: Sequence[SignedException]) -> list[SignedException]:
    if not exceptions:
        return []
    keys, now = securityvault.read_signing_keys(settings, securityvault.AUDIT_KEYS), datetime.now(UTC)

    def state(exception: SignedException) -> ExceptionState:
        if exception.revoked_at is not None:
            return ExceptionState.REVOKED
        if not keys.verify(exception.kid, exception.signature, _statement(exception, version)):
            return ExceptionState.INVALID
        return ExceptionState.ACTIVE if exception.expires_at > now else ExceptionState.EXPIRED

    return [replace(exception, state=state(exception)) for exception in exceptions]


def _statement(exception: SignedException, version: ModelVersion) -> bytes:
    return securityvault.canonical(exception.statement({file.path: file.sha256 for file in version.files}))


async def _announce(conn: Connection, scope: Scope, what: str, version: ModelVersion, **data: Any) -> None:
    """An event, and a record with the reason in the audit log."""
    data = {"model": version.model, "version": version.version, **data}
    await publish(conn, Event(f"modelhub.{what}", str(version.id), scope.org_id, scope.project, scope.actor, data))
    await securityvault.write_audit(conn, scope, AuditEntry(f"modelhub.{what}", version.reference, data=data))
