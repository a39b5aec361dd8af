"""Wire schemas of CostOptimizer. Money is integer micro-units of the currency: 1,000,000 are one dollar."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from aidos.schemas.common import Asked, Text, Wire


class GroupBy(StrEnum):
    OWNER = "owner"
    KIND = "kind"
    DAY = "day"


def _check_year(moment: datetime) -> datetime:
    if not 1970 < moment.year < 9000:
        raise ValueError("must be between the years 1971 and 9000")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_check_year)]
PricedResource = Annotated[str, StringConstraints(pattern=r"^(cpu|memory_gib|storage_gib|gpu(:[a-z0-9][a-z0-9._-]{0,49})?)$")]
"""``cpu``, ``memory_gib``, ``storage_gib``, ``gpu``, or a type of GPU such as ``gpu:h100``."""
OwnerKind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,49}$")]
OwnerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]


class PriceRead(Wire):
    resource: str
    unit: str
    micro_usd: int
    source: str
    effective_from: datetime | None = Field(description="null: the platform's own price, until the organisation sets one.")
    created_by: str | None


class PriceBook(Wire):
    currency: Literal["USD"] = "USD"
    prices: list[PriceRead]


class PriceSet(Asked):
    micro_usd: int = Field(ge=0, le=10**10, description="Micro-dollars an hour (storage: a month) of one unit.")
    source: Annotated[Text, StringConstraints(min_length=1, max_length=500)] = Field(description="Where the price is from.")
    effective_from: Moment | None = Field(None, description="When it begins; now where nothing is said.")


class BudgetSet(Asked):
    micro_usd: int = Field(gt=0, le=10**15, description="Micro-dollars that the project may cost a period.")
    period: Literal["day", "week", "month"] = Field("month", description="Of UTC; a week begins on Monday.")


class BudgetRead(Wire):
    currency: Literal["USD"] = "USD"
    micro_usd: int
    period: str
    since: datetime
    until: datetime
    spent_micro_usd: int = Field(description="In this period, up to now.")
    reached: int = Field(description="0, 50, 80 or 100 per cent. At 100 no job starts, and those that run are asked to save and stop.")


class CostRead(Wire):
    owner_kind: str | None
    owner_id: str | None
    owner_name: str | None
    day: date | None
    micro_usd: int
    cpu_hours: float
    gpu_hours: float
    memory_gib_hours: float
    running: bool = Field(description="It includes a lease that still runs, counted up to now.")


class BillRead(Wire):
    currency: Literal["USD"] = "USD"
    since: datetime
    until: datetime
    micro_usd: int = Field(description="Sum over all groups, those beyond `limit` too.")
    groups: int
    costs: list[CostRead]


class EstimateRead(Wire):
    currency: Literal["USD"] = "USD"
    micro_usd: int
    micro_usd_an_hour: int


class LeaseCostRead(Wire):
    lease_id: UUID
    cpu: float
    gpu: float
    gpu_type: str
    memory_gib: float
    started_at: datetime
    ended_at: datetime | None
    micro_usd: int


class OwnerBillRead(Wire):
    currency: Literal["USD"] = "USD"
    owner_kind: str
    owner_id: str
    since: datetime
    until: datetime
    micro_usd: int
    leases: list[LeaseCostRead]
