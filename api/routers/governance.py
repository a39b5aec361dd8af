"""/v1/modelhub/models: reviews, checks, protected aliases and their moves, exceptions for unsafe files, deprecation."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from actors.modelhub.exceptions import service as exceptions
from actors.modelhub.exceptions.models import ExceptionSpec
from actors.modelhub.governance import service
from actors.modelhub.governance.models import CheckSpec, CheckState, ProtectionSpec, Threshold, Verdict
from aidos.schemas import governance as wire
from aidos.schemas.common import Name, PageOf
from aidos.schemas.modelhub import AliasMove, AliasName, ModelRead, VersionName, VersionRead
from api.deps import ApiRoute, EdgeDep, PageDep, TxDep, needs
from api.pages import id_of, key_of, page_of, stored_text

router = APIRouter(prefix="/v1/modelhub/models/{model}", tags=["modelhub"], route_class=ApiRoute)
READ, WRITE, MANAGE, PROTECT = (needs(f"modelhub:{action}") for action in ("read", "write", "manage", "protect"))
CheckName = Annotated[Name, Path(description="Name of the check.")]


@router.put("/aliases/{alias}", openapi_extra=MANAGE)
async def move_model_alias(model: Name, alias: AliasName, body: AliasMove, tx: TxDep) -> VersionRead:
    """Point the alias at a version, in one step; 409 with what is missing, where the alias is protected."""
    moved = await service.move_alias(tx.conn, tx.scope, model, alias, body.version, expected_version=body.expected_version)
    return VersionRead.model_validate(moved)


@router.delete("/aliases/{alias}", status_code=204, openapi_extra=MANAGE)
async def delete_model_alias(model: Name, alias: AliasName, tx: TxDep) -> None:
    await service.delete_alias(tx.conn, tx.scope, model, alias)


@router.post("/aliases/{alias}/rollback", openapi_extra=MANAGE)
async def roll_back_model_alias(model: Name, alias: AliasName, tx: TxDep) -> VersionRead:
    """Point the alias at the version that it named before its last move; a second time brings the later one back."""
    return VersionRead.model_validate(await service.roll_back_alias(tx.conn, tx.scope, model, alias))


@router.get("/aliases/{alias}/moves", openapi_extra=READ)
async def list_model_alias_moves(model: Name, alias: AliasName, page: PageDep, tx: TxDep) -> PageOf[wire.AliasMoveRead]:
    """Who moved the alias when, from what to what; newest first."""
    rows = await service.list_moves(tx.conn, tx.scope, model, alias, id_of(page.cursor), page.limit)
    return page_of(wire.AliasMoveRead, rows, page.limit, "id")


@router.put("/protections/{alias}", openapi_extra=PROTECT)
async def protect_model_alias(model: Name, alias: AliasName, body: wire.AliasProtectionSet, tx: TxDep) -> wire.AliasProtectionRead:
    """What the alias asks of a version before it names it."""
    thresholds = tuple(Threshold.parse(text) for text in body.thresholds)
    spec = ProtectionSpec(body.required_approvals, tuple(dict.fromkeys(body.required_checks)), thresholds)
    return wire.AliasProtectionRead.model_validate(await service.set_protection(tx.conn, tx.scope, model, alias, spec))


@router.get("/protections", openapi_extra=READ)
async def list_model_protections(model: Name, page: PageDep, tx: TxDep) -> PageOf[wire.AliasProtectionRead]:
    rows = await service.list_protections(tx.conn, tx.scope, model, key_of(page.cursor, stored_text), page.limit)
    return page_of(wire.AliasProtectionRead, rows, page.limit, "alias")


@router.delete("/protections/{alias}", status_code=204, openapi_extra=PROTECT)
async def unprotect_model_alias(model: Name, alias: AliasName, tx: TxDep) -> None:
    await service.delete_protection(tx.conn, tx.scope, model, alias)


@router.put("/review-rules", openapi_extra=PROTECT)
async def set_model_review_rules(model: Name, body: wire.ReviewRules, tx: TxDep) -> ModelRead:
    return ModelRead.model_validate(await service.set_review_rules(tx.conn, tx.scope, model, self_approval=body.self_approval))


@router.post("/versions/{version}/reviews/request", status_code=201, openapi_extra=WRITE)
async def request_model_review(model: Name, version: VersionName, body: wire.ReviewRequest, tx: TxDep) -> wire.VersionReviewRead:
    """Ask for approval; what was said before counts no more."""
    review = await service.add_review(tx.conn, tx.scope, model, version, Verdict.REQUEST, body.reason)
    return wire.VersionReviewRead.model_validate(review)


@router.post("/versions/{version}/reviews", status_code=201, openapi_extra=MANAGE)
async def review_model_version(model: Name, version: VersionName, body: wire.VersionReviewCreate, tx: TxDep) -> wire.VersionReviewRead:
    """Approve or reject a version; who registered it does not approve it, unless the model's rules say so."""
    review = await service.add_review(tx.conn, tx.scope, model, version, Verdict(body.verdict), body.reason)
    return wire.VersionReviewRead.model_validate(review)


@router.get("/versions/{version}/reviews", openapi_extra=READ)
async def list_model_reviews(model: Name, version: VersionName, page: PageDep, tx: TxDep) -> PageOf[wire.VersionReviewRead]:
    """In the order in which they were given."""
    rows = await service.list_reviews(tx.conn, tx.scope, model, version, id_of(page.cursor), page.limit)
    return page_of(wire.VersionReviewRead, rows, page.limit, "id")


@router.put("/versions/{version}/checks/{check}", openapi_extra=WRITE)
async def set_model_check(
    model: Name, version: VersionName, check: CheckName, body: wire.VersionCheckSet, tx: TxDep
) -> wire.VersionCheckRead:
    """Say what a check found of a version; the last word counts."""
    spec = CheckSpec(CheckState(body.state), body.summary, body.url, body.metrics, body.run_id)
    return wire.VersionCheckRead.model_validate(await service.set_check(tx.conn, tx.scope, model, version, check, spec))


@router.get("/versions/{version}/checks", openapi_extra=READ)
async def list_model_checks(model: Name, version: VersionName, page: PageDep, tx: TxDep) -> PageOf[wire.VersionCheckRead]:
    rows = await service.list_checks(tx.conn, tx.scope, model, version, key_of(page.cursor, stored_text), page.limit)
    return page_of(wire.VersionCheckRead, rows, page.limit, "name")


@router.get("/versions/{version}/status", openapi_extra=READ)
async def get_model_version_status(model: Name, version: VersionName, tx: TxDep) -> wire.VersionStandingRead:
    """Its reviews and checks, and what it lacks for each protected alias."""
    return wire.VersionStandingRead.model_validate(await service.get_standing(tx.conn, tx.scope, model, version))


@router.post("/versions/{version}/exceptions", status_code=201, openapi_extra=PROTECT)
async def sign_model_exception(model: Name, version: VersionName, body: wire.ExceptionSign, tx: TxDep, edge: EdgeDep) -> wire.ExceptionRead:
    """Answer for something that the scan found, so that the version is served in spite of it."""
    spec = ExceptionSpec(body.finding, body.path, body.reason, timedelta(seconds=body.expires_in_s))
    signed = await exceptions.sign_exception(tx.conn, tx.scope, edge.db.settings, model, version, spec)
    return wire.ExceptionRead.model_validate(signed)


@router.get("/versions/{version}/exceptions", openapi_extra=READ)
async def list_model_exceptions(model: Name, version: VersionName, page: PageDep, tx: TxDep, edge: EdgeDep) -> PageOf[wire.ExceptionRead]:
    """Newest first, each with whether it holds now."""
    settings, before = edge.db.settings, id_of(page.cursor)
    rows = await exceptions.list_exceptions(tx.conn, tx.scope, settings, model, version, before, page.limit)
    return page_of(wire.ExceptionRead, rows, page.limit, "id")


@router.delete("/versions/{version}/exceptions/{exception_id}", status_code=204, openapi_extra=PROTECT)
async def revoke_model_exception(model: Name, version: VersionName, exception_id: UUID, tx: TxDep) -> None:
    """From now on the version is not deployed; what serves it already goes on."""
    await exceptions.revoke_exception(tx.conn, tx.scope, model, version, exception_id)


@router.put("/versions/{version}/deprecation", openapi_extra=MANAGE)
async def deprecate_model_version(model: Name, version: VersionName, body: wire.DeprecationSet, tx: TxDep) -> VersionRead:
    """From now on no endpoint takes the version up; those that serve it go on."""
    changed = await service.deprecate_version(tx.conn, tx.scope, model, version, body.reason, body.replacement)
    return VersionRead.model_validate(changed)


@router.delete("/versions/{version}/deprecation", openapi_extra=MANAGE)
async def restore_model_version(model: Name, version: VersionName, tx: TxDep) -> VersionRead:
    """Take the deprecation back."""
    return VersionRead.model_validate(await service.restore_version(tx.conn, tx.scope, model, version))
