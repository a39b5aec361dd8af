"""When what waits starts and ends, with how wrong that may be: the queue's own decisions, with jobs that run as long as such jobs did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tune.trainos.queue.models import Forecast, Snapshot, Workload
from tune.trainos.queue.simulation import forecast

UNKNOWN_RUN_S = 3600.0
_SLACK = timedelta(seconds=30)  # until an end is seen and the next job is let in
_LOOKS = 300


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long a job runs: one of ten is shorter than ``low_s``, one of ten longer than ``high_s``."""

    low_s: float
    median_s: float
    high_s: float

    @classmethod
    def unknown(cls, limit_s: float | None) -> RunTime:
        """Of a job like which none has run: its limit, or an hour, and all that is likely beside it."""
        if limit_s is None:
            return cls(UNKNOWN_RUN_S / 10, UNKNOWN_RUN_S, UNKNOWN_RUN_S * 10)
        return cls(limit_s / 10, limit_s, limit_s)

    def within(self, limit_s: float | None) -> RunTime:
        """It is stopped at its limit."""
        return self if limit_s is None else RunTime(min(self.low_s, limit_s), min(self.median_s, limit_s), min(self.high_s, limit_s))

    def after(self, ran_s: float) -> RunTime:
        """Of a job that runs for so long already. What outlasted its time has its age for the median of what is left of it, and a ninth and
        nine times that for the tenths: P(left > x) = age / (age + x) (Harchol-Balter and Downey, SIGMETRICS 1996)."""
        low_s, median_s, high_s = (
            total_s if total_s > ran_s else ran_s + ran_s * part
            for total_s, part in ((self.low_s, 1 / 9), (self.median_s, 1.0), (self.high_s, 9.0))
        )
        return RunTime(min(low_s, median_s), median_s, max(median_s, high_s))


def predict(snapshot: Snapshot, run_times: Mapping[UUID, RunTime]) -> dict[UUID, Forecast]:
    """When each of the waiting starts and ends, were nothing else submitted: with all jobs of median length, and between all short and
    all long. ``run_times``: where it is not said, of a job that nothing is known of. What starts in none of these is left out."""
    known = {workload.id: run_times.get(workload.id) or RunTime.unknown(workload.limit_s) for workload in snapshot.waiting}
    for running in snapshot.running:
        whole = run_times.get(running.workload.id) or RunTime.unknown(running.workload.limit_s)
        known[running.workload.id] = whole.after((snapshot.now - running.started_at).total_seconds()).within(running.workload.limit_s)
    short, median, long = (
        forecast(snapshot, {id: getattr(run_time, which) for id, run_time in known.items()}, looks=_LOOKS)
        for which in ("low_s", "median_s", "high_s")
    )
    return {
        workload.id: _between(snapshot.now, median[workload.id], short[workload.id], long[workload.id])
        for workload in snapshot.waiting
        if workload.id in short and workload.id in median and workload.id in long
    }


def _between(now: datetime, at: tuple[datetime, datetime], short: tuple[datetime, datetime], long: tuple[datetime, datetime]) -> Forecast:
    """A schedule may be later with shorter jobs (Graham's anomalies): the interval holds all three."""
    starts, ends = zip(at, short, long, strict=True)
    return Forecast(now, at[0], min(starts) - _SLACK, max(starts) + _SLACK, at[1], min(ends) - _SLACK, max(ends) + _SLACK)


def like(
    workload: Workload, by_name: Mapping[tuple[UUID, str], RunTime], by_shape: Mapping[tuple[UUID, float, float, float], RunTime]
) -> RunTime | None:
    """How long jobs of its name ran in its project, else those that asked for as much; not longer than it may."""
    resources = workload.gang.resources
    found = by_name.get((workload.project_id, workload.name)) or by_shape.get(
        (workload.project_id, resources.cpu, resources.gpu, resources.memory_gib)
    )
    return found.within(workload.limit_s) if found else None
