"""The events that tell of jobs: of their states, and of the leases that are metered."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from cluster.events import Event
from tune.trainos.models import Job


def state_event(job: Job, actor: str) -> Event:
    """The job came into the state that it is in."""
    return Event(
        type=f"trainos.job.{job.state.lower()}",
        subject=str(job.id),
        org_id=job.org_id,
        project_id=job.project_id,
        actor=actor,
        data={"name": job.name, "attempt": job.attempt, "reason": job.reason, "exit_code": job.exit_code},
        traceparent=job.traceparent,
    )


def lease_event(job: Job, actor: str, lease_id: UUID | None, what: str, at: datetime) -> Event:
    """Its lease was ``opened`` or ``closed``."""
    data = {
        "lease_id": str(lease_id),
        "owner_kind": "job",
        "owner_id": str(job.id),
        "owner_name": job.name,
        "resources": {**job.resources.__dict__},
        "at": at.isoformat(),
    }
    return Event(type=f"trainos.lease.{what}", subject=str(job.id), org_id=job.org_id, project_id=job.project_id, actor=actor, data=data)
