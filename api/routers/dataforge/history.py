"""/v1/dataforge: merges, picks, checks and protected branches."""

from __future__ import annotations

from fastapi import APIRouter

from aidos.schemas.common import Name, PageOf
from aidos.schemas.dataforge.history import (
    CheckRead,
    CheckSet,
    ConflictRead,
    DiffStatRead,
    MergeCreate,
    MergeRead,
    PickCreate,
    ProtectionRead,
    ProtectionSet,
    ResetCreate,
    Resolving,
)
from aidos.schemas.dataforge.versions import CommitRead, RefName, RefRead
from api.deps import ApiRoute, PageDep, TxDep, needs
from api.pages import key_of, page_of, stored_text
from api.routers.dataforge.versions import Limit, PathCursor, RefQuery, added_files
from data_pipelines.dataforge import service
from data_pipelines.dataforge.models import (
    CheckSpec,
    CheckState,
    FastForward,
    MergeSpec,
    PickSpec,
    ProtectionSpec,
    RefKind,
    RefSpec,
    Resolution,
    Side,
)

router = APIRouter(prefix="/v1/dataforge/datasets/{dataset}", tags=["dataforge"], route_class=ApiRoute)
READ, WRITE, PROTECT = needs("dataforge:read"), needs("dataforge:write"), needs("dataforge:protect")


def _resolution(body: Resolving) -> Resolution:
    strategy = Side(body.strategy) if body.strategy else None
    return Resolution(strategy, {path: Side(side) for path, side in body.take.items()}, added_files(body.add), tuple(body.remove))


def _pick(body: PickCreate) -> PickSpec:
    return PickSpec(body.commit, body.message, body.mainline, _resolution(body), body.expected, body.override)


@router.post("/branches/{branch}/merge", openapi_extra=WRITE)
async def merge_branch(dataset: Name, branch: Name, body: MergeCreate, tx: TxDep) -> MergeRead:
    """Merge `source` into the branch; 409 with the paths in conflict, when both sides changed them and nothing settles it."""
    forward = FastForward(body.fast_forward)
    spec = MergeSpec(body.source, body.message, _resolution(body), forward, body.expected, body.metadata, body.override)
    return MergeRead.model_validate(await service.merge(tx.conn, tx.scope, dataset, branch, spec))


@router.get("/branches/{branch}/conflicts", openapi_extra=READ)
async def list_conflicts(
    dataset: Name, branch: Name, source: RefQuery, tx: TxDep, limit: Limit = 500, cursor: PathCursor = None
) -> PageOf[ConflictRead]:
    """Paths that a merge of `source` into the branch would stop at."""
    after = key_of(cursor, stored_text)
    conflicts = await service.list_conflicts(tx.conn, tx.scope, dataset, branch, source)
    rows = [conflict for conflict in conflicts if after is None or conflict.path > after][:limit]
    return page_of(ConflictRead, rows, limit, "path")


@router.post("/branches/{branch}/revert", status_code=201, openapi_extra=WRITE)
async def revert_commit(dataset: Name, branch: Name, body: PickCreate, tx: TxDep) -> CommitRead:
    """Undo on the branch what a commit changed, by a new commit."""
    return CommitRead.model_validate(await service.revert(tx.conn, tx.scope, dataset, branch, _pick(body)))


@router.post("/branches/{branch}/cherry-pick", status_code=201, openapi_extra=WRITE)
async def cherry_pick_commit(dataset: Name, branch: Name, body: PickCreate, tx: TxDep) -> CommitRead:
    """Change on the branch what a commit changed."""
    return CommitRead.model_validate(await service.cherry_pick(tx.conn, tx.scope, dataset, branch, _pick(body)))


@router.post("/branches/{branch}/reset", openapi_extra=WRITE)
async def reset_branch(dataset: Name, branch: Name, body: ResetCreate, tx: TxDep) -> RefRead:
    """Set the branch to any commit of the dataset."""
    spec = RefSpec(RefKind.BRANCH, body.commit, body.expected, body.override)
    return RefRead.model_validate(await service.reset_branch(tx.conn, tx.scope, dataset, branch, spec))


@router.get("/diff/stat", openapi_extra=READ)
async def get_diff_stat(dataset: Name, base: RefQuery, head: RefQuery, tx: TxDep) -> DiffStatRead:
    """How much differs from `base` to `head`."""
    return DiffStatRead.model_validate(await service.get_diff_stat(tx.conn, tx.scope, dataset, base, head))


@router.get("/commits/{ref}/checks", openapi_extra=READ)
async def list_checks(dataset: Name, ref: RefName, page: PageDep, tx: TxDep) -> PageOf[CheckRead]:
    """What checks found of a commit, by name."""
    commit = await service.get_commit(tx.conn, tx.scope, dataset, ref)
    rows = await service.list_checks(tx.conn, tx.scope, commit, key_of(page.cursor, stored_text), page.limit)
    return page_of(CheckRead, rows, page.limit, "name")


@router.put("/commits/{ref}/checks/{check}", openapi_extra=WRITE)
async def set_check(dataset: Name, ref: RefName, check: Name, body: CheckSet, tx: TxDep) -> CheckRead:
    """Say what a check found of a commit; the last word counts."""
    commit = await service.get_commit(tx.conn, tx.scope, dataset, ref)
    spec = CheckSpec(CheckState(body.state), body.summary, body.url)
    return CheckRead.model_validate(await service.set_check(tx.conn, tx.scope, commit, check, spec))


@router.get("/protections", openapi_extra=READ)
async def list_protections(dataset: Name, page: PageDep, tx: TxDep) -> PageOf[ProtectionRead]:
    """Protected branches and what they ask for."""
    rows = await service.list_protections(tx.conn, tx.scope, dataset, key_of(page.cursor, stored_text), page.limit)
    return page_of(ProtectionRead, rows, page.limit, "branch")


@router.put("/protections/{branch}", openapi_extra=PROTECT)
async def set_protection(dataset: Name, branch: Name, body: ProtectionSet, tx: TxDep) -> ProtectionRead:
    """Protect a branch, which need not be there yet, or change its rules."""
    spec = ProtectionSpec(tuple(body.required_checks), body.require_pull_request, body.required_approvals)
    return ProtectionRead.model_validate(await service.set_protection(tx.conn, tx.scope, dataset, branch, spec))


@router.delete("/protections/{branch}", status_code=204, openapi_extra=PROTECT)
async def delete_protection(dataset: Name, branch: Name, tx: TxDep) -> None:
    """Take the protection off a branch."""
    await service.delete_protection(tx.conn, tx.scope, dataset, branch)
