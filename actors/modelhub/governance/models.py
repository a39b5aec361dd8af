"""What people and programs say of a version, and what an alias asks before it names one."""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class Verdict(enum.StrEnum):
    """What a review says. A request asks the others for theirs, and begins anew: what was said before it counts no more."""

    REQUEST = "request"
    APPROVE = "approve"
    REJECT = "reject"


class Approval(enum.StrEnum):
    """Where the reviews of a version stand."""

    NONE = "none"
    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"


class CheckState(enum.StrEnum):
    """What a check found of a version."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class Review:
    id: UUID
    verdict: Verdict
    reason: str
    author: str
    author_id: UUID
    created_at: datetime


@dataclass(frozen=True)
class CheckSpec:
    """What is to be said of a version under the name of a check. ``run_id``: the run that measured."""

    state: CheckState
    summary: str = ""
    url: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_id: UUID | None = None


@dataclass(frozen=True)
class Check:
    """The latest word of a check on a version."""

    name: str
    state: CheckState
    summary: str
    url: str | None
    metrics: Mapping[str, float]
    run_id: UUID | None
    author: str
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Check:
        metrics = {key: float(value) for key, value in row["metrics"].items()}
        return cls(**{**row, "state": CheckState(row["state"]), "metrics": metrics})


_THRESHOLD = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|==|>|<)\s*(\S+)\s*")
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Threshold:
    """A bound that a metric must keep: ``accuracy >= 0.95``. NaN keeps none."""

    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Raises: ValueError."""
        if found := _THRESHOLD.fullmatch(text):
            return cls(found[1], found[2], float(found[3]))
        raise ValueError(f"'{text}' is no threshold such as 'accuracy >= 0.95'")

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.bound:.12g}"

    def holds(self, value: float) -> bool:
        return _COMPARISONS[self.comparison](value, self.bound)


@dataclass(frozen=True)
class ProtectionSpec:
    """What an alias asks of a version before it names it."""

    required_approvals: int = 0
    required_checks: tuple[str, ...] = ()
    thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True)
class Protection:
    """A protected alias: it is not deleted, and names what has all that it asks for."""

    alias: str
    required_approvals: int
    required_checks: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Protection:
        thresholds = tuple(Threshold.parse(text) for text in row["thresholds"])
        return cls(**{**row, "required_checks": tuple(row["required_checks"]), "thresholds": thresholds})


@dataclass(frozen=True)
class AliasMove:
    """``moved_from`` None: the alias was new; ``version`` None: it was deleted."""

    id: UUID
    alias: str
    moved_from: int | None
    version: int | None
    moved_by: str
    moved_at: datetime


@dataclass(frozen=True)
class Facts:
    """All that decides whether a protected alias may name a version."""

    author_id: UUID | None
    self_approval: bool
    deprecated: bool
    reviews: tuple[Review, ...]
    checks: tuple[Check, ...]
    run_metrics: Mapping[str, float]


@dataclass(frozen=True)
class Standing:
    """Where a version stands; ``obstacles``: by protected alias what it lacks to be named by it."""

    approval: Approval
    approved_by: tuple[str, ...]
    reviews: tuple[Review, ...]
    checks: tuple[Check, ...]
    obstacles: Mapping[str, tuple[str, ...]]
