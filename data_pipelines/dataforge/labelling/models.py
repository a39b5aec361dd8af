"""Labelling projects, their tasks, who holds them, and what was answered."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

Value = Mapping[str, Any]
"""Answers by the question's name, in canonical form (``labels.check_value``)."""
Size = tuple[int, int]
"""Width and height of an image in pixels."""


class TaskState(enum.StrEnum):
    """OPEN → (annotators have answered) → DONE, by way of REVIEW or DISPUTED; a rejected review opens it again."""

    OPEN = "open"
    REVIEW = "review"
    DISPUTED = "disputed"
    DONE = "done"


class SlotState(enum.StrEnum):
    """What became of one annotator's turn at a task. A returned slot is free for anyone, the same annotator too."""

    LEASED = "leased"
    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    RETURNED = "returned"


class Stage(enum.StrEnum):
    """What a version of an annotation was written as."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    REVIEW = "review"
    IMPORTED = "imported"


class Source(enum.StrEnum):
    """Who decided a label."""

    CONSENSUS = "consensus"
    REVIEW = "review"
    IMPORTED = "imported"


class Consensus(enum.StrEnum):
    """How several answers become one label: by heads, by heads weighted with their gold accuracy, or by an adjudicator."""

    MAJORITY = "majority"
    WEIGHTED = "weighted"
    ADJUDICATION = "adjudication"


class Order(enum.StrEnum):
    """What the queue gives first. The uncertainties are of the predictions that were posted."""

    LISTED = "listed"
    RANDOM = "random"
    LEAST_CONFIDENCE = "least_confidence"
    MARGIN = "margin"
    ENTROPY = "entropy"


class Verdict(enum.StrEnum):
    """What a reviewer says."""

    ACCEPT = "accept"
    CORRECT = "correct"
    REJECT = "reject"


@dataclass(frozen=True)
class Item:
    """What is labelled: a file of the commit, or a row of one. ``data`` are the row's columns."""

    path: str
    row: int | None = None
    data: Mapping[str, Any] | None = None
    size: Size | None = None

    @property
    def key(self) -> str:
        return self.path if self.row is None else f"{self.path}#{self.row}"


@dataclass(frozen=True)
class Record:
    """A label as formats carry it; ``annotator`` is empty for the one that was decided."""

    path: str
    value: Value
    row: int | None = None
    size: Size | None = None
    annotator: str = ""
    data: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Labelling:
    """A labelling project: a label schema over the items of one commit."""

    id: UUID
    name: str
    dataset: str
    commit_id: UUID
    schema: Mapping[str, Any]
    instructions: str
    overlap: int
    review: bool
    consensus: Consensus
    gold_every: int
    most_skips: int
    order: Order
    created_by: str
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class LabellingSpec:
    """A labelling project that is asked for. ``rows``: each row of the file at ``prefix`` is an item."""

    name: str
    dataset: str
    ref: str
    schema: Mapping[str, Any]
    prefix: str = ""
    rows: bool = False
    instructions: str = ""
    overlap: int = 1
    review: bool = False
    consensus: Consensus = Consensus.MAJORITY
    gold_every: int = 0
    most_skips: int = 3


@dataclass(frozen=True)
class Task:
    """An item with what has become of it. ``taken`` slots of ``overlap`` are leased or submitted."""

    id: UUID
    ordinal: int
    item: Item
    state: TaskState
    overlap: int
    taken: int
    submitted: int
    skips: int
    priority: float
    gold: Value | None
    prediction: Mapping[str, Any] | None
    label: Value | None
    source: Source | None
    decided_by: str | None
    comment: str
    updated_at: datetime


@dataclass(frozen=True)
class Slot:
    """One annotator's turn at a task; ``version`` is the current one of its annotation."""

    task_id: UUID
    annotator_id: UUID
    annotator: str
    state: SlotState
    version: int
    value: Value | None
    reason: str
    leased_until: datetime | None
    started_at: datetime
    submitted_at: datetime | None
    active: bool
    """Whether it is leased and the lease has not ended."""


@dataclass(frozen=True)
class Version:
    """A state of an annotation; none is ever overwritten."""

    task_id: UUID
    annotator: str
    version: int
    stage: Stage
    value: Value
    created_at: datetime


@dataclass(frozen=True)
class Submission:
    """An annotator's answer to a task, as agreement counts it."""

    task_id: UUID
    annotator: str
    value: Value


@dataclass(frozen=True)
class Workload:
    """What one annotator has done."""

    annotator: str
    leased: int
    submitted: int
    skipped: int
    gold_asked: int
    gold_right: int
    mean_s: float | None
    last_at: datetime | None


@dataclass(frozen=True)
class Counts:
    """How far a project is."""

    open: int
    review: int
    disputed: int
    done: int
    gold: int
    leased: int
    submissions: int
    last_hour: int

    @property
    def tasks(self) -> int:
        return self.open + self.review + self.disputed + self.done


@dataclass(frozen=True)
class Decision:
    """What follows from the answers to a task: its next state, and the label where there is one."""

    state: TaskState
    label: Value | None = None
