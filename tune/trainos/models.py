"""Jobs, their states, logs and checkpoints."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

GAVE_WAY = 75
"""Exit code of a command that was asked to give way and left with work left: EX_TEMPFAIL of ``sysexits.h``, "try again later"."""
SECRETS_REFUSED, SECRETS_AWAY = 119, 118
"""Exit codes of an attempt that did not begin, where the job has secrets: it may not have one, or the platform gave no answer."""


class JobState(enum.StrEnum):
    """Where a job is. Final: SUCCEEDED, FAILED, CANCELLED."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PREEMPTING = "PREEMPTING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return not TRANSITIONS[self]


_S = JobState
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    # A job that the platform lost, or that gave way to another, goes back to QUEUED as its next attempt.
    _S.QUEUED: frozenset({_S.STARTING, _S.FAILED, _S.CANCELLED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.QUEUED, _S.PREEMPTING, _S.CANCELLING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.PREEMPTING, _S.CANCELLING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PREEMPTING: frozenset({_S.QUEUED, _S.CANCELLING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.CANCELLING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class Origin(enum.StrEnum):
    """Through which door a job came."""

    AIDOS = "aidos"
    RAY = "ray"


class Trust(enum.StrEnum):
    """Where a job's code runs: in Ray workers, where it can do what the cluster can, or in a sandbox."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True)
class Resources:
    """What a job leases while it runs: its driver and all its workers together."""

    cpu: float = 0.0
    gpu: float = 0.0
    memory_gib: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpu + other.cpu, self.gpu + other.gpu, self.memory_gib + other.memory_gib)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpu - other.cpu, self.gpu - other.gpu, self.memory_gib - other.memory_gib)

    def __mul__(self, times: float) -> Resources:
        return Resources(self.cpu * times, self.gpu * times, self.memory_gib * times)

    def at_most(self, other: Resources) -> Resources:
        """The smaller of each."""
        return Resources(min(self.cpu, other.cpu), min(self.gpu, other.gpu), min(self.memory_gib, other.memory_gib))


@dataclass(frozen=True)
class Input:
    """A dataset at the commit that its reference meant when the job was submitted."""

    reference: str
    dataset: str
    commit_id: UUID


@dataclass(frozen=True)
class GitCode:
    """Code as it is in a commit of a repository that anyone may read."""

    git: str
    commit: str


@dataclass(frozen=True)
class JobSpec:
    """What is asked for; stored as JSON."""

    name: str
    command: tuple[str, ...]
    code_sha256: str | None = None
    code: GitCode | None = None
    """In place of an uploaded package."""
    requirements: str | None = None
    """A file of the code: packages that the job's processes find beside the platform's."""
    datasets: tuple[str, ...] = ()
    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    memory_gib_per_worker: float = 0.0
    driver_cpus: float = 1.0
    experiment: str | None = None
    timeout_s: int | None = None
    max_retries: int = 3
    priority: int = 0
    preemptible: bool = True
    max_restarts_on_errors: int = 0
    after: tuple[str, ...] = ()
    resume_from: str | None = None
    """``JOB_ID`` or ``JOB_ID@STEP``: the job whose checkpoint this one begins with."""
    array: str | None = None
    """The indices of the jobs of an array, as ``aidos.schemas.job_arrays`` reads them."""
    trust: Trust = Trust.TRUSTED
    secrets: Mapping[str, str] = field(default_factory=dict)
    """By the variable that holds it in the job's environment, the name of a secret of the project."""

    @property
    def resources(self) -> Resources:
        """Driver and workers together."""
        workers = Resources(
            self.workers * self.cpus_per_worker, self.workers * self.gpus_per_worker, self.workers * self.memory_gib_per_worker
        )
        return workers + Resources(cpu=self.driver_cpus)

    def to_json(self) -> dict[str, Any]:
        lists = {"command": list(self.command), "datasets": list(self.datasets), "after": list(self.after)}
        return {**self.__dict__, **lists, "code": self.code.__dict__ if self.code else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobSpec:
        """Raises: TypeError where a field is unknown."""
        tuples = {name: tuple(data[name]) for name in ("command", "datasets", "after") if name in data}
        code, trust = GitCode(**data["code"]) if data.get("code") else None, Trust(data.get("trust", Trust.TRUSTED))
        return cls(**{**data, **tuples, "code": code, "trust": trust})


@dataclass(frozen=True)
class Submitter:
    """What who submitted a job may do: its code may do no more."""

    role: str | None = None
    scopes: tuple[str, ...] | None = None
    account_id: UUID | None = None

    def to_json(self) -> dict[str, Any]:
        return {"role": self.role, "scopes": self.scopes, "account_id": str(self.account_id) if self.account_id else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Submitter:
        scopes, account = data["scopes"], data["account_id"]
        return cls(data["role"], None if scopes is None else tuple(scopes), UUID(account) if account else None)


@dataclass(frozen=True)
class Array:
    """The array that a job is, or that it has a place in: then with its index. ``at_once``: how many of ``size`` may run."""

    id: UUID
    index: int | None
    size: int
    at_once: int | None


@dataclass(frozen=True)
class Job:
    """A job as it is stored. ``submission_id`` names its current attempt in Ray. An array is one that runs nothing itself."""

    id: UUID
    org_id: UUID
    project_id: UUID
    project_name: str
    name: str
    origin: Origin
    spec: JobSpec
    inputs: tuple[Input, ...]
    state: JobState
    reason: str
    exit_code: int | None
    run_id: UUID | None
    attempt: int
    submission_id: str | None
    ray_session: str | None
    log_directory: str | None
    lease_id: UUID | None
    created_by: str
    submitter: Submitter
    traceparent: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int = 0
    token_renewed_at: datetime | None = None
    lock_token: UUID | None = None
    admitted_at: datetime | None = None
    priority: int = 0
    held_by: str | None = None
    waits: bool = False
    due_at: datetime | None = None
    preempted_at: datetime | None = None
    preempted_for: str | None = None
    preemptions: int = 0
    restarts: int = 0
    is_array: bool = False
    array_id: UUID | None = None
    array_index: int | None = None
    array_size: int | None = None
    array_limit: int | None = None

    @property
    def resources(self) -> Resources:
        return self.spec.resources

    @property
    def array(self) -> Array | None:
        """None for a job that has to do with none."""
        return None if self.array_size is None else Array(self.array_id or self.id, self.array_index, self.array_size, self.array_limit)

    @property
    def is_told(self) -> bool:
        """Whether its states are told: for a job of an array that has never begun its array tells."""
        return self.array_id is None or self.attempt > 0


@dataclass(frozen=True)
class LogEnd:
    """Where the kept log of a job ends: its last chunk, its length, and how much of the current attempt's file is kept."""

    seq: int = 0
    size_bytes: int = 0
    attempt_offset_bytes: int = 0


@dataclass(frozen=True)
class LogChunk:
    """A piece of a job's log in the object store, in the order of ``seq`` (from 1) without gaps."""

    seq: int
    attempt: int
    key: str
    offset_bytes: int
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class CheckpointFile:
    """One file of a checkpoint by its relative path."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint that is to be listed."""

    step: int
    files: tuple[CheckpointFile, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a job stay: the ``last`` highest steps, and the ``best`` by ``metric`` beside them."""

    last: int
    best: int = 0
    metric: str | None = None
    mode: str = "min"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: the row exists only when every file is in the store."""

    id: UUID
    job_id: UUID
    step: int
    files: tuple[CheckpointFile, ...]
    size_bytes: int
    metrics: Mapping[str, float]
    attempt: int
    created_at: datetime


class RayState(enum.StrEnum):
    """Ray's own words for a submission."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class RayJob:
    """What Ray says of a submission."""

    submission_id: str
    state: RayState
    entrypoint: str = ""
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    node_id: str | None = None
    started_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in {RayState.STOPPED, RayState.SUCCEEDED, RayState.FAILED}


@dataclass(frozen=True)
class Outcome:
    """What one step of the reconciler came to. ``changes`` are columns of the job, ``again_s`` when to look again."""

    state: JobState
    reason: str = ""
    exit_code: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    again_s: float = 1.0
