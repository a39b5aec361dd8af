"""Schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tune.trainos.models import JobSpec, Submitter


@dataclass(frozen=True)
class Schedule:
    """A job that is queued at each time of ``cron``, as the clocks of ``timezone`` show it, with the rights of who made it.

    ``last_at``: when it was due last; ``last_job_id``: its latest job; ``last_reason``: why there was none the last time.
    """

    id: UUID
    org_id: UUID
    project_id: UUID
    project_name: str
    name: str
    cron: str
    timezone: str
    spec: JobSpec
    submitter: Submitter
    created_by: str
    created_at: datetime
    next_at: datetime
    paused_by: str | None
    last_at: datetime | None
    last_job_id: UUID | None
    last_reason: str
