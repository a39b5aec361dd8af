"""Imports in place: which folder of which bucket becomes the head of which branch, and how far that is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

MOST_SKIPPED_TOLD = 100


class ImportState(enum.StrEnum):
    """Running until one of the others, which stay."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class ImportSpec:
    """An import that is asked for. ``prefix`` is a folder with its slash, or empty for the whole bucket."""

    bucket: str
    prefix: str
    branch: str = "main"
    message: str = ""


@dataclass(frozen=True)
class Import:
    """An import. ``tree`` has what was listed up to ``cursor``, the last key; ``commit_id``: the head that it made, or found to be equal."""

    id: UUID
    project_id: UUID
    org_id: UUID
    dataset: str
    bucket: str
    prefix: str
    branch: str
    message: str
    parent_id: UUID | None
    state: ImportState
    cursor: str | None
    tree: bytes | None
    files: int
    size_bytes: int
    skipped: int
    skipped_keys: list[Mapping[str, str]]
    commit_id: UUID | None
    error: str | None
    created_by: str
    creator_kind: str
    creator_id: UUID
    created_at: datetime
    finished_at: datetime | None
    lock_token: UUID | None
    attempts: int
    last_error: str | None

    @property
    def source(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What its commit says of it."""
        return {"imported": {"source": self.source, "import": str(self.id), "files": self.files, "skipped": self.skipped}}
