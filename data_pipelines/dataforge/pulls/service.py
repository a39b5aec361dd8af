"""The verbs of pull requests on data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from actors.securityvault.models import PrincipalKind, Scope
from cluster.db import Connection, new_id
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.errors import BranchNeeded, HistoriesUnrelated, RefNotFound
from data_pipelines.dataforge.models import Change, Commit, Dataset, DiffStat, FastForward, MergeSpec
from data_pipelines.dataforge.pulls import policy, store
from data_pipelines.dataforge.pulls.errors import (
    HeadChanged,
    NothingToPull,
    PullRequestBlocked,
    PullRequestEnded,
    PullRequestExists,
    PullRequestNotFound,
    ReviewNotYours,
    SameBranch,
)
from data_pipelines.dataforge.pulls.models import (
    MergeRequest,
    PullRequest,
    PullRequestChange,
    PullRequestSpec,
    PullRequestState,
    Review,
    ReviewSpec,
    Standing,
    Verdict,
)

_NOTHING = Standing(None, None, True, 0, DiffStat(0, 0, 0, 0, 0), (), (), ())
_TOLD = {PullRequestState.OPEN: "reopened", PullRequestState.MERGED: "merged", PullRequestState.CLOSED: "closed"}


async def create_pull_request(conn: Connection, scope: Scope, dataset: str, spec: PullRequestSpec) -> PullRequest:
    """Ask for a branch to be merged into another.

    Raises: DatasetNotFound, SameBranch, RefNotFound, BranchNeeded, HistoriesUnrelated, NothingToPull, PullRequestExists.
    """
    found = await dataforge.get_dataset(conn, scope, dataset)
    if spec.source == spec.target:
        raise SameBranch(branch=spec.source)
    head, _, base = await _sides(conn, scope, found, spec.source, spec.target)
    if base.id == head.id:
        raise NothingToPull(dataset=dataset, source=spec.source, target=spec.target)
    values = {**vars(spec), "id": new_id(), "dataset_id": found.id, "author": scope.principal.name, "author_id": _person(scope)}
    exists = PullRequestExists(dataset=dataset, source=spec.source, target=spec.target)
    made = await store.create_pull_request(conn, scope.project, values, exists)
    await _publish(conn, scope, dataset, made, "opened")
    return made


async def get_pull_request(conn: Connection, scope: Scope, dataset: str, number: int) -> PullRequest:
    """Raises: DatasetNotFound, PullRequestNotFound."""
    return (await _find(conn, scope, dataset, number))[1]


async def list_pull_requests(
    conn: Connection, scope: Scope, dataset: str, state: PullRequestState | None = None, before: int | None = None, limit: int = 50
) -> list[PullRequest]:
    """Newest first. Raises: DatasetNotFound."""
    found = await dataforge.get_dataset(conn, scope, dataset)
    return await store.list_pull_requests(conn, scope.project, found.id, state, before, limit)


async def get_standing(conn: Connection, scope: Scope, dataset: str, number: int) -> Standing:
    """What a pull request brings and what keeps it from being merged. Raises: DatasetNotFound, PullRequestNotFound."""
    found, pull = await _find(conn, scope, dataset, number)
    return await _stand(conn, scope, found, pull)


async def list_changes(conn: Connection, scope: Scope, dataset: str, number: int) -> list[Change]:
    """The files that a pull request changes, by path. Raises: DatasetNotFound, PullRequestNotFound, RefNotFound."""
    found, pull = await _find(conn, scope, dataset, number)
    head_id, base_id = pull.head_id, pull.base_id
    if head_id is None or base_id is None:
        head, _, base = await _sides(conn, scope, found, pull.source, pull.target)
        head_id, base_id = head.id, base.id
    return await dataforge.compare_commits(conn, scope, dataset, str(base_id), str(head_id))


async def change_pull_request(conn: Connection, scope: Scope, dataset: str, number: int, change: PullRequestChange) -> PullRequest:
    """Change title or description, close it, or open a closed one again.

    Raises: DatasetNotFound, PullRequestNotFound, PullRequestEnded, PullRequestExists.
    """
    found, pull = await _find(conn, scope, dataset, number)
    if change.state is not None and change.state is not pull.state:
        if pull.state is PullRequestState.MERGED:
            raise _ended(dataset, pull)
        pull = await _close_or_open(conn, scope, found, pull, change.state)
    return await store.change_pull_request(conn, scope.project, pull.id, change)


async def add_review(conn: Connection, scope: Scope, dataset: str, number: int, spec: ReviewSpec) -> Review:
    """Approve, ask for changes or comment, of the head as it is now.

    Raises: DatasetNotFound, PullRequestNotFound, PullRequestEnded, RefNotFound, ReviewNotYours.
    """
    found, pull = await _find(conn, scope, dataset, number)
    if pull.state is not PullRequestState.OPEN:
        raise _ended(dataset, pull)
    person = _person(scope)
    if spec.verdict is Verdict.APPROVE and (person == pull.author_id or scope.principal.kind is PrincipalKind.JOB):
        raise ReviewNotYours()
    head = await dataforge.get_head(conn, scope, found, pull.source)
    author = {"author": scope.principal.name, "author_id": person}
    row = {**vars(spec), **author, "id": new_id(), "pull_request_id": pull.id, "commit_id": head.id}
    review = await store.insert_review(conn, scope.project, row)
    await _publish(conn, scope, dataset, pull, "reviewed", verdict=spec.verdict.value)
    return review


async def list_reviews(
    conn: Connection, scope: Scope, dataset: str, number: int, after: UUID | None = None, limit: int = 50
) -> list[Review]:
    """In the order in which they were given. Raises: DatasetNotFound, PullRequestNotFound."""
    _, pull = await _find(conn, scope, dataset, number)
    return await store.list_reviews(conn, scope.project, pull.id, after, limit)


async def merge_pull_request(conn: Connection, scope: Scope, dataset: str, number: int, spec: MergeRequest) -> PullRequest:
    """Merge the source's head into the target by a commit, when nothing stands against it.

    Raises: DatasetNotFound, PullRequestNotFound, PullRequestEnded, RefNotFound, HeadChanged, PullRequestBlocked, MergeConflict,
        BranchProtected; Forbidden for an override by someone else than an owner.
    """
    found, pull = await _find(conn, scope, dataset, number)
    if pull.state is not PullRequestState.OPEN:
        raise _ended(dataset, pull)
    head, _, base = await _sides(conn, scope, found, pull.source, pull.target)
    if spec.head is not None and spec.head != head.id:
        raise HeadChanged(source=pull.source, expected=str(spec.head), actual=str(head.id))
    if spec.override:
        dataforge.require_override(scope)
    elif reasons := (await _stand(conn, scope, found, pull)).obstacles:
        raise PullRequestBlocked(dataset=dataset, number=number, reason="; ".join(reasons))
    message = spec.message or f"Merge pull request {number} from {pull.source}\n\n{pull.title}"
    asked = MergeSpec(str(head.id), message, fast_forward=FastForward.NEVER, metadata={"pull_request": number}, override=spec.override)
    merged = await dataforge.merge(conn, scope, dataset, pull.target, asked, by_pull_request=True)
    ids = {"head_id": head.id, "base_id": base.id, "merge_commit_id": merged.commit.id}
    return await _move(conn, scope, dataset, pull, PullRequestState.MERGED, ids)


async def _find(conn: Connection, scope: Scope, dataset: str, number: int) -> tuple[Dataset, PullRequest]:
    found = await dataforge.get_dataset(conn, scope, dataset)
    pull = await store.find_pull_request(conn, scope.project, found.id, number)
    if pull is None:
        raise PullRequestNotFound(dataset=dataset, number=number)
    return found, pull


async def _sides(conn: Connection, scope: Scope, dataset: Dataset, source: str, target: str) -> tuple[Commit, Commit, Commit]:
    """Heads of source and target, and their merge base. Raises: RefNotFound, BranchNeeded, HistoriesUnrelated."""
    head = await dataforge.get_head(conn, scope, dataset, source)
    onto = await dataforge.get_head(conn, scope, dataset, target)
    base = await dataforge.find_merge_base(conn, scope, onto, head)
    if base is None:
        raise HistoriesUnrelated(dataset=dataset.name, branch=target, source=source)
    return head, onto, base


async def _stand(conn: Connection, scope: Scope, dataset: Dataset, pull: PullRequest) -> Standing:
    reviews = await store.list_reviews(conn, scope.project, pull.id, None, None)
    try:
        if pull.state is not PullRequestState.OPEN:
            return await _look_back(conn, scope, dataset, pull, reviews)
        head, target, base = await _sides(conn, scope, dataset, pull.source, pull.target)
    except (RefNotFound, BranchNeeded, HistoriesUnrelated) as gone:
        return replace(_NOTHING, obstacles=(str(gone),))
    up_to_date = base.id == target.id
    conflicts = 0 if up_to_date else len(await dataforge.list_conflicts(conn, scope, dataset.name, str(target.id), str(head.id)))
    protection = await dataforge.find_protection(conn, scope, dataset, pull.target)
    unmet = await dataforge.find_obstacle(conn, scope, dataset, pull.target, head, by_pull_request=True)
    obstacles = [
        *policy.history_obstacles(pull.source, pull.target, protection, conflicts=conflicts, up_to_date=up_to_date),
        *([unmet] if unmet else []),
        *policy.review_obstacles(reviews, head.id, protection),
    ]
    standing = await _compare(conn, scope, dataset, head, base.id, reviews)
    return replace(standing, up_to_date=up_to_date, conflicts=conflicts, obstacles=tuple(obstacles))


async def _look_back(conn: Connection, scope: Scope, dataset: Dataset, pull: PullRequest, reviews: Sequence[Review]) -> Standing:
    told = (f"it is {pull.state}",)
    if pull.head_id is None or pull.base_id is None:
        return replace(_NOTHING, obstacles=told)
    head = await dataforge.get_commit(conn, scope, dataset.name, str(pull.head_id))
    return replace(await _compare(conn, scope, dataset, head, pull.base_id, reviews), obstacles=told)


async def _compare(conn: Connection, scope: Scope, dataset: Dataset, head: Commit, base_id: UUID, reviews: Sequence[Review]) -> Standing:
    stat = await dataforge.get_diff_stat(conn, scope, dataset.name, str(base_id), str(head.id))
    checks = tuple(await dataforge.list_checks_of_files(conn, scope, head))
    return replace(_NOTHING, head_id=head.id, base_id=base_id, stat=stat, checks=checks, approved_by=policy.approvals(reviews, head.id))


async def _close_or_open(conn: Connection, scope: Scope, dataset: Dataset, pull: PullRequest, state: PullRequestState) -> PullRequest:
    ids: dict[str, UUID | None] = {"head_id": None, "base_id": None}
    if state is PullRequestState.CLOSED:
        standing = await _stand(conn, scope, dataset, pull)
        ids = {"head_id": standing.head_id, "base_id": standing.base_id}
    return await _move(conn, scope, dataset.name, pull, state, ids)


async def _move(
    conn: Connection, scope: Scope, dataset: str, pull: PullRequest, state: PullRequestState, ids: Mapping[str, UUID | None]
) -> PullRequest:
    values = {**ids, "state": state, "closed_by": None if state is PullRequestState.OPEN else scope.principal.name}
    exists = PullRequestExists(dataset=dataset, source=pull.source, target=pull.target)
    moved = await store.move_pull_request(conn, scope.project, pull.id, pull.state, values, exists)
    if moved is None:
        raise _ended(dataset, await get_pull_request(conn, scope, dataset, pull.number))
    await _publish(conn, scope, dataset, moved, _TOLD[state])
    return moved


def _ended(dataset: str, pull: PullRequest) -> PullRequestEnded:
    return PullRequestEnded(dataset=dataset, number=pull.number, state=pull.state.value)


def _person(scope: Scope) -> UUID:
    """Who speaks, whichever session or key it is by."""
    return scope.principal.user_id or scope.principal.id


async def _publish(conn: Connection, scope: Scope, dataset: str, pull: PullRequest, what: str, **more: str) -> None:
    data = {"dataset": dataset, "number": pull.number, "source": pull.source, "target": pull.target, "title": pull.title, **more}
    await dataforge.publish_change(conn, scope, f"pull_request.{what}", pull.id, data)
