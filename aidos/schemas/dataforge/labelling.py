"""Wire schemas of labelling: projects, what annotators see and send, what reviewers see and say, files of labels."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire
from aidos.schemas.dataforge.label_exchange import Prefix
from aidos.schemas.dataforge.label_schema import Answers, LabelSchema
from aidos.schemas.dataforge.versions import FilePath, RefName

LabellingName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Share = Annotated[float, Field(ge=0, le=1)]
PixelCount = Annotated[int, Field(ge=1, le=1_000_000)]
RowNumber = Annotated[int, Field(ge=0, le=2**31 - 1)]


class TaskState(StrEnum):
    """OPEN → (annotators have answered) → DONE, by way of REVIEW or DISPUTED; a rejected review opens it again."""

    OPEN = "open"
    REVIEW = "review"
    DISPUTED = "disputed"
    DONE = "done"


class Consensus(StrEnum):
    """How several answers become one label: by heads, by heads weighted with their gold accuracy, or by an adjudicator."""

    MAJORITY = "majority"
    WEIGHTED = "weighted"
    ADJUDICATION = "adjudication"


class QueueOrder(StrEnum):
    """What the queue gives first. The uncertainties are of the predictions that were posted."""

    LISTED = "listed"
    RANDOM = "random"
    LEAST_CONFIDENCE = "least_confidence"
    MARGIN = "margin"
    ENTROPY = "entropy"


class Verdict(StrEnum):
    """What a reviewer says."""

    ACCEPT = "accept"
    CORRECT = "correct"
    REJECT = "reject"


class LabellingCreate(Asked):
    """A labelling project to be."""

    name: LabellingName
    dataset: Name
    ref: RefName = Field("main", description="Branch, tag or commit; the project stays at the commit that it is now.")
    questions: LabelSchema = Field(description="What is asked about each item.")
    prefix: Prefix = Field("", description="Only files whose paths begin with this; with `rows` the path of the file.")
    rows: bool = Field(False, description="Each row of the file (JSON Lines, CSV, Parquet) is an item, instead of each file.")
    instructions: Text = ""
    overlap: int = Field(1, ge=1, le=100, description="How many annotators answer each task.")
    review: bool = Field(False, description="Whether a reviewer accepts what the annotators agree on.")
    consensus: Consensus = Field(
        Consensus.MAJORITY, description="How answers become a label: by heads, by heads weighted with gold accuracy, or by an adjudicator."
    )
    gold_every: int = Field(0, ge=0, le=1000, description="An annotator's every n-th task is a gold question; 0: none.")
    most_skips: int = Field(3, ge=1, le=100, description="So many skips send a task to an adjudicator.")
    lease_s: int = Field(300, ge=5, le=86400, description="Seconds that a task is held without a sign of life, then it is another's.")


class LabellingUpdate(Asked):
    """What to change; what is left out stays."""

    instructions: Text | None = None
    review: bool | None = None
    consensus: Consensus | None = None
    gold_every: int | None = Field(None, ge=0, le=1000)
    most_skips: int | None = Field(None, ge=1, le=100)
    lease_s: int | None = Field(None, ge=5, le=86400)
    closed: bool | None = Field(None, description="Whether labelling has ended.")


class LabellingRead(Wire):
    """A labelling project."""

    id: UUID
    name: str
    dataset: str
    commit_id: UUID
    questions: dict[str, Any]
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


class GuideRead(Wire):
    """What an annotator needs to know: the questions and how to answer them."""

    name: str
    questions: dict[str, Any]
    instructions: str
    lease_s: int
    closed_at: datetime | None


class ItemRead(Wire):
    """What is labelled: a file, or a row of one with its columns."""

    path: str
    row: int | None
    data: dict[str, Any] | None
    size: tuple[int, int] | None = Field(description="Width and height of an image, where they are known.")


class AskedTaskRead(Wire):
    """A task as its annotator sees it. The file is `size_bytes` from `offset_bytes` of `url` (HTTP Range)."""

    id: UUID
    item: ItemRead
    state: str
    version: int
    value: dict[str, Any] | None = Field(description="The draft, or what was submitted.")
    leased_until: datetime | None
    prelabel: dict[str, Any] | None = Field(description="What a model would answer.")
    comment: str = Field(description="Why a reviewer sent it back.")
    url: str | None
    offset_bytes: int = 0
    size_bytes: int = 0
    headers: dict[str, str] = Field({}, description="To be sent with the request for `url`.")


class SlotRead(Wire):
    """An annotator's turn at a task."""

    task_id: UUID
    annotator: str
    state: str
    version: int
    value: dict[str, Any] | None
    reason: str
    leased_until: datetime | None
    started_at: datetime
    submitted_at: datetime | None


class TurnRead(Wire):
    """A task that the caller has had."""

    task_id: UUID
    path: str
    row_number: int | None
    state: str
    started_at: datetime
    submitted_at: datetime | None


class VersionRead(Wire):
    """A state that an answer had; none is overwritten."""

    version: int
    stage: str
    value: dict[str, Any]
    created_at: datetime


class VersionsRead(Wire):
    """The caller's answers to a task, oldest first."""

    versions: list[VersionRead]


class AnswerSet(Asked):
    """Answers by the question's name."""

    value: Answers


class TaskSubmit(AnswerSet):
    """An answer, with the size of the image that it was given to."""

    size: tuple[PixelCount, PixelCount] | None = Field(
        None, description="Width and height as the client saw them, kept where the platform does not look."
    )


class TaskSkip(Asked):
    """Why a task is left to others."""

    reason: Text = ""


class VersionRestore(Asked):
    """The version to go back to."""

    version: int = Field(ge=1, le=2**31 - 1)


class TaskRead(Wire):
    """A task as reviewers see it."""

    id: UUID
    item: ItemRead
    state: TaskState
    overlap: int
    taken: int
    reserved: int = Field(description="Slots that are kept for assignees.")
    assignees: list[str] = Field(description="Annotators for whom it is meant.")
    submitted: int
    skips: int
    priority: float
    gold: dict[str, Any] | None
    prediction: dict[str, Any] | None
    label: dict[str, Any] | None
    source: str | None
    decided_by: str | None
    comment: str
    updated_at: datetime


class TaskDetailRead(TaskRead):
    """A task with everybody's answers."""

    slots: list[SlotRead]


class TaskReview(Asked):
    """What a reviewer says."""

    verdict: Verdict
    value: Answers | None = Field(None, description="The right label, for `correct`.")
    comment: Text = Field("", description="Shown to the annotators when the task is sent back.")


class AssignmentSet(Asked):
    """Tasks, and the annotator for whom they are meant (or not any more)."""

    annotator: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="As `progress` or `member list` names them."
    )
    tasks: list[UUID] = Field(min_length=1, max_length=1000)


class AssignmentsRead(Wire):
    """How many tasks were assigned, or are not any more."""

    annotator: str
    tasks: int


class PredictionSet(Asked):
    """What a model thinks of an item."""

    path: FilePath
    row: RowNumber | None = None
    value: Answers | None = Field(None, description="The answer that annotators start from.")
    probabilities: dict[str, dict[str, Share]] = Field({}, max_length=50, description="Of each label, by question.")
    confidence: dict[str, Share] = Field({}, max_length=50, description="By question, where there are no probabilities.")


class PredictionsSet(Asked):
    """Predictions for up to 1,000 items."""

    model: Text = ""
    predictions: list[PredictionSet] = Field(min_length=1, max_length=1000)


class PredictionsRead(Wire):
    """How many items have one now."""

    items: int


class Rerank(Asked):
    """What the queue gives first."""

    order: QueueOrder
    seed: int = Field(0, ge=0, le=2**63 - 1, description="For `random`: another seed, another order.")


class WorkloadRead(Wire):
    """What an annotator has done; `mean_s`: seconds from the lease to the answer."""

    annotator: str
    leased: int
    submitted: int
    skipped: int
    gold_asked: int
    gold_right: int
    mean_s: float | None
    last_at: datetime | None


class ProgressRead(Wire):
    """How far the project is. `remaining_s`: at the pace of the last hour."""

    labelling: str
    tasks: int
    open: int
    review: int
    disputed: int
    done: int
    gold: int
    leased: int
    submissions: int
    last_hour: int
    remaining_s: float | None
    annotators: list[WorkloadRead]


class PairAgreementRead(Wire):
    """Cohen's κ of two annotators (quadratic weights where the labels are a scale)."""

    first: str
    second: str
    items: int
    kappa: float | None


class QuestionAgreementRead(Wire):
    """How far annotators agree on a question: Krippendorff's α, Fleiss' κ, and `mean`, the likeness of two answers (0 to 1)."""

    question: str
    kind: str
    items: int
    annotators: int
    mean: float | None
    alpha: float | None
    fleiss: float | None
    pairs: list[PairAgreementRead]


class AgreementRead(Wire):
    """Agreement by question."""

    questions: list[QuestionAgreementRead]


class AnnotatorRead(Wire):
    """How good an annotator's answers are: against gold, against the decided labels, and (Dawid–Skene) against the others'."""

    annotator: str
    submitted: int
    skipped: int
    gold_asked: int
    gold_right: int
    consensus: float | None
    accuracy: float | None


class AnnotatorsRead(Wire):
    """The annotators of a project."""

    annotators: list[AnnotatorRead]
