"""Datasets, their commits and refs, and where the bytes of their files lie."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class RefKind(enum.StrEnum):
    """A branch moves with each commit; a tag stays."""

    BRANCH = "branch"
    TAG = "tag"


class ChangeKind(enum.StrEnum):
    """How a path differs between two commits."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True)
class Dataset:
    """A named history of files."""

    id: UUID
    name: str
    description: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True)
class Commit:
    """An immutable state of a dataset; ``tree`` is the digest of its manifest's root.

    A merge has two parents. ``generation`` is one above the parents' highest, 0 for a first commit.
    """

    id: UUID
    dataset_id: UUID
    dataset: str
    parent_id: UUID | None
    merge_parent_id: UUID | None
    generation: int
    tree: bytes
    message: str
    author: str
    files: int
    size_bytes: int
    created_at: datetime
    metadata: Mapping[str, Any]

    @property
    def parents(self) -> tuple[UUID, ...]:
        """None, one, or the two of a merge."""
        return tuple(parent for parent in (self.parent_id, self.merge_parent_id) if parent)


@dataclass(frozen=True)
class Ref:
    """A name for a commit."""

    name: str
    kind: RefKind
    commit_id: UUID
    updated_at: datetime


@dataclass(frozen=True)
class File:
    """A path of a commit and the content behind it."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Blob:
    """Content by its SHA-256 (lower-case hex) and size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class StoredBlob:
    """A blob that is known to be in S3: an object of its own, or a slice of a pack."""

    sha256: str
    size_bytes: int
    pack_sha256: str | None = None
    offset_bytes: int = 0


@dataclass(frozen=True)
class Place:
    """A content that lies in place: an object of another bucket, by the id that its identity gives; ``sha256`` once it was verified."""

    id: str
    bucket: str
    key: str
    etag: str
    version_id: str | None
    size_bytes: int
    sha256: str | None = None

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def headers(self) -> Mapping[str, str]:
        """With these S3 gives the imported bytes or none. A version never changes."""
        return {} if self.version_id else {"If-Match": f'"{self.etag}"'}


@dataclass(frozen=True)
class Pack:
    """Many small blobs in one object; the object is itself addressed by its SHA-256."""

    sha256: str
    size_bytes: int
    entries: tuple[StoredBlob, ...]


@dataclass(frozen=True)
class TreeSpec:
    """Changes to a tree. ``base`` is the hex digest of the tree to start from; None: the empty tree."""

    base: str | None = None
    add: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    """A manifest that no commit needs to point to yet."""

    sha256: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class CommitSpec:
    """A commit that is asked for. ``parent``: the head that the branch must have; None: it must not exist yet.

    ``tree`` (hex) is what ``add`` and ``remove`` apply to; None: the parent's tree.
    """

    branch: str
    message: str
    parent: UUID | None
    add: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()
    tree: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    override: bool = False


@dataclass(frozen=True)
class RefSpec:
    """Where a ref is to point. ``expected``: the commit that it must point to now; None: it must not exist."""

    kind: RefKind
    commit: str
    expected: UUID | None = None
    override: bool = False


class Side(enum.StrEnum):
    """Whose content a path gets in a merge."""

    OURS = "ours"
    THEIRS = "theirs"
    BASE = "base"


class FastForward(enum.StrEnum):
    """Whether a branch whose head the source comes from just moves there."""

    ALLOW = "allow"
    ONLY = "only"
    NEVER = "never"


class MergeOutcome(enum.StrEnum):
    """What a merge did."""

    MERGED = "merged"
    FAST_FORWARDED = "fast_forwarded"
    UP_TO_DATE = "up_to_date"


@dataclass(frozen=True)
class Resolution:
    """How conflicts are settled: ``take`` chooses by path, ``add`` and ``remove`` give the content, ``strategy`` decides the rest."""

    strategy: Side | None = None
    take: Mapping[str, Side] = field(default_factory=dict)
    add: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class MergeSpec:
    """A merge of ``source`` (a ref). ``expected``: the head that the branch must have; None: whichever it has."""

    source: str
    message: str = ""
    resolution: Resolution = Resolution()
    fast_forward: FastForward = FastForward.ALLOW
    expected: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    override: bool = False


@dataclass(frozen=True)
class Merged:
    """The head after a merge and how it came about."""

    outcome: MergeOutcome
    commit: Commit


@dataclass(frozen=True)
class PickSpec:
    """A commit to take over or to undo; ``mainline``: the parent (1 or 2) that a merge is compared with."""

    commit: str
    message: str | None = None
    mainline: int | None = None
    resolution: Resolution = Resolution()
    expected: UUID | None = None
    override: bool = False


@dataclass(frozen=True)
class PathConflict:
    """A path that both sides of a merge changed in different ways; None where it is absent."""

    path: str
    base: File | None
    ours: File | None
    theirs: File | None


@dataclass(frozen=True)
class DiffStat:
    """How much two commits differ. A changed file's old bytes count as removed, its new ones as added."""

    added: int
    changed: int
    removed: int
    added_bytes: int
    removed_bytes: int


class CheckState(enum.StrEnum):
    """What a check found of a commit."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


REPORTED_CHECKS = frozenset({"expectations"})
"""Names that only reports of the kind of that name give; by hand nobody sets them, whether there is a report yet or not."""


@dataclass(frozen=True)
class CheckSpec:
    """What is to be said of a commit under the name of a check."""

    state: CheckState
    summary: str = ""
    url: str | None = None
    report_id: UUID | None = None


@dataclass(frozen=True)
class Check:
    """The latest word of a check on a commit."""

    commit_id: UUID
    name: str
    state: CheckState
    summary: str
    url: str | None
    report_id: UUID | None
    author: str
    updated_at: datetime


@dataclass(frozen=True)
class ProtectionSpec:
    """What a branch asks of commits before they land on it."""

    required_checks: tuple[str, ...] = ()
    require_pull_request: bool = False
    required_approvals: int = 0


@dataclass(frozen=True)
class Protection:
    """A protected branch: it is not deleted or set back, and what it asks for is asked of every commit that lands."""

    branch: str
    required_checks: tuple[str, ...]
    require_pull_request: bool
    required_approvals: int
    updated_at: datetime


@dataclass(frozen=True)
class Change:
    """One path that differs between two commits."""

    path: str
    kind: ChangeKind
    old_sha256: str | None
    new_sha256: str | None
    old_size_bytes: int | None
    new_size_bytes: int | None


@dataclass(frozen=True)
class MissingBlob:
    """A blob to upload: by one PUT to ``url`` with ``headers``, or, where a URL was asked for and is None, in parts."""

    sha256: str
    size_bytes: int
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MultipartUpload:
    """An open multipart upload of a blob."""

    sha256: str
    size_bytes: int
    upload_id: str
    part_size_bytes: int


@dataclass(frozen=True)
class PartUrl:
    """Where part ``number`` (from 1) goes."""

    number: int
    url: str


@dataclass(frozen=True)
class Parts:
    """The parts of a multipart upload that are still missing."""

    part_size_bytes: int
    parts: tuple[PartUrl, ...]


@dataclass(frozen=True)
class Completed:
    """What an upload check found: blobs now known, and those that S3 does not hold (or holds with another size)."""

    stored: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Download:
    """A file's bytes: ``size_bytes`` from ``offset_bytes`` of ``sources[source]``; an empty file has no source."""

    path: str
    sha256: str
    size_bytes: int
    source: int | None
    offset_bytes: int
    place: Place | None = None


@dataclass(frozen=True)
class Downloads:
    """Presigned URLs and which slice of them each file is."""

    commit_id: UUID
    files: tuple[Download, ...]
    sources: tuple[str, ...] = field(default=())
