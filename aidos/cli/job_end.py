"""Waiting for the end of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aidos.client import Client
    from aidos.schemas.trainos import JobRead

_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


def wait_for_end(client: Client, job: str) -> JobRead:
    """The job once it has ended."""
    found = client.jobs.get(job)
    while found.state not in _FINAL:
        found = client.jobs.get(str(found.id), wait="30s")
    return found
