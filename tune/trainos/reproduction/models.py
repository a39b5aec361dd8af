"""A run that is to come out as another did, and what differs between them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from actors.modelhub.models import RunState
from tune.trainos.models import Input, JobSpec

ORIGINAL = "aidos.reproduces"
"""Tag of the new run: the id of the one that it reproduces."""


class Verdict(enum.StrEnum):
    RUNNING = "RUNNING"
    AGREES = "AGREES"
    DIFFERS = "DIFFERS"


@dataclass(frozen=True)
class Code:
    """What a run that was no job had run, packed by who asks for it again."""

    command: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Part:
    """What a run did that its job began beside its own, as a job of its own, and the parameters that the run was given."""

    spec: JobSpec
    params: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """The job that is to run again what ``original`` was; ``params`` are its run's from the beginning."""

    original: UUID
    name: str
    spec: JobSpec
    inputs: tuple[Input, ...]
    params: Mapping[str, str]


@dataclass(frozen=True)
class Tolerances:
    """By how much a metric may differ: ``tolerance * max(1, |original|)``, so it is absolute below 1 and relative above."""

    default: float = 1e-6
    by_metric: Mapping[str, float] = field(default_factory=dict)

    def of(self, metric: str) -> float:
        return self.by_metric.get(metric, self.default)


@dataclass(frozen=True)
class Agreement:
    """One metric at its last step; None where a run did not measure it."""

    metric: str
    original: float | None
    reproduced: float | None
    tolerance: float
    agrees: bool


@dataclass(frozen=True)
class Difference:
    """Something beside the metrics that is not alike. ``section``: params, code, data or environment."""

    section: str
    name: str
    original: str | None
    reproduced: str | None


@dataclass(frozen=True)
class Reproduction:
    """``reason``: why it differs."""

    run_id: UUID
    original_id: UUID
    job_id: UUID | None
    state: RunState
    verdict: Verdict
    reason: str
    metrics: tuple[Agreement, ...]
    differs: tuple[Difference, ...]
