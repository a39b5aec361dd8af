"""Who may let a version serve: reviews, checks, protected aliases and their moves, deprecation.

Whoever moves an alias, or changes what one asks for, holds the lock of the model; whoever speaks of a version, that of the version. An alias
is moved under both, so that what was checked is what it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.errors import AliasNotFound, ModelNotFound, VersionNotFound
from actors.modelhub.governance import policy, store
from actors.modelhub.governance.errors import (
    AliasMoved,
    AliasProtected,
    ApprovalNotYours,
    NoPreviousVersion,
    ProtectionKept,
    ProtectionNotFound,
    ReplacementInvalid,
    VersionDeprecated,
)
from actors.modelhub.governance.models import (
    AliasMove,
    Check,
    CheckSpec,
    Protection,
    ProtectionSpec,
    Review,
    Standing,
    Verdict,
)
from actors.modelhub.models import Model, ModelVersion
from actors.securityvault import service as securityvault
from actors.securityvault.models import AuditEntry, Scope
from cluster.db import Connection
from cluster.events import Event, publish

_TOLD = {Verdict.REQUEST: "requested", Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}


async def move_alias(
    conn: Connection, scope: Scope, model: str, alias: str, version: str, *, expected_version: int | None = None
) -> ModelVersion:
    """Point the alias at a version, in one step. ``expected_version``: the one that it must name now; 0: none.

    Raises: ModelNotFound, VersionNotFound, VersionNotReady, AliasMoved, AliasProtected.
    """
    model_id = await _lock_model(conn, scope, model)
    found = await service.lock_version(conn, scope, await service.get_kept_version(conn, scope, model, version))
    before = await store.find_alias(conn, scope.project, model_id, alias)
    if expected_version is not None and expected_version != (before or 0):
        raise AliasMoved(model=model, alias=alias, expected=expected_version, actual=before or 0)
    await refuse_unfit(conn, scope, found, alias)
    if before != found.version:
        await store.move_alias(conn, scope.project, model_id, alias, found.id)
        await _record_move(conn, scope, model_id, alias, before, found.version)
        await _publish(conn, scope, "alias.moved", found.id, model=model, alias=alias, moved_from=before, moved_to=found.version)
    return await service.get_version(conn, scope, model, str(found.version))


async def roll_back_alias(conn: Connection, scope: Scope, model: str, alias: str) -> ModelVersion:
    """Point the alias at the version that it named before its last move; a second time brings the later one back.

    Raises: ModelNotFound, NoPreviousVersion; what ``move_alias`` raises.
    """
    model_id = await _lock_model(conn, scope, model)
    last = await store.list_moves(conn, scope.project, model_id, alias, None, 1)
    if not last or last[0].moved_from is None:
        raise NoPreviousVersion(model=model, alias=alias)
    return await move_alias(conn, scope, model, alias, str(last[0].moved_from))


async def delete_alias(conn: Connection, scope: Scope, model: str, alias: str) -> None:
    """Raises: ModelNotFound, AliasNotFound, ProtectionKept."""
    model_id = await _lock_model(conn, scope, model)
    before = await store.find_alias(conn, scope.project, model_id, alias)
    if before is None:
        raise AliasNotFound(model=model, alias=alias)
    if alias in [protection.alias for protection in await store.list_protections(conn, scope.project, model_id)]:
        raise ProtectionKept(model=model, alias=alias)
    await store.delete_alias(conn, scope.project, model_id, alias)
    await _record_move(conn, scope, model_id, alias, before, None)
    await _publish(conn, scope, "alias.deleted", model_id, model=model, alias=alias)


async def list_moves(conn: Connection, scope: Scope, model: str, alias: str, before: UUID | None, limit: int) -> list[AliasMove]:
    """Newest first. Raises: ModelNotFound."""
    found = await service.get_model(conn, scope, model)
    return await store.list_moves(conn, scope.project, found.id, alias, before, limit)


async def _record_move(conn: Connection, scope: Scope, model_id: UUID, alias: str, before: int | None, version: int | None) -> None:
    move = {"alias": alias, "moved_from": before, "version": version, "moved_by": scope.principal.name}
    await store.insert_move(conn, scope.project, model_id, move)


async def delete_model(conn: Connection, scope: Scope, name: str) -> None:
    """With its versions and aliases; the name is free again. Raises: ModelNotFound, ProtectionKept."""
    await refuse_protected(conn, scope, name)
    await service.delete_model(conn, scope, name)


async def refuse_protected(conn: Connection, scope: Scope, model: str) -> None:
    """Keep the name of a model with protected aliases: another of that name would ask for nothing. Raises: ModelNotFound, ProtectionKept."""
    model_id = await _lock_model(conn, scope, model)
    if kept := await store.list_protections(conn, scope.project, model_id, None, 1):
        raise ProtectionKept(model=model, alias=kept[0].alias)


async def refuse_unfit(conn: Connection, scope: Scope, version: ModelVersion, alias: str) -> None:
    """Raises: AliasProtected unless the version has all that the alias asks for."""
    protections = await store.list_protections(conn, scope.project, version.model_id)
    for protection in (each for each in protections if each.alias == alias):
        facts = await store.find_facts(conn, scope.project, version.id)
        if missing := policy.obstacles(protection, facts):
            raise AliasProtected(
                alias=alias, model=version.model, reference=version.reference, reason="; ".join(missing), missing=list(missing)
            )


async def set_protection(conn: Connection, scope: Scope, model: str, alias: str, spec: ProtectionSpec) -> Protection:
    """Protect an alias, which need not be there yet; what it names stays. Raises: ModelNotFound."""
    model_id = await _lock_model(conn, scope, model)
    protection = await store.set_protection(conn, scope.project, model_id, alias, spec)
    await _publish(conn, scope, "alias.protected", model_id, model=model, alias=alias)
    return protection


async def list_protections(conn: Connection, scope: Scope, model: str, after: str | None, limit: int) -> list[Protection]:
    """By alias. Raises: ModelNotFound."""
    found = await service.get_model(conn, scope, model)
    return await store.list_protections(conn, scope.project, found.id, after, limit)


async def delete_protection(conn: Connection, scope: Scope, model: str, alias: str) -> None:
    """Raises: ModelNotFound, ProtectionNotFound."""
    model_id = await _lock_model(conn, scope, model)
    if not await store.delete_protection(conn, scope.project, model_id, alias):
        raise ProtectionNotFound(model=model, alias=alias)
    await _publish(conn, scope, "alias.unprotected", model_id, model=model, alias=alias)


async def set_review_rules(conn: Connection, scope: Scope, model: str, *, self_approval: bool) -> Model:
    """Whether who registered a version may approve it. Raises: ModelNotFound."""
    model_id = await _lock_model(conn, scope, model)
    await store.set_review_rules(conn, scope.project, model_id, self_approval=self_approval)
    await _publish(conn, scope, "model.review_rules_set", model_id, model=model, self_approval=self_approval)
    return await service.get_model(conn, scope, model)


async def add_review(conn: Connection, scope: Scope, model: str, version: str, verdict: Verdict, reason: str) -> Review:
    """Ask for approval, approve or reject, with the reason. Raises: VersionNotFound, VersionNotReady, ApprovalNotYours."""
    found = await _lock_version(conn, scope, model, version)
    if verdict is Verdict.APPROVE:
        facts = await store.find_facts(conn, scope.project, found.id)
        if facts.author_id == scope.principal.person_id and not facts.self_approval:
            raise ApprovalNotYours(reference=found.reference, model=model)
    said = {"verdict": verdict, "reason": reason, "author": scope.principal.name, "author_id": scope.principal.person_id}
    review = await store.insert_review(conn, scope.project, found.id, said)
    await _announce(conn, scope, f"review.{_TOLD[verdict]}", found, reason=reason)
    return review


async def list_reviews(conn: Connection, scope: Scope, model: str, version: str, after: UUID | None, limit: int) -> list[Review]:
    """In the order in which they were given. Raises: VersionNotFound."""
    found = await service.get_version(conn, scope, model, version)
    return await store.list_reviews(conn, scope.project, found.id, after, limit)


async def set_check(conn: Connection, scope: Scope, model: str, version: str, name: str, spec: CheckSpec) -> Check:
    """Say what a check found of a version; the last word counts. Raises: VersionNotFound, VersionNotReady, RunNotFound."""
    found = await _lock_version(conn, scope, model, version)
    if spec.run_id is not None:
        await service.get_run(conn, scope, spec.run_id)
    check = await store.set_check(conn, scope.project, found.id, name, spec, scope.principal.name)
    await _publish(conn, scope, "check.reported", found.id, model=model, version=found.version, check=name, state=spec.state.value)
    return check


async def list_checks(conn: Connection, scope: Scope, model: str, version: str, after: str | None, limit: int) -> list[Check]:
    """By name. Raises: VersionNotFound."""
    found = await service.get_version(conn, scope, model, version)
    return await store.list_checks(conn, scope.project, found.id, after, limit)


async def get_standing(conn: Connection, scope: Scope, model: str, version: str) -> Standing:
    """What was said of a version, and what it lacks for each protected alias. Raises: VersionNotFound."""
    found = await service.get_version(conn, scope, model, version)
    facts = await store.find_facts(conn, scope.project, found.id)
    protections = await store.list_protections(conn, scope.project, found.model_id)
    lacking = {protection.alias: policy.obstacles(protection, facts) for protection in protections}
    return Standing(policy.approval(facts), policy.approvals(facts), facts.reviews, facts.checks, lacking)


async def deprecate_version(
    conn: Connection, scope: Scope, model: str, version: str, reason: str, replacement: int | None = None
) -> ModelVersion:
    """From now on no endpoint takes it up; those that serve it go on. Raises: VersionNotFound, VersionNotReady, ReplacementInvalid."""
    found = await _lock_version(conn, scope, model, version)
    if replacement is not None:
        await _check_replacement(conn, scope, found, replacement)
    stored: Mapping[str, Any] = {
        "reason": reason,
        "replacement": replacement,
        "author": scope.principal.name,
        "at": datetime.now(UTC).isoformat(),
    }
    await store.set_deprecation(conn, scope.project, found.id, stored)
    await _announce(conn, scope, "version.deprecated", found, reason=reason, replacement=replacement)
    return await service.get_version(conn, scope, model, str(found.version))


async def restore_version(conn: Connection, scope: Scope, model: str, version: str) -> ModelVersion:
    """Take its deprecation back. Raises: VersionNotFound, VersionNotReady."""
    found = await _lock_version(conn, scope, model, version)
    if found.deprecation is not None:
        await store.set_deprecation(conn, scope.project, found.id, None)
        await _announce(conn, scope, "version.restored", found)
    return await service.get_version(conn, scope, model, str(found.version))


def warning(version: ModelVersion) -> str | None:
    """What whoever takes the version should know."""
    if version.deprecation is None:
        return None
    instead = f" Use {version.model}@{version.deprecation.replacement}." if version.deprecation.replacement else ""
    return f"{version.reference} is deprecated: {version.deprecation.reason.rstrip('.')}.{instead}"


def refuse_deprecated(version: ModelVersion) -> None:
    """Raises: VersionDeprecated."""
    if told := warning(version):
        raise VersionDeprecated(reference=version.reference, model=version.model, version=version.version, told=told)


async def _check_replacement(conn: Connection, scope: Scope, version: ModelVersion, replacement: int) -> None:
    try:
        other = await service.get_version(conn, scope, version.model, str(replacement))
    except VersionNotFound:
        raise ReplacementInvalid(reference=version.reference, replacement=replacement, reason="the model has no such version") from None
    if other.version == version.version or other.deprecation:
        reason = "it is the same" if other.version == version.version else "it is deprecated too"
        raise ReplacementInvalid(reference=version.reference, replacement=replacement, reason=reason)


async def _lock_model(conn: Connection, scope: Scope, name: str) -> UUID:
    if found := await store.lock_model(conn, scope.project, name):
        return found
    raise ModelNotFound(name=name)


async def _lock_version(conn: Connection, scope: Scope, model: str, version: str) -> ModelVersion:
    """One that was inspected and kept, as it stands under its lock."""
    found = await service.lock_version(conn, scope, await service.get_kept_version(conn, scope, model, version))
    return await service.get_version(conn, scope, model, str(found.version))


async def _announce(conn: Connection, scope: Scope, what: str, version: ModelVersion, **data: Any) -> None:
    """An event, and a record with the reason in the audit log."""
    data = {"model": version.model, "version": version.version, **data}
    await _publish(conn, scope, what, version.id, **data)
    await securityvault.write_audit(conn, scope, AuditEntry(f"modelhub.{what}", version.reference, data=data))


async def _publish(conn: Connection, scope: Scope, what: str, subject: UUID, **data: Any) -> None:
    await publish(conn, Event(f"modelhub.{what}", str(subject), scope.org_id, scope.project, scope.actor, data))
