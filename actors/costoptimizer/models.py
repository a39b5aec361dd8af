"""Prices, leases and what they cost: the nouns of CostOptimizer. Money is integer micro-units of a US dollar."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

CURRENCY: Literal["USD"] = "USD"
LeaseChange = Literal["opened", "closed"]


class GroupBy(enum.StrEnum):
    """What costs are summed by; ``day`` is a day in UTC."""

    OWNER = "owner"
    KIND = "kind"
    DAY = "day"


@dataclass(frozen=True)
class Price:
    """Micro-dollars for one unit of a resource for an hour (storage: a month), from ``effective_from`` until the next price."""

    resource: str
    unit: str
    micro_usd: int
    source: str
    effective_from: datetime | None
    """None: the platform's own price, which is in force until the organisation sets one."""
    created_by: str | None


@dataclass(frozen=True)
class Usage:
    """One end of a lease, as a module announced it."""

    change: LeaseChange
    lease_id: UUID
    org_id: UUID
    project_id: UUID
    owner_kind: str
    owner_id: str
    owner_name: str
    cpu: Decimal
    gpu: Decimal
    gpu_type: str
    memory_gib: Decimal
    at: datetime


@dataclass(frozen=True)
class Cost:
    """A group's cost. Fields that the group is not made by are None."""

    owner_kind: str | None
    owner_id: str | None
    owner_name: str | None
    day: date | None
    micro_usd: int
    cpu_hours: float
    gpu_hours: float
    memory_gib_hours: float
    running: bool


@dataclass(frozen=True)
class Bill:
    """The costs of a project between two moments, dearest group first; ``micro_usd`` is the sum over all groups."""

    since: datetime
    until: datetime
    micro_usd: int
    groups: int
    costs: tuple[Cost, ...]


@dataclass(frozen=True)
class Estimate:
    """What resources cost by the prices of now, for a time and for an hour."""

    micro_usd: int
    micro_usd_an_hour: int


@dataclass(frozen=True)
class LeaseCost:
    """One lease and what it cost in the asked time."""

    lease_id: UUID
    cpu: float
    gpu: float
    gpu_type: str
    memory_gib: float
    started_at: datetime
    ended_at: datetime | None
    micro_usd: int


@dataclass(frozen=True)
class Budget:
    """What a project may cost a day, week or month (UTC), and what of it is spent; ``reached`` is 0, 50, 80 or 100 per cent of it."""

    project_id: UUID
    org_id: UUID
    micro_usd: int
    period: str
    since: datetime
    until: datetime
    spent_micro_usd: int
    reached: int
    since_before: datetime
    reached_before: int

    @property
    def news(self) -> bool:
        """Whether so much was not yet reached in this period when one looked before."""
        return self.reached > (self.reached_before if self.since == self.since_before else 0)
