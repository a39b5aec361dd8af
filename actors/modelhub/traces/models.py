"""What a program did, span by span, and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Assessment:
    """A feedback or an expectation, as the client wrote it."""

    id: UUID
    body: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class TraceSpec:
    """A trace as its client knows it: ``trace_id`` is the client's, one of its kind in the project."""

    trace_id: str
    requested_at: datetime
    state: str
    duration_ms: int | None = None
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trace(TraceSpec):
    """A stored one; its spans are a file of ``id``."""

    id: UUID
    project_id: UUID
    experiment_id: UUID
    experiment: str
    assessments: tuple[Assessment, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Trace:
        """From a row whose assessments are JSON arrays."""
        said = tuple(
            Assessment(UUID(id), body, datetime.fromisoformat(created_at), datetime.fromisoformat(updated_at))
            for id, body, created_at, updated_at in row["assessments"] or ()
        )
        return cls(**{**row, "assessments": said})
