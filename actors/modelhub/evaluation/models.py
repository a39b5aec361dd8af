"""What an application is asked when it is evaluated, and by whom it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

Body = Mapping[str, Any]
"""Of a record: ``inputs``, and as far as they are known ``outputs``, ``expectations``, ``tags``, ``source``, ``created_by``, ``last_updated_by``."""


@dataclass(frozen=True)
class EvaluationDataset:
    """``schema`` has the types of all fields that its records ever had."""

    id: UUID
    project_id: UUID
    name: str
    tags: Mapping[str, str]
    schema: Mapping[str, Any] | None
    experiment_ids: tuple[UUID, ...]
    records: int
    created_by: str | None
    updated_by: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> EvaluationDataset:
        return cls(**{**row, "experiment_ids": tuple(row["experiment_ids"])})


@dataclass(frozen=True)
class EvaluationRecord:
    """One question; ``digest`` is its inputs'."""

    id: UUID
    digest: str
    body: Body
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Scorer:
    """A version of a judge."""

    experiment_id: UUID
    name: str
    version: int
    scorer_id: UUID
    serialized: str
    created_at: datetime
