"""Labelling projects, their tasks, who holds them, and what was answered."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from aidos.schemas.dataforge.labelling import Consensus, QueueOrder, TaskState
from data_pipelines.dataforge.models import StoredBlob

Value = Mapping[str, Any]
"""Answers by the question's name, in canonical form (``labels.check_value``)."""
Size = tuple[int, int]
"""Width and height of an image in pixels."""


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
    questions: Mapping[str, Any]
    instructions: str
    overlap: int
    review: bool
    consensus: Consensus
    gold_every: int
    most_skips: int
    lease_s: int
    order: QueueOrder
    created_by: str
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class LabellingSpec:
    """A labelling project that is asked for. ``rows``: each row of the file at ``prefix`` is an item."""

    name: str
    dataset: str
    ref: str
    questions: Mapping[str, Any]
    prefix: str = ""
    rows: bool = False
    instructions: str = ""
    overlap: int = 1
    review: bool = False
    consensus: Consensus = Consensus.MAJORITY
    gold_every: int = 0
    most_skips: int = 3
    lease_s: int = 300


@dataclass(frozen=True)
class Task:
    """An item with what has become of it.

    ``taken`` slots of ``overlap`` are leased or submitted, ``reserved`` are kept for those ``assignees`` who hold none.
    """

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
    reserved: int = 0
    assignees: Sequence[str] = ()


@dataclass(frozen=True)
class Slot:
    """One annotator's turn at a task; ``version`` is the current one of its annotation."""

    task_id: UUID
    annotator_id: UUID
    annotator: str
    state: SlotState
    version: int
    submitted_version: int | None
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
    gold_asked: int = 0
    gold_right: int = 0


@dataclass(frozen=True)
class Annotator:
    """Who labels in a project: how many tasks they were given, and how they did on gold questions."""

    annotator_id: UUID
    annotator: str
    asked: int
    gold_asked: int
    gold_right: int


@dataclass(frozen=True)
class Turn:
    """A task that an annotator has had."""

    task_id: UUID
    path: str
    row_number: int | None
    state: SlotState
    started_at: datetime
    submitted_at: datetime | None


@dataclass(frozen=True)
class Asked:
    """A task as its annotator sees it: nothing of gold, of other answers, of what was decided.

    The file is ``size_bytes`` from ``offset_bytes`` of ``url``, which is asked with ``headers``.
    """

    id: UUID
    item: Item
    state: SlotState
    version: int
    value: Value | None
    leased_until: datetime | None
    prelabel: Value | None
    comment: str
    url: str | None = None
    offset_bytes: int = 0
    size_bytes: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


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
        return self.open + self.review + self.disputed + self.done + self.gold

    def as_dict(self, overlap: int) -> dict[str, Any]:
        """The counts with their sum, and the seconds that the open tasks take at the last hour's pace."""
        left = max(0, (self.tasks - self.gold) * overlap - self.submissions) if self.open else 0
        remaining_s = left / self.last_hour * 3600 if self.last_hour else None
        return {**dataclasses.asdict(self), "tasks": self.tasks, "remaining_s": remaining_s}


@dataclass(frozen=True)
class Decision:
    """What follows from the answers to a task: its next state, and the label where there is one."""

    state: TaskState
    label: Value | None = None


@dataclass(frozen=True)
class Prediction:
    """What a model thinks of an item: an answer, and how sure it is, by question."""

    path: str
    row: int | None
    value: Value | None
    probabilities: Mapping[str, Mapping[str, float]]
    confidence: Mapping[str, float]
    model: str

    @property
    def key(self) -> str:
        return Item(self.path, self.row).key


@dataclass(frozen=True)
class Exported:
    """Files of an export by name: where each lies in a stored object, and the URL of that object; an empty file has none."""

    records: int
    files: Mapping[str, StoredBlob]
    urls: Mapping[str, str]
