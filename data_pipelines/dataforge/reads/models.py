"""Sources, and what runs have read of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

FILE_UNIT = "file"


@dataclass(frozen=True)
class ReadFile:
    """A file of a source and how many ordinals it has."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class ReadSource:
    """What a stream goes over; ``described`` of its ``size`` ordinals are known by file."""

    sha256: str
    unit: str
    size: int
    described: int

    @property
    def complete(self) -> bool:
        return self.described >= self.size


@dataclass(frozen=True)
class ReadsSpec:
    """Ranges of ordinals that a run has read of a source, as it lies in a commit."""

    run_id: UUID
    source: str
    dataset: str
    commit_id: UUID
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Read:
    """What a run has read of one file, which begins at ordinal ``first`` of the source."""

    run_id: UUID
    dataset: str
    commit_id: UUID
    source: str
    path: str
    sha256: str
    first: int
    rows: int | None
    rows_read: int | None
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class Reader:
    """A run that noted what it read of a commit: whether a content was among it, and whether the notes can say that it was not."""

    run_id: UUID
    commit_id: UUID
    complete: bool
    saw: bool


@dataclass(frozen=True)
class FileRead:
    """A file of which a run has read something."""

    run_id: UUID
    commit_id: UUID
    path: str
    sha256: str
