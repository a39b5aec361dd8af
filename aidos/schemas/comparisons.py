"""Runs side by side, and the views of them that a project keeps, as they travel."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.modelhub import Key, MetricValue, RunState

Query = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
"""``metrics.acc > 0.9 and data.commit = "digits@v3" and cost_usd < 2``; see the page of ModelHub's comparison."""
FieldName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,260}$")]
"""``params.lr``, ``metrics.acc``, ``data.digits``, ``code.commit``, ``environment.numpy``, or ``name``, ``state``, ``cost_usd`` …"""


class ChartKind(StrEnum):
    CURVES = "curves"
    SCATTER = "scatter"
    PARALLEL = "parallel"


class Axis(StrEnum):
    STEP = "step"
    TIME = "time"
    WALL = "wall"


class Chart(Asked):
    kind: ChartKind
    fields: list[FieldName] = Field(min_length=1, max_length=20, description="curves: one metric; scatter: x and y; parallel: the axes.")
    x: Axis = Field(Axis.STEP, description="Of curves: the step, seconds since the run began, or the time of day.")


class ChartRead(Wire):
    kind: ChartKind
    fields: list[str]
    x: Axis


class ComparisonCreate(Asked):
    runs: list[UUID] = Field(default_factory=list, max_length=500, description="Ids of runs.")
    query: Query | None = Field(None, description="Instead of ids: the newest runs of which it holds, at most 500.")
    metrics: list[Key] | None = Field(None, max_length=20, description="Those whose curves are sent; some are chosen where none are named.")
    points: int = Field(200, ge=2, le=2000, description="Of a curve, at most; fewer where there are many curves. Spikes survive.")


class FactsRead(Wire):
    """What is known of runs, by section."""

    params: dict[str, str]
    metrics: dict[str, MetricValue]
    code: dict[str, str] = Field(
        description="`commit`, `branch`, `changes` (hash of the difference to the commit), `dirty`, `program`, `command`."
    )
    data: dict[str, str] = Field(description="Commit, or digest, by dataset.")
    environment: dict[str, str] = Field(description="`python`, `platform`, `host`, `gpus`, and the version of each package.")


class ComparedRun(Wire):
    id: UUID
    name: str
    experiment: str
    state: RunState
    created_by: str
    started_at: datetime
    ended_at: datetime | None
    duration_s: float
    cost_usd: float | None = Field(description="The run's share of what its job cost, by how long it ran.")
    facts: FactsRead = Field(description="What differs from run to run.")


class CurveRead(Wire):
    run_id: UUID
    key: str
    steps: list[int]
    at: list[float] = Field(description="Seconds since 1970.")
    values: list[MetricValue]


class ComparisonRead(Wire):
    runs: list[ComparedRun]
    alike: FactsRead = Field(description="What all of the runs have alike.")
    curves: list[CurveRead]
    truncated: bool = Field(description="More runs matched than are compared.")


class ViewSet(Asked):
    query: Query = Field(description="Which runs; all where it is empty.")
    columns: list[FieldName] = Field(default_factory=list, max_length=100, description="Of the table; what differs where none are named.")
    charts: list[Chart] = Field(default_factory=list, max_length=20, description="Chosen by the runs where none are named.")


class ViewRead(Wire):
    name: Name
    query: str
    columns: list[str]
    charts: list[ChartRead]
    created_by: str
    created_at: datetime
    updated_at: datetime
