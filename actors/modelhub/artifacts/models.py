"""Where an artifact is, and what a folder shows."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from uuid import UUID


class OwnerKind(enum.StrEnum):
    """What has files. Those of a version are the copies that were inspected: nobody writes them."""

    RUN = "runs"
    MODEL = "models"
    TRACE = "traces"
    VERSION = "versions"


@dataclass(frozen=True)
class Location:
    """A file or folder of an owner; the empty path is all that it has."""

    kind: OwnerKind
    owner_id: UUID
    path: str


@dataclass(frozen=True)
class Entry:
    """What lies in a folder; ``size_bytes`` is None for a folder."""

    name: str
    size_bytes: int | None


@dataclass(frozen=True)
class StoredFile:
    """Bytes in the object store."""

    path: str
    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """An upload in parts that is under way."""

    upload_id: str
    key: str
    parts: int
