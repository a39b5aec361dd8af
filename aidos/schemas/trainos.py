"""Wire shapes of TrainOS: jobs and their logs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.job_arrays import ArrayRead, ArrayText

MAX_CODE_BYTES = 50_000_000
_LONGEST_ARRAY_NAME = 93
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Argument = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
JobReference = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[A-Za-z0-9][A-Za-z0-9._/-]{0,199})?$")]


def _require_relative(path: str) -> str:
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise ValueError("must be a relative path without '.' and '..'")
    return path


FilePath = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\\]{1,500}$"), AfterValidator(_require_relative)]
"""A relative path with forward slashes and without ``.`` and ``..``."""


def _require_requirements(path: str) -> str:
    if path.endswith((".yml", ".yaml")):
        raise ValueError("must be a requirements file: a conda environment cannot be made here. Name its packages as pip does")
    if path.endswith((".lock", ".toml")):
        raise ValueError("must be a requirements file: `uv export --frozen --no-emit-project -o requirements.txt` writes a lock as one")
    return path


def _require_open(url: str) -> str:
    if not re.fullmatch(r"(https?|git)://[^\s\x00-\x1f@]+", url):
        raise ValueError("must be https://… with no user, password or token: what a job fetches anyone may read. Else pack the directory")
    return url


def _require_free(variable: str) -> str:
    if variable.startswith(("AIDOS_", "RAY_")):
        raise ValueError("must be another variable: those that begin with AIDOS_ or RAY_ are the platform's")
    return variable


Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"), AfterValidator(_require_free)]
"""A variable of the environment."""


class GitCodeBody(Asked):
    """Code as it is in a commit of a repository that anyone may read."""

    git: Annotated[str, StringConstraints(max_length=500), AfterValidator(_require_open)]
    commit: str = Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$", description="Its full id.")


class GitCodeRead(Wire):
    """Code as it is in a commit of a repository."""

    git: str
    commit: str


class CodeUpload(Asked):
    """A packed directory that is to be uploaded."""

    sha256: Sha256
    size_bytes: int = Field(ge=1, le=MAX_CODE_BYTES, description="Size of the zip file; at most 50 MB.")


class CodeUploadRead(Wire):
    """Where to PUT the package; no URL when it is there already."""

    sha256: str
    upload_url: str | None


class JobCreate(Asked):
    """A job that is to be queued."""

    name: Name
    command: list[Argument] = Field(min_length=1, max_length=500, description="The program and its arguments; `python` is the platform's.")
    code_sha256: Sha256 | None = Field(None, description="The uploaded package that the command runs in.")
    code: GitCodeBody | None = Field(None, description="In place of a package: a commit, fetched when the job starts.")
    requirements: Annotated[FilePath, AfterValidator(_require_requirements)] | None = Field(
        None, description="A requirements file of the code: its packages are installed before the command starts, beside the platform's."
    )
    datasets: list[Reference] = Field([], max_length=50, description="Datasets by reference, as `digits@main`; fixed to commits now.")
    workers: int = Field(1, ge=0, le=10_000, description="Workers, started all or none.")
    cpus_per_worker: float = Field(1.0, ge=0, le=10_000)
    gpus_per_worker: float = Field(0.0, ge=0, le=10_000)
    memory_gib_per_worker: float = Field(0.0, ge=0, le=100_000)
    driver_cpus: float = Field(1.0, ge=0, le=1_000, description="CPUs of the process that runs the command itself.")
    experiment: Name | None = Field(None, description="Experiment of the run; the job's name when absent.")
    timeout_s: int | None = Field(None, ge=1, le=31_536_000, description="Longest that an attempt may run.")
    max_retries: int = Field(3, ge=0, le=100, description="How often the job is begun again after the platform lost it.")
    max_restarts_on_errors: int = Field(0, ge=0, le=100, description="How often it is begun again after its own command failed.")
    priority: int = Field(0, ge=-1000, le=1000, description="Among the jobs of the project the higher goes first.")
    preemptible: bool = Field(True, description="Whether it may be asked to save a checkpoint and give way.")
    after: list[JobReference] = Field([], max_length=100, description="Jobs, by name or id, that must succeed before it starts.")
    array: ArrayText | None = Field(
        None, description="Queue a job for each index, as `0-99`, `1,3,7-9` or `0-15:4`; with `%8` behind at most 8 of them at once."
    )
    trust: Literal["trusted", "untrusted"] = Field(
        "trusted",
        description="`untrusted`: in a sandbox without network, whose one worker is the command; on CPUs, in 2 GiB of memory unless it asks for more.",
    )

    secrets: dict[Variable, Name] = Field(
        {}, max_length=50, description="Secrets of the project, by the variable in which the job finds the value: `DB=prod-database-url`."
    )

    @model_validator(mode="after")
    def _has_one_code(self) -> JobCreate:
        if self.code is not None and self.code_sha256 is not None:
            raise ValueError("code and code_sha256 name two codes: give one of them")
        if self.array is not None and len(self.name) > _LONGEST_ARRAY_NAME:
            raise ValueError(f"the name of an array has at most {_LONGEST_ARRAY_NAME} characters: those of its jobs end with their index")
        return self


class JobOutlook(Wire):
    """What a job would do if it were submitted now."""

    resources: ResourcesRead = Field(description="Of the job, or of each job of an array.")
    jobs: int = Field(description="How many jobs it would be.")
    run_s: float = Field(description="How long it runs: the median of such jobs, else its limit, else an hour.")
    run_at_least_s: float = Field(description="Nine of ten such jobs run longer.")
    run_at_most_s: float = Field(description="Nine of ten such jobs run shorter.")
    forecast: ForecastRead | None = Field(description="When it starts and ends; null where it is not among the first, or nobody knows.")


class JobChange(Asked):
    """What of a job may be changed until it has ended."""

    priority: int = Field(ge=-1000, le=1000, description="Among the jobs of the project the higher goes first.")


class JobResume(Asked):
    """From where a job that has ended is to go on."""

    step: int | None = Field(None, ge=0, le=2**62, description="Step of one of its checkpoints; the latest when absent.")
    workers: int | None = Field(None, ge=0, le=10_000, description="Another number of workers than it had.")


class TerminalBody(Asked):
    """The terminal that a command is to have."""

    kind: str = Field("xterm-256color", pattern=r"^[A-Za-z0-9._+-]{1,60}$", description="`TERM` of the command.")
    columns: int = Field(80, ge=1, le=10_000)
    rows: int = Field(24, ge=1, le=10_000)


class TunnelAsk(Asked):
    """What is wanted of a running job: a command beside its own, or one of its ports."""

    command: list[Argument] = Field([], max_length=500, description="The program and its arguments.")
    terminal: TerminalBody | None = Field(None, description="Without one the command has three pipes.")
    port: int | None = Field(None, ge=1, le=65_535, description="A TCP port at which a process of the job's command listens.")

    @model_validator(mode="after")
    def _asks_for_one(self) -> TunnelAsk:
        if bool(self.command) == (self.port is not None):
            raise ValueError("ask for a command or for a port")
        return self


class InputRead(Wire):
    """A dataset at the commit that the job reads."""

    reference: str
    dataset: str
    commit_id: UUID


class ResourcesRead(Wire):
    """What the job leases while it runs."""

    cpu: float
    gpu: float
    memory_gib: float


class JobSpecRead(Wire):
    """What was asked for."""

    command: list[str]
    code_sha256: str | None
    code: GitCodeRead | None
    requirements: str | None
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    memory_gib_per_worker: float
    driver_cpus: float
    timeout_s: int | None
    max_retries: int
    max_restarts_on_errors: int
    preemptible: bool
    after: list[str]
    array: str | None = Field(description="Of an array: the indices of its jobs.")
    resume_from: str | None = Field(description="The job, as `ID` or `ID@STEP`, whose checkpoint this one begins with.")
    trust: str = Field(description="`trusted`, or `untrusted` for one that runs in a sandbox.")
    secrets: dict[str, str] = Field(description="Names of secrets of the project, by the variable in which the job finds the value.")


class JobSecretsRead(Wire):
    """What a job finds in its environment beside what its spec says."""

    environment: dict[str, str] = Field(description="Values of its secrets by variable.")


class ForecastRead(Wire):
    """When a job starts and ends, were nothing else submitted: most likely, and with the bounds of eight cases of ten."""

    made_at: datetime
    starts_at: datetime
    starts_from: datetime
    starts_until: datetime
    ends_at: datetime
    ends_from: datetime
    ends_until: datetime


class JobRead(Wire):
    """A job."""

    id: UUID
    name: str
    state: str = Field(description="QUEUED, STARTING, RUNNING, PREEMPTING, CANCELLING, SUCCEEDED, FAILED or CANCELLED.")
    reason: str = Field(description="Why it waits, failed or was cancelled; else of an array how many of its jobs are in which state.")
    exit_code: int | None
    origin: str = Field(description="`aidos`, or `ray` where an operator submitted it to Ray.")
    spec: JobSpecRead
    inputs: list[InputRead]
    resources: ResourcesRead
    run_id: UUID | None
    attempt: int
    preemptions: int = Field(description="How many attempts gave way to others; they do not count as failures.")
    restarts: int = Field(description="How many attempts failed by themselves and were made again.")
    priority: int
    array: ArrayRead | None = Field(description="The array that it is, or that it is a job of.")
    held_by: str | None = Field(description="Who keeps it back in the queue.")
    due_at: datetime | None = Field(description="Before this it is not begun again.")
    admitted_at: datetime | None = Field(description="When its present attempt was let in.")
    submission_id: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    starts_at: datetime | None = Field(None, description="While it waits: about when it will start.")
    forecast: ForecastRead | None = Field(None, description="While it waits and is among the first: when it starts and ends.")


class LogChunkRead(Wire):
    """A piece of the log, to be read from the object store."""

    seq: int
    attempt: int
    offset_bytes: int
    size_bytes: int
    url: str


class LogRead(Wire):
    """Pieces of a job's log after the one asked for."""

    items: list[LogChunkRead]
    last_seq: int = Field(description="Pass it as `after` to read on.")
    size_bytes: int = Field(description="Length of the whole log so far.")
    complete: bool = Field(description="The job has ended and no piece follows these.")


class LogText(Wire):
    """A piece of the log as text, in a stream."""

    seq: int
    text: str


class LogLineRead(Wire):
    """A line of a job's log that was searched for."""

    number: int = Field(description="Of the line in the log, from 1.")
    rank: int | None = Field(description="Of the training's worker that printed it; null where none did.")
    text: str
