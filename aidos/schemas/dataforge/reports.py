"""Wire schemas of reports: what can be asked of a commit, and what comes back."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.dataforge.labelling import LabellingName
from aidos.schemas.dataforge.synthesis import Generator
from aidos.schemas.dataforge.versions import FilePath, RefName

RESULT_BYTES = 1_500_000
"""Largest result; what is longer is a ranking that the pipeline cuts."""
Column = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class ReportKind(StrEnum):
    """What can be asked of a commit."""

    PROFILE = "profile"
    DRIFT = "drift"
    EXPECTATIONS = "expectations"
    LABEL_ERRORS = "label_errors"
    OUTLIERS = "outliers"
    SYNTHESIZE = "synthesize"
    PRELABEL = "prelabel"


class ReportParams(Asked):
    """Base of the parameters of a kind. ``REFS``: fields that are refs of the dataset, fixed to commits when the report is asked for."""

    REFS: ClassVar[tuple[str, ...]] = ()


class ProfileParams(ReportParams):
    """What to look at besides every column."""

    label: Column | None = Field(None, description="Column whose classes are counted as labels.")
    split: Column | None = Field(
        None, description="Column that says which split a row is in; else the path says it: train, test, validation."
    )
    text: Column | None = Field(None, description="Column of texts among which nearly equal ones are looked for.")


class DriftParams(ReportParams):
    """What the commit is compared with, and when a difference counts."""

    REFS: ClassVar[tuple[str, ...]] = ("base",)
    base: RefName = Field(description="Branch, tag or commit id that the commit is compared with.")
    label: Column | None = Field(None, description="Column whose classes are compared as labels.")
    alpha: float = Field(0.01, gt=0, lt=1, description="Chance of marking any column where none has changed, over all columns.")
    least: float = Field(0.05, ge=0, le=1, description="Smallest difference that is marked: of distributions, or of shares.")


class ExpectationsParams(ReportParams):
    """Nothing: what is expected stands in the commit, in `.aidos/expectations.yaml`."""


class OutliersParams(ReportParams):
    """Of what examples are made."""

    files: FilePath | None = Field(None, description="Only files that match this: a path, or a pattern with * and ?.")
    embedding: Column | None = Field(None, description="Column of vectors; else the numbers and categories of rows, the pixels of images.")
    top: int = Field(1000, ge=1, le=5000, description="How many are ranked.")


class LabelErrorsParams(OutliersParams):
    """Of what examples and labels are made."""

    label: Column | None = Field(None, description="Column of labels; images have their folder's name.")
    split: Column | None = Field(None, description="Column to leave out of what the model sees.")
    folds: int = Field(5, ge=2, le=20, description="Parts of the cross-validation.")


class PrelabelParams(ReportParams):
    """Which endpoint gives the first answers of a labelling project over this commit, and how it takes the items."""

    labelling: LabellingName
    endpoint: Name
    question: Name | None = Field(None, description="What it answers; absent: the first question that endpoints answer.")
    threshold: float = Field(0.5, ge=0, le=1, description="Least score of one of several labels, of a box or of a span.")
    first_label: int = Field(
        0, ge=0, le=1000, description="Number that the model gives the first label of boxes or spans; 1 where 0 is none."
    )
    relative: bool = Field(False, description="Whether it gives boxes in shares of the image, instead of pixels of what it was shown.")
    largest: float = Field(1.0, gt=0, le=255, description="What the model takes for the brightest pixel.")
    columns: list[Column] = Field([], max_length=10_000, description="Columns of a row, in the order in which the model takes them.")
    round: int = Field(0, ge=0, le=10**9, description="Another number asks anew, when the endpoint has another model.")


class SynthesizeParams(ReportParams):
    """What synthetic data to make of the commit, and where it goes."""

    out: Name = Field(description="Dataset that gets the commit; made if it is not there.")
    branch: Name = Field("main", description="Its branch: a new one, or one that holds synthetic data.")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed, the same data; under privacy another draw of the same noise.")
    generator: Generator


PARAMS: dict[ReportKind, type[ReportParams]] = {
    ReportKind.PROFILE: ProfileParams,
    ReportKind.DRIFT: DriftParams,
    ReportKind.EXPECTATIONS: ExpectationsParams,
    ReportKind.LABEL_ERRORS: LabelErrorsParams,
    ReportKind.OUTLIERS: OutliersParams,
    ReportKind.SYNTHESIZE: SynthesizeParams,
    ReportKind.PRELABEL: PrelabelParams,
}
"""The parameters of each kind."""


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    """What PostgreSQL keeps as jsonb: no NaN, no NUL, no half of a surrogate pair. Raises: ValueError."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if len(text.encode()) > RESULT_BYTES:
        raise ValueError(f"must have at most {RESULT_BYTES} bytes as JSON")
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("must not contain NUL")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]


class ReportCreate(Asked):
    """A question about a commit."""

    kind: ReportKind
    ref: RefName = Field("main", description="Branch, tag or commit id.")
    params: JsonObject = Field({}, description="Parameters of the kind.")
    workers: int = Field(2, ge=1, le=1000, description="Workers that share the commit's files.")
    cpus_per_worker: float = Field(0.5, ge=0.1, le=64)
    memory_gib_per_worker: float = Field(0.0, ge=0, le=1000)

    @model_validator(mode="after")
    def _fill_params(self) -> ReportCreate:
        self.params = PARAMS[self.kind].model_validate(self.params).model_dump(mode="json")
        return self


class ProgressSet(Asked):
    """How far a report's job is."""

    stage: Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")]
    done: int = Field(ge=0, le=2**62)
    total: int = Field(ge=0, le=2**62, description="0: not known yet.")


class ResultSet(Asked):
    """What a report's job found."""

    result: JsonObject


class ProgressRead(Wire):
    """How far a report's job is in its present stage."""

    stage: str
    done: int
    total: int


class ReportRead(Wire):
    """What a pipeline finds out about a commit."""

    id: UUID
    dataset: str
    commit_id: UUID
    kind: str
    params: dict[str, Any]
    state: str = Field(description="The job's: QUEUED, STARTING, RUNNING, CANCELLING; then SUCCEEDED with a result, else FAILED.")
    reason: str = Field(description="Why it waits or failed.")
    job_id: UUID | None
    progress: ProgressRead | None
    result: dict[str, Any] | None = Field(description="What was found, once SUCCEEDED; not in lists.")
    created_by: str
    created_at: datetime
    finished_at: datetime | None
