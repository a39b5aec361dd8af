"""Wire shapes of a job's checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, model_validator

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.trainos import FilePath, Sha256


class CheckpointFileBody(Asked):
    """One file of a checkpoint."""

    path: FilePath
    sha256: Sha256
    size_bytes: int = Field(ge=0, le=5_000_000_000)


class CheckpointUpload(Asked):
    """Files that are about to be saved."""

    files: list[CheckpointFileBody] = Field(min_length=1, max_length=1000)


class CheckpointUploadRead(Wire):
    """For each file, in order, where to PUT it; null where it is stored."""

    upload_urls: list[str | None]


class CheckpointRetention(Asked):
    """Which checkpoints of a job stay: the newest, and the best beside them. The others are deleted."""

    last: int = Field(ge=1, le=100_000, description="How many of the highest steps.")
    best: int = Field(0, ge=0, le=100_000, description="How many of those with the best `metric`.")
    metric: Name | None = Field(None, description="A metric that checkpoints are saved with.")
    mode: Literal["min", "max"] = Field("min", description="Whether the lowest or the highest is the best.")

    @model_validator(mode="after")
    def _names_the_metric(self) -> CheckpointRetention:
        if self.best and self.metric is None:
            raise ValueError("best needs metric: say by which of a checkpoint's metrics")
        return self


class CheckpointCreate(CheckpointUpload):
    """A checkpoint whose files are all uploaded."""

    step: int = Field(ge=0, le=2**62)
    metrics: dict[Name, Annotated[float, Field(allow_inf_nan=False)]] = Field({}, max_length=100)
    keep: CheckpointRetention | None = Field(None, description="Which of the job's checkpoints stay; all of them when absent.")


class CheckpointFileRead(Wire):
    """One file of a checkpoint, to be read from the object store."""

    path: str
    sha256: str
    size_bytes: int
    url: str | None = None


class JobCheckpointRead(Wire):
    """A complete checkpoint."""

    id: UUID
    job_id: UUID
    step: int
    size_bytes: int
    metrics: dict[str, float]
    attempt: int
    created_at: datetime
    files: list[CheckpointFileRead]
