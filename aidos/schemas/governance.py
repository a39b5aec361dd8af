"""Wire schemas of what people and programs say of a model version, and of what an alias asks before it names one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire
from aidos.schemas.dataforge.history import CheckState
from aidos.schemas.modelhub import Key, MetricValue

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
Link = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s\x00]+$")]
ThresholdText = Annotated[
    str,
    StringConstraints(
        pattern=r"^[^\x00-\x20\x7f<>=][^\x00-\x1f\x7f<>=]{0,249}(>=|<=|==|>|<) ?-?[0-9]{1,15}(\.[0-9]{1,15})?(e-?[0-9]{1,2})?$"
    ),
]
"""A metric and its bound: `accuracy >= 0.95`."""


class ReviewVerdict(StrEnum):
    REQUEST = "request"
    APPROVE = "approve"
    REJECT = "reject"


class Approval(StrEnum):
    NONE = "none"
    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"


class Opinion(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


class ReviewRequest(Asked):
    """Asks the others for approval."""

    reason: Reason


class VersionReviewCreate(Asked):
    """Approve or reject, with the reason."""

    verdict: Opinion
    reason: Reason


class VersionReviewRead(Wire):
    id: UUID
    verdict: ReviewVerdict
    reason: str
    author: str
    created_at: datetime


class VersionCheckSet(Asked):
    """What a check found of a version."""

    state: CheckState
    summary: Text = ""
    url: Link | None = Field(None, description="Where more is said.")
    metrics: dict[Key, MetricValue] = Field(
        {}, max_length=200, description="What it measured; the bounds of protected aliases are held against it."
    )
    run_id: UUID | None = Field(None, description="The run that measured.")


class VersionCheckRead(Wire):
    """The latest word of a check on a version."""

    name: str
    state: CheckState
    summary: str
    url: str | None
    metrics: dict[str, MetricValue]
    run_id: UUID | None
    author: str
    updated_at: datetime


class AliasProtectionSet(Asked):
    """What an alias asks of a version before it names it."""

    required_approvals: int = Field(0, ge=0, le=20, description="People who must have approved of the version.")
    required_checks: list[Name] = Field([], max_length=50, description="Checks that the version must have passed.")
    thresholds: list[ThresholdText] = Field(
        [],
        max_length=50,
        description="Bounds of metrics, e.g. `accuracy >= 0.95`, held against what checks measured, or else the version's run.",
    )


class AliasProtectionRead(Wire):
    """A protected alias: it is not deleted, and names what has all that it asks for."""

    alias: str
    required_approvals: int
    required_checks: list[str]
    thresholds: list[Annotated[str, BeforeValidator(str)]]
    updated_at: datetime


class ReviewRules(Asked):
    self_approval: bool = Field(description="Who registered a version may approve it.")


class AliasMoveRead(Wire):
    id: UUID
    alias: str
    moved_from: int | None = Field(description="Null: the alias was new.")
    version: int | None = Field(description="Null: the alias was deleted.")
    moved_by: str
    moved_at: datetime


class VersionStandingRead(Wire):
    """Where a version stands."""

    approval: Approval
    approved_by: list[str]
    reviews: list[VersionReviewRead]
    checks: list[VersionCheckRead]
    obstacles: dict[str, list[str]] = Field(
        description="By protected alias, what the version lacks to be named by it; an empty list: nothing."
    )


class ExceptionState(StrEnum):
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    INVALID = "INVALID"


class ExceptionSign(Asked):
    """Answer for something that the scan found."""

    finding: Name = Field(description="Kind of the finding, e.g. `pickle`.")
    path: Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")] = Field(
        "", description="Where; empty: wherever it is found."
    )
    reason: Reason
    expires_in_s: int = Field(30 * 86400, ge=1, le=366 * 86400, description="How long it holds.")


class ExceptionRead(Wire):
    """An exception, signed with the platform's key and verified when it is read."""

    id: UUID
    finding: str
    path: str
    reason: str
    author: str
    created_at: datetime
    expires_at: datetime
    kid: str = Field(description="Id of the key that signed it.")
    revoked_by: str | None
    revoked_at: datetime | None
    state: ExceptionState = Field(description="Only an ACTIVE one excepts. INVALID: its signature is not that of what it says.")


class DeprecationSet(Asked):
    reason: Reason
    replacement: int | None = Field(None, ge=1, lt=2**31, description="Number of the version to be used instead.")
