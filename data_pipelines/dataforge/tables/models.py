"""Files that are looked at, and what is asked of them: what crosses to the process that reads them is JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from data_pipelines.dataforge.models import ChangeKind, Place

CELL_CHARS = 16 * 2**10
"""Longest text of a cell; what is longer is cut, and said to be."""
ANSWER_BYTES = 8 * 2**20
"""Rows end when they have so many bytes as JSON."""
ARROW_BYTES = 64 * 2**20
COLUMNS = 2000
"""Most columns of one answer."""
TIME_S = 20
MEMORY_BYTES = 768 * 2**20
"""Of DuckDB; the process has half a gibibyte beside it."""
CONVERSION_S = 50
CONVERTED_BYTES = 8 * 2**30
"""Largest table that a text file may become."""


class Format(enum.StrEnum):
    """How a file holds its rows."""

    PARQUET = "Parquet"
    CSV = "CSV"
    TSV = "TSV"
    JSON = "JSON"


@dataclass(frozen=True)
class Located:
    """A file of a commit, and where its bytes are: ``url`` can be read for an hour, from ``offset_bytes`` on."""

    project_id: UUID
    commit_id: UUID
    path: str
    sha256: str
    size_bytes: int
    url: str | None
    offset_bytes: int = 0
    place: Place | None = None


@dataclass(frozen=True)
class RowsSpec:
    """Rows ``limit`` from ``offset`` on, or from the position ``after``. ``sort``: columns, ``-`` before one for the largest first."""

    columns: tuple[str, ...] = ()
    filter: str = ""
    sort: tuple[str, ...] = ()
    limit: int = 100
    offset: int = 0
    after: int | None = None


@dataclass(frozen=True)
class Answer:
    """``body`` is the answer as it goes to the client; ``facts`` is what stands beside it."""

    body: bytes
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowChange:
    """A row that differs, before and after, as JSON."""

    kind: ChangeKind
    old: str | None
    new: str | None


@dataclass(frozen=True)
class RowDiff:
    """How many rows differ, by kind, and some of them."""

    totals: Mapping[str, int]
    rows: tuple[RowChange, ...]
