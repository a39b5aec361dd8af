"""Models that a client has logged: what came of a run, or of no run, before anybody registers it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.modelhub.models import Point


class LoggedModelState(enum.StrEnum):
    """PENDING while its files are uploaded."""

    PENDING = "PENDING"
    READY = "READY"
    UPLOAD_FAILED = "UPLOAD_FAILED"


class Role(enum.StrEnum):
    """What a model is to a run."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True)
class ModelMetric:
    """A value that a run measured on a model; the dataset is empty where none was named."""

    point: Point
    run_id: UUID
    dataset_name: str = ""
    dataset_digest: str = ""


@dataclass(frozen=True)
class LoggedModel:
    id: UUID
    project_id: UUID
    experiment_id: UUID
    experiment: str
    run_id: UUID | None
    name: str
    model_type: str
    state: LoggedModelState
    created_by: str
    created_at: datetime
    updated_at: datetime
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[ModelMetric, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LoggedModel:
        """From a row whose params, tags and metrics are JSON, with numbers as text."""
        metrics = tuple(
            ModelMetric(Point(key, float(value), step, datetime.fromisoformat(at)), UUID(run_id), name, digest)
            for key, value, step, at, run_id, name, digest in row["metrics"] or ()
        )
        texts = {"params": row["params"] or {}, "tags": row["tags"] or {}}
        return cls(**{**row, **texts, "state": LoggedModelState(row["state"]), "metrics": metrics})


@dataclass(frozen=True)
class LoggedModelSpec:
    """What a client asks for; an empty name is chosen."""

    name: str = ""
    model_type: str = ""
    run_id: UUID | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
