"""Wire schemas of imports in place and of their verification."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire
from aidos.schemas.dataforge.versions import RefName, path_problem

_SCHEME = "s3://"


class ImportState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and folder of ``s3://bucket/folder``; the folder ends with a slash, and the whole bucket's is empty."""
    bucket, _, folder = uri.removeprefix(_SCHEME).partition("/")
    folder = folder.rstrip("/")
    return bucket, f"{folder}/" if folder else ""


def _check_uri(uri: str) -> str:
    """Raises: ValueError."""
    folder = split_uri(uri)[1].removesuffix("/")
    if folder and (reason := path_problem(folder)):
        raise ValueError(f"The folder of {uri[:200]!r} cannot be imported: {reason}.")
    return uri


S3Folder = Annotated[
    str, StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\x00]*)?$", max_length=1200), AfterValidator(_check_uri)
]
"""s3://bucket/folder"""


class ImportCreate(Asked):
    """A folder of a bucket that becomes a branch, object by object as they lie."""

    source: S3Folder = Field(description="s3://bucket/folder, in a bucket that the administrator opened to imports.")
    branch: Name = Field("main", description="The branch that gets the commit; a new one begins at main.")
    message: Text = Field("", description="For the log.")


class SkippedKey(Wire):
    """A key that cannot be a path."""

    key: str
    reason: str


class ImportRead(Wire):
    """An import. While it runs, `files` and `size_bytes` are what was listed so far."""

    id: UUID
    dataset: str
    source: str
    branch: str
    state: ImportState
    files: int
    size_bytes: int
    skipped: int = Field(description="Keys that cannot be paths.")
    skipped_keys: list[SkippedKey] = Field(description="At most 100 of them.")
    commit_id: UUID | None = Field(description="The branch's head afterwards; of a folder that is as it was, the head before.")
    parent_id: UUID | None = Field(description="The branch's head when it was asked for; one that has moved fails.")
    error: str | None = Field(description="Why it failed.")
    last_error: str | None = Field(description="Why it is being tried again.")
    created_by: str
    created_at: datetime
    finished_at: datetime | None


class VerificationCreate(Asked):
    """A commit whose files in place are to be read and checked."""

    ref: RefName = Field("main", description="Branch, tag or commit id.")


class VerificationState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


class VerificationRead(Wire):
    """A verification. The counts grow while it runs."""

    id: UUID
    dataset: str
    commit_id: UUID
    state: VerificationState
    files: int = Field(description="Files in place that were looked at.")
    size_bytes: int = Field(description="Bytes that were read of them.")
    faults: int = Field(description="Files among them that are not what was imported.")
    error: str | None = Field(description="Why it failed.")
    last_error: str | None = Field(description="Why it is being tried again.")
    created_by: str
    created_at: datetime
    finished_at: datetime | None


class FaultKind(StrEnum):
    CHANGED = "changed"
    VANISHED = "vanished"


class FaultRead(Wire):
    """A file whose object is not what was imported."""

    path: str
    uri: str = Field(description="s3://bucket/key")
    kind: FaultKind
    reason: str
