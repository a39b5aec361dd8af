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


@dataclass(frozen=True)
class RefSpec:
    """Where a ref is to point. ``expected``: the commit that it must point to now; None: it must not exist."""

    kind: RefKind
    commit: str
    expected: UUID | None = None


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


@dataclass(frozen=True)
class Downloads:
    """Presigned URLs and which slice of them each file is."""

    commit_id: UUID
    files: tuple[Download, ...]
    sources: tuple[str, ...] = field(default=())
