"""Garbage collections: what is asked of one, what it did, and what one would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

KEEP_DAYS = 30
"""How long an unreachable commit stays where its dataset says nothing else."""
GRACE = timedelta(hours=24)
"""How long nodes and contents stay after somebody relied on them. Twice ``store.FRESH``, so no request that is under way can be older."""
UPLOAD_LIFETIME = timedelta(days=7)
"""After that what was uploaded and never reported as complete is dropped."""


@dataclass(frozen=True)
class CollectionSpec:
    """A collection that is asked for. ``dataset``: whose commits alone may go; ``keep_days`` None: as each dataset's retention says.

    ``force``: commits go although runs or models came of them; ``dry_run``: nothing is deleted.
    """

    dataset: str | None = None
    keep_days: int | None = None
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Collection:
    """A garbage collection of a project: under way while ``finished_at`` is None. The counts are of what is deleted for good.

    Of a dry run they are of what would go now and, of nodes and contents, a day after they were last relied on; ``unreachable``:
    the first of the commits.
    """

    id: UUID
    project_id: UUID
    dataset_id: UUID | None
    keep_days: int | None
    force: bool
    dry_run: bool
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    commits: int
    nodes: int
    contents: int
    size_bytes: int
    uploads: int
    places: int
    unreachable: Sequence[UUID]
    attempts: int
    last_error: str | None


@dataclass(frozen=True)
class Retention:
    """How many days a dataset's unreachable commits stay."""

    keep_days: int
    updated_at: datetime | None = None


@dataclass(frozen=True)
class DeadObject:
    """An object of S3 of whose contents none is in any commit: a blob's own, or a pack."""

    sha256: str
    contents: int
    size_bytes: int
