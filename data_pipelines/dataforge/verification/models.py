"""Verifications: whether the objects in place behind a commit are what was imported."""

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
class Fault:
    """A file whose object is not what was imported."""

    path: str
    uri: str
    kind: FaultKind
    reason: str


@dataclass(frozen=True)
class Verification:
    """A verification. ``files`` in place were looked at so far, up to the path ``cursor``; ``size_bytes`` of them were read."""

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
