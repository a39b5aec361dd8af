"""Wire schemas of what is stored: garbage collections and retention."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import Field

from aidos.schemas.common import Asked, Name, Wire

MOST_DAYS = 36_500


class CollectionState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"


class CollectionCreate(Asked):
    """A garbage collection of the project."""

    dataset: Name | None = Field(None, description="Only this dataset's commits may go; absent: any dataset's.")
    keep_days: int | None = Field(
        None, ge=0, le=MOST_DAYS, description="Days for which unreachable commits stay; absent: each dataset's retention."
    )
    force: bool = Field(False, description="Delete unreachable commits although runs or models came of them.")
    dry_run: bool = Field(False, description="Delete nothing; say what would go.")


class CollectionRead(Wire):
    """What a collection deleted so far; a dry run's counts are of what would go."""

    id: UUID
    state: CollectionState
    dry_run: bool
    commits: int
    nodes: int = Field(description="Parts of manifests.")
    contents: int = Field(description="Contents of files.")
    size_bytes: int = Field(description="Of the contents.")
    uploads: int = Field(description="Multipart uploads that were never completed.")
    places: int = Field(description="Contents in place that were forgotten; their objects stay as they are.")
    unreachable: list[UUID] = Field([], description="Of a dry run: the commits that would go, at most 100.")
    last_error: str | None = Field(None, description="Why it is being tried again.")
    created_by: str
    created_at: datetime
    finished_at: datetime | None


class RetentionSet(Asked):
    """How long unreachable commits stay."""

    keep_days: int = Field(ge=0, le=MOST_DAYS, description="Days since a collection first found that nothing leads to the commit.")


class RetentionRead(Wire):
    """How long unreachable commits of a dataset stay."""

    keep_days: int
    updated_at: datetime | None = Field(description="Absent while it is the default.")
