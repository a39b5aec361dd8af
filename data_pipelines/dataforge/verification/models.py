"""Verifications: whether the objects behind a commit are what was imported, or what was said of them when they were pushed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


class VerificationState(enum.StrEnum):
    """Running until one of the others, which stay. Finished says nothing of what was found."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


class FaultKind(enum.StrEnum):
    """How an object is not what was imported."""

    CHANGED = "changed"
    VANISHED = "vanished"


@dataclass(frozen=True)
class Unchecked:
    """A pushed content that came in parts: S3 checked its size and not its SHA-256."""

    sha256: str
    key: str
    size_bytes: int

    @property
    def uri(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class Fault:
    """A file whose object is not what was imported or pushed."""

    path: str
    uri: str
    kind: FaultKind
    reason: str


@dataclass(frozen=True)
class Verification:
    """A verification. ``files`` were looked at so far, up to the path ``cursor``; ``size_bytes`` of them were read."""

    id: UUID
    project_id: UUID
    org_id: UUID
    dataset: str
    commit_id: UUID
    state: VerificationState
    cursor: str
    files: int
    size_bytes: int
    faults: int
    error: str | None
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    lock_token: UUID | None
    attempts: int
    last_error: str | None
