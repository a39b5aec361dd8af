"""The rows of pull requests: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cluster.db import Connection, load_queries, unique
from data_pipelines.dataforge.pulls.errors import PullRequestExists
from data_pipelines.dataforge.pulls.models import PullRequest, PullRequestChange, PullRequestState, Review, Verdict

Q = load_queries(__package__)


async def create_pull_request(conn: Connection, project_id: UUID, values: Mapping[str, Any], exists: PullRequestExists) -> PullRequest:
    """Numbered within its dataset. Raises ``exists`` when an open one has the same branches."""
    with unique("pull_requests_open", exists):
        made = _pull_request(await (await conn.execute(Q.create_pull_request, {"project_id": project_id, **values})).fetchone())
    assert made is not None
    return made


async def find_pull_request(conn: Connection, project_id: UUID, dataset_id: UUID, number: int) -> PullRequest | None:
    row = {"project_id": project_id, "dataset_id": dataset_id, "number": number}
    return _pull_request(await (await conn.execute(Q.find_pull_request, row)).fetchone())


async def list_pull_requests(
    conn: Connection, project_id: UUID, dataset_id: UUID, state: PullRequestState | None, before: int | None, limit: int
) -> list[PullRequest]:
    """Newest first."""
    values = {"project_id": project_id, "dataset_id": dataset_id, "state": state, "before": before, "limit": limit}
    rows = await (await conn.execute(Q.list_pull_requests, values)).fetchall()
    return [found for row in rows if (found := _pull_request(row))]


async def change_pull_request(conn: Connection, project_id: UUID, id: UUID, change: PullRequestChange) -> PullRequest:
    row = {"project_id": project_id, "id": id, "title": change.title, "description": change.description}
    changed = _pull_request(await (await conn.execute(Q.change_pull_request, row)).fetchone())
    assert changed is not None
    return changed


async def move_pull_request(
    conn: Connection, project_id: UUID, id: UUID, expected: PullRequestState, values: Mapping[str, Any], exists: PullRequestExists
) -> PullRequest | None:
    """Give it another state with what belongs to that; None when it is not in ``expected`` any more."""
    row = {"project_id": project_id, "id": id, "expected": expected, "merge_commit_id": None, **values}
    with unique("pull_requests_open", exists):
        return _pull_request(await (await conn.execute(Q.move_pull_request, row)).fetchone())


async def insert_review(conn: Connection, project_id: UUID, review: Mapping[str, Any]) -> Review:
    row = await (await conn.execute(Q.insert_review, {"project_id": project_id, **review})).fetchone()
    assert row is not None
    return _review(row)


async def list_reviews(conn: Connection, project_id: UUID, pull_request_id: UUID, after: UUID | None, limit: int | None) -> list[Review]:
    """In the order in which they were given; ``limit`` None: all."""
    row = {"project_id": project_id, "pull_request_id": pull_request_id, "after": after, "limit": limit}
    return [_review(each) for each in await (await conn.execute(Q.list_reviews, row)).fetchall()]


def _pull_request(row: Mapping[str, Any] | None) -> PullRequest | None:
    return PullRequest(**{**row, "state": PullRequestState(row["state"])}) if row else None


def _review(row: Mapping[str, Any]) -> Review:
    return Review(**{**row, "verdict": Verdict(row["verdict"])})
