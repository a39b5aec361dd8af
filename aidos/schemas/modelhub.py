"""Wire schemas of ModelHub."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema

from aidos.schemas.common import Asked, Name, Text, Wire


class RunState(StrEnum):
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class VersionState(StrEnum):
    PENDING = "PENDING"
    READY = "READY"
    QUARANTINED = "QUARANTINED"
    REJECTED = "REJECTED"


class Flavour(StrEnum):
    ONNX = "onnx"
    SAFETENSORS = "safetensors"
    MLFLOW = "mlflow"


class NodeKind(StrEnum):
    FILE = "file"
    COMMIT = "commit"
    JOB = "job"
    RUN = "run"
    MODEL_VERSION = "model_version"
    ENDPOINT = "endpoint"
    PREDICTION = "prediction"
    DATASET = "dataset"
    PROMPT = "prompt"
    INDEX = "index"
    ADAPTER = "adapter"
    DEVICE = "device"


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    BOTH = "both"


def _check_path(path: str) -> str:
    if any(part in {"", ".", ".."} for part in path.split("/")) or "\\" in path:
        raise ValueError("must be a relative path with '/' between its parts, without '.', '..' and '\\'")
    return path


def _check_moment(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC) if 1970 < moment.year < 9000 else moment
    if not 1970 <= moment.year < 9000:
        raise ValueError("must be between the years 1970 and 9000")
    return moment


def _to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _from_json(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


Key = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,250}$")]
"""Name of a param, metric or tag: 1 to 250 characters, no control characters; ``/`` groups, as in ``train/loss``."""
Value = Annotated[str, StringConstraints(max_length=6000, pattern=r"^[^\x00]*$")]
ArtifactPath = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,500}$"), AfterValidator(_check_path)]
"""Path inside a run: relative, ``/`` between its parts."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
AliasName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,99}$")]
VersionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A number, an alias, or ``latest``."""
Reference = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f@]{1,100}@[^\x00-\x1f\x7f@]{1,200}$")]
Step = Annotated[int, Field(ge=-(2**53), le=2**53)]
Moment = Annotated[AwareDatetime, AfterValidator(_check_moment)]
MetricValue = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(_from_json),
    PlainSerializer(_to_json, return_type=float | str),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]
"""A number; JSON has no NaN and no infinity, so these are the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""


def _now() -> datetime:
    return datetime.now(UTC)


class ExperimentCreate(Asked):
    name: Name
    description: Text = ""


class ExperimentRead(Wire):
    id: UUID
    name: str
    description: str
    created_by: str
    created_at: datetime


def _check_run_id(id: UUID) -> UUID:
    if id.version != 7:
        raise ValueError("must be a UUID of version 7, which begins with the time")
    return id


RunId = Annotated[
    UUID,
    AfterValidator(_check_run_id),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"}),
]
"""Chosen by who begins the run: lists are in the order of ids, so they begin with the time (RFC 9562)."""


class RunCreate(Asked):
    id: RunId | None = Field(None, description="Asking twice with the same id is one run; one is chosen where none is given.")
    experiment: Name = Field("default", description="Name of the experiment; made if there is none.")
    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,100}$")] = Field("", description="Empty: one is chosen.")
    params: dict[Key, Value] = Field(default_factory=dict, max_length=1000)
    tags: dict[Key, Value] = Field(default_factory=dict, max_length=1000)
    inputs: list[Reference] = Field(default_factory=list, max_length=100, description="Datasets that the run reads, as `DATASET@REF`.")
    started_at: Moment | None = Field(None, description="Of a run that began before the platform could be told; now where none is given.")


class RunUpdate(Asked):
    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")] | None = None
    state: RunState | None = Field(None, description="End a run, or resume one that FAILED or was KILLED.")
    ended_at: Moment | None = Field(None, description="When a run ended that ends with this; now where none is given.")


class LatestRead(Wire):
    value: MetricValue
    step: int
    at: datetime


class RunRead(Wire):
    id: UUID
    experiment_id: UUID
    experiment: str
    name: str
    state: RunState
    job_id: UUID | None
    created_by: str
    started_at: datetime
    ended_at: datetime | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, LatestRead] = Field(description="Each metric at its highest step.")


class ParamsLog(Asked):
    params: dict[Key, Value] = Field(min_length=1, max_length=1000)


class TagsSet(Asked):
    tags: dict[Key, Value | None] = Field(min_length=1, max_length=1000, description="null removes a tag.")


class PointLog(Asked):
    key: Key
    value: MetricValue
    step: Step = 0
    at: Moment = Field(default_factory=_now)


class MetricsLog(Asked):
    points: list[PointLog] = Field(min_length=1, max_length=5000)


class PointRead(Wire):
    key: str
    value: MetricValue
    step: int
    at: datetime


class ArtifactAnnounce(Asked):
    path: ArtifactPath
    sha256: Sha256
    size_bytes: int = Field(ge=0, le=5 * 2**30)


class ArtifactsAnnounce(Asked):
    files: list[ArtifactAnnounce] = Field(min_length=1, max_length=500)


class ArtifactRead(Wire):
    path: str
    sha256: str = Field(description="Empty where a client sent the bytes in parts, straight to the object store.")
    size_bytes: int
    stored: bool
    created_at: datetime


class ArtifactUpload(Wire):
    path: str
    upload_url: str | None = Field(description="PUT the bytes here; null: they are stored already.")


class ArtifactUploads(Wire):
    files: list[ArtifactUpload]


class ArtifactPaths(Asked):
    paths: list[ArtifactPath] = Field(min_length=1, max_length=500)


class ArtifactList(Wire):
    files: list[ArtifactRead]


class FileDownload(Wire):
    path: str
    sha256: str
    size_bytes: int
    url: str = Field(description="GET the bytes here.")


class FileDownloads(Wire):
    files: list[FileDownload]
    warning: str | None = Field(None, description="Why they should not be used: their version is deprecated.")


class ModelCreate(Asked):
    name: Name
    description: Text = ""


class ModelRead(Wire):
    id: UUID
    name: str
    description: str
    last_version: int
    self_approval: bool = Field(description="Who registered a version may approve it.")
    aliases: dict[str, int] = Field(description="Version number by alias.")
    created_by: str
    created_at: datetime


class VersionCreate(Asked):
    run_id: UUID
    flavour: Flavour
    artifacts: list[ArtifactPath] = Field(min_length=1, max_length=200, description="Paths of the run's artifacts that make the model.")
    description: Text = ""


class ModelFileRead(Wire):
    path: str
    size_bytes: int
    sha256: str


class DeprecationRead(Wire):
    reason: str
    replacement: int | None = Field(description="Number of the version to be used instead.")
    author: str
    at: datetime


class FindingRead(Wire):
    """What in a file could run code or lead out of it."""

    kind: str
    severity: str = Field(description="`critical`, `high` or `medium`.")
    path: str = Field(description="The file, and behind `!` the member of an archive.")
    detail: str


class VersionRead(Wire):
    id: UUID
    model: str
    version: int
    run_id: UUID | None
    flavour: Flavour
    state: VersionState
    reason: str = Field(description="Why it was rejected, or is never served.")
    description: str
    signature: dict[str, Any] | None = Field(description="`inputs` and `outputs`, each with `name`, `dtype` and `shape`.")
    files: list[ModelFileRead]
    aliases: list[str]
    tags: dict[str, str]
    card: str = Field(description="Markdown; README.md among the files, until it is changed.")
    licence: str = Field(description="As the front matter of README.md names it.")
    requirements: list[str] = Field(description="Lines of requirements.txt among the files.")
    input_example: Any = Field(description="As MLmodel names it, or input_example.json among the files.")
    deprecation: DeprecationRead | None
    findings: list[FindingRead] = Field(description="Why it is QUARANTINED, the worst first.")
    created_by: str
    created_at: datetime


class VersionUpdate(Asked):
    """What of a version is prose; what is absent stays."""

    description: Text | None = None
    card: Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$")] | None = Field(None, description="Markdown.")
    tags: dict[Key, Value | None] = Field(default_factory=dict, max_length=100, description="Null removes one.")


class AliasMove(Asked):
    version: VersionName
    expected_version: int | None = Field(None, ge=0, lt=2**31, description="The version that the alias must name now; 0: none.")


class NodeRead(Wire):
    kind: NodeKind
    id: str
    label: str


class EdgeRead(Wire):
    source: NodeRead
    target: NodeRead
    relation: str


class GraphRead(Wire):
    start: NodeRead
    edges: list[EdgeRead]
    truncated: bool = Field(description="There is more than was walked.")
    cut_by: list[Literal["edges", "depth"]] = Field(description="The limits that there is more behind; empty: this is all.")
