"""Runs side by side, and the views of them that a project keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.modelhub.models import Run

Costs = Mapping[UUID, int]
"""Millionths of a dollar by job."""
SECTIONS = ("params", "metrics", "code", "data", "environment")
Facts = Mapping[str, Mapping[str, Any]]
"""What is known of a run, by section and name; metrics are numbers, all else is text."""


@dataclass(frozen=True)
class PricedRun:
    """``cost_usd``: the run's share of what its job cost, by how long it ran; None for a run without a job."""

    run: Run
    cost_usd: float | None


@dataclass(frozen=True)
class Curve:
    """Points of one metric of one run, in order; ``at`` in seconds since 1970."""

    run_id: UUID
    key: str
    steps: Sequence[int]
    at: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Comparison:
    """``facts``: what differs, one for each run; ``alike``: what all of them have alike. ``truncated``: more runs matched."""

    runs: tuple[PricedRun, ...]
    facts: tuple[Facts, ...]
    alike: Facts
    curves: tuple[Curve, ...]
    truncated: bool = False


@dataclass(frozen=True)
class View:
    """A question about runs that a project keeps: which runs, which columns, which charts."""

    id: UUID
    project_id: UUID
    name: str
    query: str
    columns: tuple[str, ...]
    charts: tuple[Mapping[str, Any], ...]
    created_by: str
    created_at: datetime
    updated_at: datetime
