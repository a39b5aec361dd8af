"""Wire schemas of what runs read."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.dataforge.versions import FilePath, Sha256

FILES_AT_ONCE = 5000
RANGES_AT_ONCE = 20_000
LARGEST_ORDINAL = 2**53
Ordinal = Annotated[int, Field(ge=0, le=LARGEST_ORDINAL)]


class ReadUnit(StrEnum):
    """What has an ordinal: each file as a whole, or each row."""

    FILE = "file"
    ROW = "row"


class ReadFileSet(Asked):
    """A file of a source, and how many ordinals it has."""

    path: FilePath
    sha256: Sha256
    rows: Ordinal


class ReadSourceSet(Asked):
    """What is streamed: files one after the other, each with as many ordinals as it has rows (as a whole: one)."""

    unit: ReadUnit
    size: Ordinal = Field(description="Ordinals of all files together.")
    first: Ordinal = Field(0, description="Ordinal that the first of these files begins at.")
    files: list[ReadFileSet] = Field(max_length=FILES_AT_ONCE)


class ReadSourceRead(Wire):
    """How much of a source is described."""

    sha256: Annotated[str, AfterValidator(str.lower)]
    size: int
    described: int = Field(description="Ordinals whose files are known by now.")
    complete: bool


class ReadsRecord(Asked):
    """What a run has read of a source: ranges of ordinals, from the first to before the second of each pair."""

    run: UUID
    source: Sha256
    dataset: Name
    commit: UUID
    ranges: list[Annotated[list[Ordinal], Field(min_length=2, max_length=2)]] = Field(max_length=RANGES_AT_ONCE)


class ReadRead(Wire):
    """What a run has read of one file."""

    run_id: UUID
    dataset: str
    commit_id: UUID
    path: str
    sha256: str
    rows: int | None = Field(description="Rows that the file has; absent where it was read as a whole.")
    rows_read: int | None = Field(description="Different rows that were read; absent where the file was read as a whole.")
    first_at: datetime
    last_at: datetime
