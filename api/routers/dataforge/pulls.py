"""/v1/dataforge: pull requests."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from aidos.schemas.common import Name, PageOf
from aidos.schemas.dataforge import pulls as wire
from aidos.schemas.dataforge.versions import ChangeRead
from api.deps import ApiRoute, PageDep, TxDep, needs
from api.pages import id_of, key_of, page_of, stored_text, whole_below
from api.routers.dataforge.versions import Limit, PathCursor
from data_pipelines.dataforge.pulls import service
from data_pipelines.dataforge.pulls.models import (
    MergeRequest,
    PullRequestChange,
    PullRequestSpec,
    PullRequestState,
    ReviewSpec,
    Verdict,
)

router = APIRouter(prefix="/v1/dataforge/datasets/{dataset}/pull-requests", tags=["dataforge"], route_class=ApiRoute)
READ, WRITE = needs("dataforge:read"), needs("dataforge:write")
Number = Annotated[int, Path(ge=1, lt=2**31, description="The pull request's number in its dataset.")]
State = Annotated[wire.PullRequestState | None, Query(description="Only those in this state.")]


@router.post("", status_code=201, openapi_extra=WRITE)
async def create_pull_request(dataset: Name, body: wire.PullRequestCreate, tx: TxDep) -> wire.PullRequestRead:
    """Ask for the branch `source` to be merged into `target`."""
    spec = PullRequestSpec(body.source, body.target, body.title, body.description)
    return wire.PullRequestRead.model_validate(await service.create_pull_request(tx.conn, tx.scope, dataset, spec))


@router.get("", openapi_extra=READ)
async def list_pull_requests(dataset: Name, page: PageDep, tx: TxDep, state: State = None) -> PageOf[wire.PullRequestRead]:
    """Newest first."""
    asked, before = PullRequestState(state) if state else None, key_of(page.cursor, whole_below(2**31))
    rows = await service.list_pull_requests(tx.conn, tx.scope, dataset, asked, before, page.limit)
    return page_of(wire.PullRequestRead, rows, page.limit, "number")


@router.get("/{number}", openapi_extra=READ)
async def get_pull_request(dataset: Name, number: Number, tx: TxDep) -> wire.PullRequestRead:
    return wire.PullRequestRead.model_validate(await service.get_pull_request(tx.conn, tx.scope, dataset, number))


@router.patch("/{number}", openapi_extra=WRITE)
async def update_pull_request(dataset: Name, number: Number, body: wire.PullRequestUpdate, tx: TxDep) -> wire.PullRequestRead:
    """Change title or description, close it, or open a closed one again."""
    change = PullRequestChange(body.title, body.description, PullRequestState(body.state) if body.state else None)
    return wire.PullRequestRead.model_validate(await service.change_pull_request(tx.conn, tx.scope, dataset, number, change))


@router.get("/{number}/status", openapi_extra=READ)
async def get_pull_request_status(dataset: Name, number: Number, tx: TxDep) -> wire.StandingRead:
    """What the pull request brings, its checks and approvals, and what keeps it from being merged."""
    return wire.StandingRead.model_validate(await service.get_standing(tx.conn, tx.scope, dataset, number))


@router.get("/{number}/diff", openapi_extra=READ)
async def list_pull_request_changes(
    dataset: Name, number: Number, tx: TxDep, limit: Limit = 500, cursor: PathCursor = None
) -> PageOf[ChangeRead]:
    """The files that the pull request changes, by path."""
    after = key_of(cursor, stored_text)
    changes = await service.list_changes(tx.conn, tx.scope, dataset, number)
    rows = [change for change in changes if after is None or change.path > after][:limit]
    return page_of(ChangeRead, rows, limit, "path")


@router.post("/{number}/merge", openapi_extra=WRITE)
async def merge_pull_request(dataset: Name, number: Number, body: wire.PullRequestMerge, tx: TxDep) -> wire.PullRequestRead:
    """Merge it by a commit; 409 with the reasons, when something stands against it."""
    spec = MergeRequest(body.message, body.head, body.override)
    return wire.PullRequestRead.model_validate(await service.merge_pull_request(tx.conn, tx.scope, dataset, number, spec))


@router.post("/{number}/reviews", status_code=201, openapi_extra=WRITE)
async def create_review(dataset: Name, number: Number, body: wire.ReviewCreate, tx: TxDep) -> wire.ReviewRead:
    """Approve, ask for changes, or comment, of the head as it is now."""
    spec = ReviewSpec(Verdict(body.verdict), body.body, body.path)
    return wire.ReviewRead.model_validate(await service.add_review(tx.conn, tx.scope, dataset, number, spec))


@router.get("/{number}/reviews", openapi_extra=READ)
async def list_reviews(dataset: Name, number: Number, page: PageDep, tx: TxDep) -> PageOf[wire.ReviewRead]:
    """In the order in which they were given."""
    rows = await service.list_reviews(tx.conn, tx.scope, dataset, number, id_of(page.cursor), page.limit)
    return page_of(wire.ReviewRead, rows, page.limit, "id")
