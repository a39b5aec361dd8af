"""Wire shapes of TrainOS's queue: quotas, who waits, and what has run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from aidos.schemas.common import Asked, Wire
from aidos.schemas.trainos import JobRead


class AmountsBody(Asked):
    """Amounts of what can be held; what is left out is nothing of a nominal quota, and unlimited of a limit."""

    cpu: float | None = Field(None, ge=0, le=10_000_000)
    gpu: float | None = Field(None, ge=0, le=10_000_000)
    memory_gib: float | None = Field(None, ge=0, le=1_000_000_000)


class QuotaBody(Asked):
    """What a project may hold at once."""

    nominal: AmountsBody = Field(AmountsBody(), description="Its own: others borrow it while it is idle, and give it back.")
    limit: AmountsBody = Field(AmountsBody(), description="Its own and what it borrows, together.")
    user_limit: AmountsBody = Field(AmountsBody(), description="Each of its users.")
    weight: float = Field(1.0, gt=0, le=1_000_000, description="Its share of what nobody owns or the owner leaves idle.")


class AmountsRead(Wire):
    """Amounts; null is unlimited."""

    cpu: float | None
    gpu: float | None
    memory_gib: float | None


class QuotaRead(Wire):
    """What a project may hold at once."""

    nominal: AmountsRead
    limit: AmountsRead
    user_limit: AmountsRead
    weight: float


class CoverageRead(Wire):
    """How many of the first forecasts of the last 30 days have come due, and how many of these held."""

    starts: int
    starts_within: int
    ends: int
    ends_within: int


class QueueRead(Wire):
    """The project's jobs that have not ended: first those that hold resources, then those that wait, in the order of the queue."""

    items: list[JobRead]
    coverage: CoverageRead


class TraceRow(BaseModel):
    """A job of the past, as a simulation replays it. It needs what its driver and each of its workers need."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, from_attributes=True, defer_build=True)

    id: str = Field(min_length=1, max_length=500)
    submit_s: float = Field(ge=0, le=1e10, description="When it was submitted; second 0 is anywhere.")
    run_s: float = Field(ge=0, le=1e10, description="How long it computes, undisturbed.")
    project: str = "default"
    user: str = ""
    limit_s: float = Field(0, ge=0, description="The longest that it may run; 0 is without a bound.")
    priority: int = 0
    checkpoint_s: float = Field(0, ge=0, description="How often it saves; 0 is never.")
    workers: int = Field(0, ge=0, le=10_000_000)
    driver_cpu: float = Field(0, ge=0)
    driver_gpu: float = Field(0, ge=0)
    driver_memory_gib: float = Field(0, ge=0)
    worker_cpu: float = Field(0, ge=0)
    worker_gpu: float = Field(0, ge=0)
    worker_memory_gib: float = Field(0, ge=0)


class HistoryRead(Wire):
    """The project's jobs that have ended, the oldest first, as a trace to replay."""

    items: list[TraceRow]
