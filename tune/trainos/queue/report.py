"""What a replayed trace came to: waits, utilisation, fairness, work lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from submission to the first start."""

    count: int
    mean_s: float
    p50_s: float
    p95_s: float
    max_s: float

    @classmethod
    def of(cls, waits_s: Sequence[float]) -> Waits:
        if not waits_s:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        p50, p95 = np.percentile(waits_s, (50, 95))
        return cls(len(waits_s), float(np.mean(waits_s)), float(p50), float(p95), float(max(waits_s)))


@dataclass(frozen=True, slots=True)
class ProjectReport:
    """``share_ratio``: what it held while it had something waiting, over what its weight entitled it to of what all such held together."""

    project: str
    waits: Waits
    share_ratio: float


@dataclass(frozen=True, slots=True)
class Report:
    """``fairness``: Jain's index of the share ratios (1: all are alike, 1/n: one has all). ``utilisation``: by resource, held over there.

    ``lost_s``: seconds of gangs that were computed again after a preemption. ``never_started``: what can never start, or what a quota
    never allows. ``decide_s``: the time that all decisions took.
    """

    workloads: int
    finished: int
    never_started: int
    admissions: int
    backfilled: int
    preemptions: int
    lost_s: float
    makespan_s: float
    utilisation: Mapping[str, float]
    waits: Waits
    fairness: float
    projects: tuple[ProjectReport, ...]
    looks: int
    decide_s: float

    @property
    def admissions_per_s(self) -> float:
        return self.admissions / self.decide_s if self.decide_s else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """The whole as figures, one a row: ``figure``, ``value``, ``unit``."""
        figures: list[tuple[str, float, str]] = [
            ("workloads", self.workloads, ""),
            ("finished", self.finished, ""),
            ("never started", self.never_started, ""),
            ("makespan", self.makespan_s, "s"),
            ("wait, mean", self.waits.mean_s, "s"),
            ("wait, median", self.waits.p50_s, "s"),
            ("wait, 95 %", self.waits.p95_s, "s"),
            ("wait, longest", self.waits.max_s, "s"),
            *((f"utilisation, {name}", 100 * ratio, "%") for name, ratio in self.utilisation.items()),
            ("fairness (Jain)", self.fairness, ""),
            ("admissions", self.admissions, ""),
            ("of them backfilled", self.backfilled, ""),
            ("preemptions", self.preemptions, ""),
            ("work lost", self.lost_s, "s"),
            ("admissions a second of deciding", self.admissions_per_s, ""),
        ]
        return [{"figure": name, "value": round(value, 3), "unit": unit} for name, value, unit in figures]

    def project_rows(self) -> list[dict[str, Any]]:
        """A row for each project, the longest mean wait first."""
        return [
            {
                "project": each.project,
                "workloads": each.waits.count,
                "mean_wait_s": round(each.waits.mean_s, 3),
                "p95_wait_s": round(each.waits.p95_s, 3),
                "max_wait_s": round(each.waits.max_s, 3),
                "share_ratio": round(each.share_ratio, 3),
            }
            for each in sorted(self.projects, key=lambda each: (-each.waits.mean_s, each.project))
        ]


def jain(values: Iterable[float]) -> float:
    """``(Σx)² / (n Σx²)`` (Jain, Chiu, Hawe: A quantitative measure of fairness, DEC TR-301, 1984); 1 where there is nothing to share."""
    shares = list(values)
    squares = math.fsum(value * value for value in shares)
    return math.fsum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
