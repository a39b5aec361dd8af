"""Wire schemas of the installation itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from aidos.schemas.common import Wire


class Liveness(Wire):
    """The process answers."""

    status: Literal["ok"] = "ok"


class PartHealth(Wire):
    """One thing that the gateway needs."""

    name: str = Field(description="`database` or `objects`.")
    healthy: bool
    latency_ms: float = Field(description="How long the check took.")


class Readiness(Wire):
    """Whether requests can be served."""

    ready: bool
    parts: list[PartHealth]


class VersionRead(Wire):
    """What runs."""

    name: Literal["aidos"] = "aidos"
    version: str
    api: Literal["v1"] = "v1"


class LeaseRead(Wire):
    """Who may write now: the holder of a lease, and how often it changed hands."""

    name: str
    holder: str
    epoch: int
    expires_at: datetime = Field(description="In the past: its holder is gone or being replaced.")


class ConsumerRead(Wire):
    """A consumer of events and how far behind it is."""

    consumer: str
    behind_events: int = Field(description="Events that it has not handled yet; counted up to 10,000.")
    updated_at: datetime


class PlatformStatus(Wire):
    """The state of the installation, for its operator."""

    version: str
    parts: list[PartHealth]
    leases: list[LeaseRead]
    consumers: list[ConsumerRead]
