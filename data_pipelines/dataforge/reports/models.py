"""Reports and how far their jobs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class ReportSpec:
    """A question about the commit behind ``ref``. ``refs`` names the parameters that are refs of the same dataset themselves."""

    kind: str
    ref: str
    params: Mapping[str, Any] = field(default_factory=dict)
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of the present stage; a total of 0 is not known yet."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Report:
    """What is asked of a commit, which job answers, and the answer once there is one."""

    id: UUID
    dataset: str
    commit_id: UUID
    kind: str
    params: Mapping[str, Any]
    job_id: UUID | None
    progress: Progress | None
    result: Mapping[str, Any] | None
    created_by: str
    created_at: datetime
    finished_at: datetime | None
