"""Wire schemas of DataForge, and the rule for paths that client and platform share."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire

PATH_BYTES = 1024
_PLAIN = re.compile(r"[\w-][\w .-]*(/[\w-][\w .-]*)*", re.ASCII)  # most paths: all is well with them, at a glance
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc
METADATA_BYTES = 16 * 2**10
_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")  # as JSON escapes it
PACK_BYTES = 32 * 2**20
"""Largest pack; the platform reads packs to check what is in them."""
SINGLE_PUT_BYTES = 64 * 2**20
"""Largest blob that goes up in one PUT."""
LARGEST_BLOB_BYTES = 4 * 2**40  # a thousand parts of at most 5 GiB, S3's limit


def path_problem(path: str) -> str | None:
    """Why ``path`` cannot be the path of a file, or None: relative POSIX, UTF-8 in NFC, no ``.``, ``..`` or empty part."""
    if len(path) <= PATH_BYTES and _PLAIN.fullmatch(path):
        return None
    try:
        size_bytes = len(path.encode())
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if not path or size_bytes > PATH_BYTES:
        return f"it must have 1 to {PATH_BYTES} bytes, not {size_bytes}"
    if path.startswith("/"):
        return "it must be relative"
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        return "its parts must not be empty, '.' or '..'"
    if _CONTROL.search(path):
        return "it must not contain control characters"
    if not path.isascii() and not unicodedata.is_normalized("NFC", path):
        return "it must be in Unicode normal form C"
    return None


def check_path(path: str) -> str:
    """Raises: ValueError with the path and the reason."""
    reason = path_problem(path)
    if reason:
        raise ValueError(f"The path {path[:200]!r} cannot be stored: {reason}.")
    return path


FilePath = Annotated[str, StringConstraints(min_length=1, max_length=PATH_BYTES), AfterValidator(check_path)]
"""Relative POSIX path: UTF-8 in NFC, at most 1,024 bytes, no part empty, `.` or `..`, no control characters."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hex."""
IN_PLACE = b"in-place".hex()
"""What ids of contents in place begin with. They are no SHA-256, and a content whose SHA-256 began so would be refused."""


def is_in_place(content: str) -> bool:
    """Whether an id names an object that was imported as it lies, and not bytes by their SHA-256 (docs/adr/0012)."""
    return content.startswith(IN_PLACE)


def _check_uploadable(sha256: str) -> str:
    """Raises: ValueError for the id of an object in place."""
    if is_in_place(sha256):
        raise ValueError(f"{sha256} is the id of an object that lies in place, not the SHA-256 of a content.")
    return sha256


UploadedSha256 = Annotated[Sha256, AfterValidator(_check_uploadable)]
"""SHA-256 of bytes that are uploaded."""
SizeBytes = Annotated[int, Field(ge=0, le=LARGEST_BLOB_BYTES)]


def _check_metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Raises: ValueError for what PostgreSQL cannot keep as JSON."""
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        size_bytes = len(text.encode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Metadata must be JSON in UTF-8 with finite numbers: {error}.") from error
    if size_bytes > METADATA_BYTES:
        raise ValueError(f"Metadata may have {METADATA_BYTES} bytes as JSON, not {size_bytes}.")
    if _NUL.search(text):
        raise ValueError("Metadata must not contain NUL.")
    return metadata


Metadata = Annotated[dict[str, JsonValue], AfterValidator(_check_metadata)]
"""Anything JSON by name, at most 16 KiB."""


class RefKind(StrEnum):
    BRANCH = "branch"
    TAG = "tag"


class ChangeKind(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class DatasetCreate(Asked):
    """A dataset to be."""

    name: Name
    description: Text = ""


class DatasetRead(Wire):
    """A named history of files."""

    id: UUID
    name: str
    description: str
    created_by: str
    created_at: datetime


class FileAdd(Asked):
    """A path and the content that it gets."""

    path: FilePath
    sha256: Sha256 = Field(description="SHA-256 of the content, or the id of a content in place.")
    size_bytes: SizeBytes


class FileRead(Wire):
    """A file of a commit."""

    path: str
    sha256: str = Field(description="SHA-256 of the content; of one that lies in place an id that begins with 696e2d706c616365.")
    size_bytes: int


class TreeCreate(Asked):
    """Changes to a tree, stored for a commit to come."""

    base: Sha256 | None = Field(None, description="Tree to start from; absent: the empty one.")
    add: list[FileAdd] = Field([], max_length=10_000)
    remove: list[FilePath] = Field([], max_length=10_000)


class TreeRead(Wire):
    """A stored manifest."""

    sha256: str
    files: int
    size_bytes: int


class CommitCreate(Asked):
    """A commit: changes on top of the branch's head, or of `tree`."""

    branch: Name = "main"
    message: Text = ""
    parent: UUID | None = Field(None, description="Head that the branch must have; absent: the branch must not exist yet.")
    tree: Sha256 | None = Field(None, description="Tree that the changes apply to; absent: the parent's.")
    add: list[FileAdd] = Field([], max_length=10_000)
    remove: list[FilePath] = Field([], max_length=10_000)
    metadata: Metadata = Field({}, description="What else there is to say of the commit, by name; at most 16 KiB as JSON.")
    override: bool = Field(False, description="Pass over the branch's protection; owners may.")


def _to_hex(digest: bytes | str) -> str:
    return digest.hex() if isinstance(digest, bytes) else digest


class CommitRead(Wire):
    """An immutable state of a dataset."""

    id: UUID
    dataset: str
    parent_id: UUID | None
    merge_parent_id: UUID | None = Field(None, description="What was merged in; absent on commits that are not merges.")
    tree: Annotated[str, BeforeValidator(_to_hex)] = Field(description="SHA-256 of the manifest's root: equal files, equal tree.")
    message: str
    author: str
    files: int
    size_bytes: int
    created_at: datetime
    metadata: dict[str, Any] = Field({}, description="What its author or its maker said of it beside the message.")


RefName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Branch, tag or commit id."""


class RefSet(Asked):
    """Where a ref is to point."""

    kind: RefKind = RefKind.BRANCH
    commit: RefName = Field(description="Branch, tag or commit id.")
    expected: UUID | None = Field(None, description="Commit that the branch must point to now; absent: it must not exist yet.")
    override: bool = Field(False, description="Pass over the branch's protection; owners may.")


class RefRead(Wire):
    """A branch or tag."""

    name: str
    kind: RefKind
    commit_id: UUID
    updated_at: datetime


class BlobState(Asked):
    """Content by its SHA-256 and size."""

    sha256: UploadedSha256
    size_bytes: SizeBytes


class UploadsCreate(Asked):
    """Contents that are about to be committed."""

    blobs: list[BlobState] = Field(max_length=1000)
    presign: bool = Field(True, description="Give a URL for each; false where small files will travel in packs.")


class MissingBlobRead(Wire):
    """Content to upload: one PUT to `url` with `headers`; without a URL in parts (over 64 MiB) or in a pack."""

    sha256: str
    size_bytes: int
    url: str | None
    headers: dict[str, str]


class UploadsRead(Wire):
    """What is not here yet."""

    missing: list[MissingBlobRead]


class PartUrlRead(Wire):
    """Where a part goes."""

    number: int
    url: str


class PartsRead(Wire):
    """The parts that are still missing; part n (from 1) is the n-th slice of `part_size_bytes`."""

    part_size_bytes: int
    parts: list[PartUrlRead]


class PackEntry(Asked):
    """A blob in a pack."""

    sha256: UploadedSha256
    size_bytes: int = Field(ge=1, le=PACK_BYTES)
    offset_bytes: int = Field(ge=0, le=PACK_BYTES)


class PackState(Asked):
    """An uploaded object that holds many small blobs, one after the other."""

    sha256: UploadedSha256
    size_bytes: int = Field(ge=1, le=PACK_BYTES)
    entries: list[PackEntry] = Field(min_length=1, max_length=5000)


class UploadsComplete(Asked):
    """What was uploaded; the platform looks for itself."""

    blobs: list[BlobState] = Field([], max_length=1000)
    packs: list[PackState] = Field([], max_length=4)


class CompletedRead(Wire):
    """Contents that are known now, and those that were not found."""

    stored: int
    missing: list[str]


class ChangeRead(Wire):
    """One path that differs."""

    path: str
    kind: ChangeKind
    old_sha256: str | None
    new_sha256: str | None
    old_size_bytes: int | None
    new_size_bytes: int | None


class DownloadsCreate(Asked):
    """Files to read."""

    ref: RefName = "main"
    paths: list[FilePath] = Field(max_length=1000)


class PlaceRead(Wire):
    """An object that was imported as it lies. Its URL takes only requests with `headers`, and answers 412 or 404 when the object is another."""

    uri: str = Field(description="s3://bucket/key")
    etag: str
    version_id: str | None = Field(description="Where the bucket keeps versions; the URL is that version's.")
    sha256: str | None = Field(description="SHA-256 of its bytes, once they were verified.")
    headers: dict[str, str]


class DownloadRead(Wire):
    """A file's bytes: `size_bytes` from `offset_bytes` of `sources[source]` (HTTP Range); an empty file has no source."""

    path: str
    sha256: str
    size_bytes: int
    source: int | None
    offset_bytes: int
    place: PlaceRead | None = Field(None, description="Where the file lies in place, and what to send for it.")


class DownloadsRead(Wire):
    """Presigned URLs, and which slice of them each file is."""

    commit_id: UUID
    files: list[DownloadRead]
    sources: list[str]
