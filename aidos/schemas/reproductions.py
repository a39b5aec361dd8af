"""Runs that are to come out as others did, as they travel."""

from __future__ import annotations

from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from aidos.schemas.common import Asked, Wire
from aidos.schemas.modelhub import MetricValue, RunState
from aidos.schemas.trainos import Argument, Sha256


class Verdict(StrEnum):
    RUNNING = "RUNNING"
    AGREES = "AGREES"
    DIFFERS = "DIFFERS"


class ReproductionCreate(Asked):
    """A run that is to be run again."""

    run_id: UUID
    command: list[Argument] = Field([], max_length=500, description="Only of a run that was no job: the program and its arguments.")
    code_sha256: Sha256 | None = Field(None, description="Only of a run that was no job: its code, packed and uploaded.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.command) is (self.code_sha256 is None):
            raise ValueError("command and code_sha256 are given both, or none of them")
        return self


class AgreementRead(Wire):
    """One metric at its last step."""

    metric: str
    original: MetricValue | None = Field(description="null where it was not measured.")
    reproduced: MetricValue | None = Field(description="null where it was not measured.")
    tolerance: MetricValue
    agrees: bool = Field(description="Whether they differ by at most `tolerance * max(1, |original|)`.")


class DifferenceRead(Wire):
    """Something beside the metrics that is not alike."""

    section: str = Field(description="params, code, data or environment.")
    name: str
    original: str | None
    reproduced: str | None


class ReproductionRead(Wire):
    """How a run came out beside the one that it reproduces."""

    run_id: UUID
    original_id: UUID
    job_id: UUID | None
    state: RunState
    verdict: Verdict = Field(description="RUNNING; AGREES when it ended as the original did and every metric is within its tolerance.")
    reason: str = Field(description="Why it differs.")
    metrics: list[AgreementRead]
    differs: list[DifferenceRead]
