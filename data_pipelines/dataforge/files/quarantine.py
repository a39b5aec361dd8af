"""What is left out of a pipeline's work, and why: a bad file is set aside, never the end of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN = 200


class BadFile(Exception):
    """The file is not what its name says, or too much of it; the text says what is wrong."""


@dataclass
class Quarantine:
    """Files, or lines of files, that were left out, each with its reason."""

    count: int = 0
    files: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        self.files.append({"path": path, "reason": reason})

    def merge(self, other: Quarantine) -> None:
        self.count += other.count
        self.files = (self.files + other.files)[:SHOWN]

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "files": sorted(self.files, key=lambda each: each["path"])}


@dataclass
class BrokenLines:
    """Lines of one file that were left out."""

    count: int = 0
    first: str = ""

    def add(self, reason: str) -> None:
        self.count += 1
        self.first = self.first or reason

    def __str__(self) -> str:
        return f"{self.count} lines were left out; the first: {self.first}"
