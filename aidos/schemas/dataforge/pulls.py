"""Wire schemas of pull requests on data."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire
from aidos.schemas.dataforge.history import CheckRead, DiffStatRead
from aidos.schemas.dataforge.versions import FilePath

Title = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f]+$")]


class PullRequestState(StrEnum):
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class NewState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Verdict(StrEnum):
    APPROVE = "approve"
    REQUEST_CHANGES = "request_changes"
    COMMENT = "comment"


class PullRequestCreate(Asked):
    """A branch that is to be merged into another."""

    source: Name = Field(description="Branch with the changes.")
    target: Name = Field("main", description="Branch that is to get them.")
    title: Title
    description: Text = ""


class PullRequestUpdate(Asked):
    """What is to be changed of a pull request."""

    title: Title | None = None
    description: Text | None = None
    state: NewState | None = None


class PullRequestRead(Wire):
    """A pull request. `head_id` and `base_id` are set from its end on: the commits that it brought and came from."""

    id: UUID
    number: int
    title: str
    description: str
    source: str
    target: str
    state: PullRequestState
    author: str
    head_id: UUID | None
    base_id: UUID | None
    merge_commit_id: UUID | None
    closed_by: str | None
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None


class StandingRead(Wire):
    """Where a pull request stands: what it brings, and what keeps it from being merged (nothing: it can be)."""

    head_id: UUID | None
    base_id: UUID | None = Field(description="Best common ancestor of both branches.")
    up_to_date: bool = Field(description="Whether the source has all that the target has.")
    conflicts: int = Field(description="Paths that both sides changed in different ways.")
    stat: DiffStatRead
    checks: list[CheckRead]
    approved_by: list[str]
    obstacles: list[str]


class ReviewCreate(Asked):
    """What a reader says of a pull request as it is now."""

    verdict: Verdict
    body: Text = ""
    path: FilePath | None = Field(None, description="The file that is meant; absent: the whole.")


class ReviewRead(Wire):
    """A review, with the head that its author saw."""

    id: UUID
    verdict: Verdict
    body: str
    path: str | None
    commit_id: UUID
    author: str
    created_at: datetime


class PullRequestMerge(Asked):
    """How a pull request is merged."""

    message: Text = ""
    head: UUID | None = Field(None, description="Head that you have seen; absent: whichever it is.")
    override: bool = Field(False, description="Pass over obstacles other than conflicts; owners may.")
