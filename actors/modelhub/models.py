"""Experiments, runs, models and the graph between them: the nouns of ModelHub."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class RunState(enum.StrEnum):
    """Where a run stands."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.RUNNING: frozenset({RunState.FINISHED, RunState.FAILED, RunState.KILLED}),
    RunState.FINISHED: frozenset(),
    # A job that is retried after a crash goes on in the run that it began.
    RunState.FAILED: frozenset({RunState.RUNNING}),
    RunState.KILLED: frozenset({RunState.RUNNING}),
}


class VersionState(enum.StrEnum):
    """A version is PENDING until its bytes were inspected; only a READY one can be served.

    QUARANTINED: its files can hold code. It is kept, takes an alias and is given to who may read it, and is never served.
    """

    PENDING = "PENDING"
    READY = "READY"
    QUARANTINED = "QUARANTINED"
    REJECTED = "REJECTED"


VERSION_TRANSITIONS: Mapping[VersionState, frozenset[VersionState]] = {
    VersionState.PENDING: frozenset({VersionState.READY, VersionState.QUARANTINED, VersionState.REJECTED}),
    VersionState.READY: frozenset(),
    VersionState.QUARANTINED: frozenset(),
    VersionState.REJECTED: frozenset(),
}


class Flavour(enum.StrEnum):
    """ONNX and safetensors are loaded here: neither can hold code. An MLflow model of any other format is kept and never loaded."""

    ONNX = "onnx"
    SAFETENSORS = "safetensors"
    MLFLOW = "mlflow"


class NodeKind(enum.StrEnum):
    """What stands in the lineage graph. A ``dataset`` is one that lies elsewhere, named by namespace and name as OpenLineage does."""

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


class Direction(enum.StrEnum):
    """``up``: what it came from; ``down``: what came of it."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


@dataclass(frozen=True)
class Experiment:
    id: UUID
    project_id: UUID
    name: str
    description: str
    created_by: str
    created_at: datetime
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Latest:
    """The value of a metric at its highest step."""

    value: float
    step: int
    at: datetime


@dataclass(frozen=True)
class Run:
    id: UUID
    project_id: UUID
    experiment_id: UUID
    experiment: str
    name: str
    state: RunState
    job_id: UUID | None
    created_by: str
    started_at: datetime
    ended_at: datetime | None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Latest] = field(default_factory=dict)
    deleted_at: datetime | None = None
    linked: bool = False
    """Whether datasets or logged models belong to it; only searches look."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Run:
        """From a row whose params, tags and metrics are JSON; JSON has no NaN, so that values come as text."""
        metrics = {key: Latest(float(value), step, datetime.fromisoformat(at)) for key, (value, step, at) in (row["metrics"] or {}).items()}
        state = RunState(row["state"])
        return cls(**{**row, "state": state, "params": row["params"] or {}, "tags": row["tags"] or {}, "metrics": metrics})


@dataclass(frozen=True)
class DatasetInput:
    """Data that a run was given: its name and digest by whoever logged it; ``source`` says where it lies."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFilter:
    """Which runs to list; None: any."""

    experiment_id: UUID | None = None
    state: RunState | None = None
    job_id: UUID | None = None


@dataclass(frozen=True)
class Node:
    """A thing in the lineage graph. ``id`` is a UUID, or the SHA-256 of a file; ``label`` is what a person calls it."""

    kind: NodeKind | str
    id: str
    label: str = ""


@dataclass(frozen=True)
class RunSpec:
    """What a new run is asked to be; ``inputs`` become lineage edges into it. ``started_at``: None is now. ``id``: None makes one."""

    experiment: str
    name: str = ""
    job_id: UUID | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Node, ...] = ()
    started_at: datetime | None = None
    id: UUID | None = None


@dataclass(frozen=True)
class Point:
    """One value of a metric; it may be NaN or infinite."""

    key: str
    value: float
    step: int
    at: datetime


@dataclass(frozen=True)
class ArtifactSpec:
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Artifact:
    """A file of a run, of a logged model or of a trace. ``key`` is where S3 has it; its bytes are there once ``stored``.

    ``sha256`` is empty where the bytes went to the store in parts, past the platform.
    """

    id: UUID
    project_id: UUID
    owner_id: UUID
    path: str
    key: str
    sha256: str
    size_bytes: int
    stored: bool
    created_at: datetime


@dataclass(frozen=True)
class Model:
    id: UUID
    project_id: UUID
    name: str
    description: str
    last_version: int
    created_by: str
    created_at: datetime
    aliases: Mapping[str, int] = field(default_factory=dict)
    updated_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    self_approval: bool = False
    """Who registered a version may approve it."""


@dataclass(frozen=True)
class ModelFile:
    """A file of a version. ``key`` is the copy that was inspected and that no client can write; until READY, the artifact's."""

    path: str
    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class VersionSpec:
    """What to register: files of a run by their artifact paths."""

    run_id: UUID
    flavour: Flavour
    artifacts: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True)
class VersionOrigin:
    """Where a version came from, as the client named it; ``logged_model_id`` where it was a logged model."""

    source: str = ""
    run_link: str = ""
    logged_model_id: UUID | None = None


@dataclass(frozen=True)
class Finding:
    """What in a file could run code or lead out of it. ``path``: the file in the version, and behind ``!`` the member of an archive."""

    kind: str
    severity: str
    path: str
    detail: str


@dataclass(frozen=True)
class Deprecation:
    """Why a version is to be used no more, and which one instead."""

    reason: str
    replacement: int | None
    author: str
    at: datetime

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Deprecation:
        return cls(**{**stored, "at": datetime.fromisoformat(stored["at"])})


@dataclass(frozen=True)
class ModelVersion:
    id: UUID
    org_id: UUID
    project_id: UUID
    model_id: UUID
    model: str
    version: int
    run_id: UUID | None
    flavour: Flavour
    state: VersionState
    reason: str
    description: str
    signature: Mapping[str, Any] | None
    created_by: str
    created_at: datetime
    attempts: int
    traceparent: str | None = None
    deprecation: Deprecation | None = None
    findings: tuple[Finding, ...] = ()
    card: str = ""
    licence: str = ""
    requirements: tuple[str, ...] = ()
    input_example: Any = None
    files: tuple[ModelFile, ...] = ()
    aliases: tuple[str, ...] = ()
    origin: VersionOrigin = field(default_factory=lambda: VersionOrigin())
    stage: str = "None"
    updated_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ModelVersion:
        """From a row whose files are JSON arrays and whose origin is in columns of its own, where it was asked for."""
        named = {name: value for name, value in row.items() if name not in VersionOrigin.__dataclass_fields__}
        origin = VersionOrigin(**{name: row[name] for name in VersionOrigin.__dataclass_fields__ if name in row})
        return cls(
            **{
                **named,
                "flavour": Flavour(row["flavour"]),
                "state": VersionState(row["state"]),
                "files": tuple(ModelFile(*file) for file in row["files"] or ()),
                "aliases": tuple(row["aliases"] or ()),
                "origin": origin,
                "requirements": tuple(row["requirements"]),
                "tags": row["tags"] or {},
                "findings": tuple(Finding(**found) for found in row["findings"]),
                "deprecation": Deprecation.from_json(row["deprecation"]) if row["deprecation"] else None,
            }
        )

    @property
    def reference(self) -> str:
        """``digits@3``."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class Edge:
    """``source`` went into ``target``; ``relation`` says how."""

    source: Node
    target: Node
    relation: str


@dataclass(frozen=True)
class Graph:
    """The part of the lineage that was walked from ``start``; ``cut_by`` names the limits, ``edges`` or ``depth``, that there is more behind."""

    start: Node
    edges: tuple[Edge, ...]
    cut_by: tuple[str, ...] = ()

    @property
    def truncated(self) -> bool:
        return bool(self.cut_by)
