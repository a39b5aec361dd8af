"""An exception: somebody answers, in writing and for a time, for something that the scan of a version found."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from actors.modelhub.models import Finding


class ExceptionState(enum.StrEnum):
    """Only an ACTIVE one excepts. INVALID: its signature is not that of what it says."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    INVALID = "INVALID"


@dataclass(frozen=True)
class ExceptionSpec:
    """``finding``: its kind; ``path``: where, or '' for wherever it is found."""

    finding: str
    path: str
    reason: str
    lasts: timedelta


@dataclass(frozen=True)
class SignedException:
    id: UUID
    version_id: UUID
    finding: str
    path: str
    reason: str
    author: str
    author_id: UUID
    created_at: datetime
    expires_at: datetime
    kid: str
    signature: bytes
    revoked_by: str | None = None
    revoked_at: datetime | None = None
    state: ExceptionState = ExceptionState.ACTIVE

    def covers(self, finding: Finding) -> bool:
        return self.state is ExceptionState.ACTIVE and self.finding == finding.kind and self.path in ("", finding.path)

    def statement(self, sha256s: Mapping[str, str]) -> list[object]:
        """What is signed: all that it says, and the files that it speaks of."""
        moments = [self.created_at.timestamp(), self.expires_at.timestamp()]
        said = [str(self.version_id), self.finding, self.path, self.reason, self.author, str(self.author_id)]
        return ["aidos model exception", str(self.id), *said, *moments, dict(sha256s)]


def uncovered(findings: Sequence[Finding], exceptions: Sequence[SignedException]) -> list[Finding]:
    """The findings that nobody answers for."""
    return [finding for finding in findings if not any(each.covers(finding) for each in exceptions)]
