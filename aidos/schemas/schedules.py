"""Wire shapes of schedules: jobs that are queued anew at the times of a cron expression."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.trainos import JobCreate, JobSpecRead

CronText = Annotated[str, StringConstraints(min_length=9, max_length=200, pattern=r"^[^\x00]*$")]
Timezone = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_+/-]+$")]


class ScheduleCreate(Asked):
    """A job, and when it is to be queued."""

    name: Name
    cron: CronText = Field(description="Minute, hour, day of the month, month, day of the week: `0 3 * * *`.")
    timezone: Timezone = Field("UTC", description="Whose clocks, such as `Europe/Berlin`.")
    job: JobCreate


class ScheduleRead(Wire):
    """A schedule, and what its last time came to."""

    id: UUID
    name: str
    cron: str
    timezone: str
    next_at: datetime
    paused_by: str | None
    last_at: datetime | None
    last_job_id: UUID | None
    last_reason: str = Field(description="Why no job was queued the last time.")
    spec: JobSpecRead
    created_by: str
    created_at: datetime
