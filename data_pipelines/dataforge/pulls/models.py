"""Pull requests: a branch that is to be merged into another, and what people said of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from data_pipelines.dataforge.models import Check, DiffStat


class PullRequestState(enum.StrEnum):
    """Open until it is merged or closed; a closed one may be opened again."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class Verdict(enum.StrEnum):
    """What a review says."""

    APPROVE = "approve"
    REQUEST_CHANGES = "request_changes"
    COMMENT = "comment"


@dataclass(frozen=True)
class PullRequestSpec:
    """A pull request that is asked for: ``source`` and ``target`` are branches."""

    source: str
    target: str
    title: str
    description: str = ""


@dataclass(frozen=True)
class PullRequest:
    """A pull request. From its end on ``head_id`` and ``base_id`` are the commits that it brought and came from."""

    id: UUID
    dataset_id: UUID
    number: int
    title: str
    description: str
    source: str
    target: str
    state: PullRequestState
    author: str
    author_id: UUID
    head_id: UUID | None
    base_id: UUID | None
    merge_commit_id: UUID | None
    closed_by: str | None
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class PullRequestChange:
    """What is to be changed of a pull request; None: nothing."""

    title: str | None = None
    description: str | None = None
    state: PullRequestState | None = None


@dataclass(frozen=True)
class ReviewSpec:
    """What a reader says: of the whole or of a path."""

    verdict: Verdict
    body: str = ""
    path: str | None = None


@dataclass(frozen=True)
class Review:
    """A review, with the head that its author saw."""

    id: UUID
    verdict: Verdict
    body: str
    path: str | None
    commit_id: UUID
    author: str
    author_id: UUID
    created_at: datetime


@dataclass(frozen=True)
class Standing:
    """Where an open pull request stands. ``obstacles`` says why it cannot be merged; none: it can."""

    head_id: UUID | None
    base_id: UUID | None
    up_to_date: bool
    conflicts: int
    stat: DiffStat
    checks: tuple[Check, ...]
    approved_by: tuple[str, ...]
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class MergeRequest:
    """``head``: the commit that the caller has seen; None: whichever it is."""

    message: str = ""
    head: UUID | None = None
    override: bool = False
