"""What may be run again, and whether the same came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from actors.modelhub.comparison.models import Facts
from actors.modelhub.models import Run, RunState
from tune.trainos.models import Job, JobSpec
from tune.trainos.reproduction.errors import MetricNotMeasured, RunNotReproducible
from tune.trainos.reproduction.models import Agreement, Code, Difference, Part, Tolerances, Verdict

_MACHINE = "system/"
"""How the machine did is no result of the run."""
_SECTIONS = ("params", "code", "data", "environment")


def build_spec(run: Run, job: Job | None, code: Code | None, part: Part | None = None) -> JobSpec:
    """The job that does what the run did: its own job's, its ``part`` of one, or ``code`` where it was none. Raises: RunNotReproducible."""

    def refuse(reason: str, remedy: str) -> RunNotReproducible:
        return RunNotReproducible(run_id=run.id, reason=reason, remedy=remedy)

    if run.state is RunState.RUNNING:
        raise refuse("it has not ended.", f"Wait for it: 'aidos run get {run.id} --wait 60s'.")
    if job is None:
        if code is None:
            raise refuse(
                "it was not a job, so its code is not on the platform.",
                f"'aidos run reproduce {run.id}' packs the commit and the changes that the run kept, where its repository can be reached.",
            )
        name = f"reproduce-{run.id.hex[-6:]}"
        return JobSpec(name=name, command=code.command, code_sha256=code.sha256, workers=0, experiment=run.experiment)
    if code is not None:
        raise refuse("it was a job, which is run again with its own code and command.", "Name neither.")
    if part is not None:
        return replace(part.spec, experiment=run.experiment)
    if job.run_id != run.id:
        raise refuse(
            f"job '{job.name}' began it beside its own run, and its part of the command is not known.",
            f"Reproduce the job's run {job.run_id}, or submit the command with this run's parameters.",
        )
    return replace(job.spec, experiment=run.experiment)


def judge(original: Run, reproduced: Run, tolerances: Tolerances) -> tuple[Verdict, str, tuple[Agreement, ...]]:
    """Whether each metric came out the same within its tolerance, and the run ended in the same way; else why not.

    Raises: MetricNotMeasured.
    """
    before, after = _results(original), _results(reproduced)
    for metric in tolerances.by_metric:
        if metric not in before:
            raise MetricNotMeasured(metric=metric, measured=", ".join(sorted(before)) or "none")
    found = tuple(_compare(metric, before.get(metric), after.get(metric), tolerances.of(metric)) for metric in sorted({*before, *after}))
    if reproduced.state is RunState.RUNNING:
        return Verdict.RUNNING, "", found
    if reproduced.state is not original.state:
        return Verdict.DIFFERS, f"It ended {reproduced.state}, the original {original.state}.", found
    if not found:
        return Verdict.DIFFERS, "Neither run has measured anything that could agree.", found
    if wrong := [each.metric for each in found if not each.agrees]:
        return Verdict.DIFFERS, f"{len(wrong)} of {len(found)} metrics differ by more than their tolerance: {', '.join(wrong)}.", found
    return Verdict.AGREES, "", found


def _results(run: Run) -> dict[str, float]:
    return {key: latest.value for key, latest in run.metrics.items() if not key.startswith(_MACHINE)}


def _compare(metric: str, original: float | None, reproduced: float | None, tolerance: float) -> Agreement:
    agrees = original is not None and reproduced is not None and _agree(original, reproduced, tolerance)
    return Agreement(metric, original, reproduced, tolerance, agrees)


def _agree(original: float, reproduced: float, tolerance: float) -> bool:
    """NaN agrees with NaN, infinity with the same infinity; with an infinite tolerance anything does."""
    if original == reproduced or math.isinf(tolerance) or (math.isnan(original) and math.isnan(reproduced)):
        return True
    # Of infinity the bound would be infinite, and everything would agree with it.
    return math.isfinite(original) and abs(reproduced - original) <= tolerance * max(1.0, abs(original))


def find_differences(facts: Sequence[Facts]) -> tuple[Difference, ...]:
    """What is not alike of two runs beside their metrics, from what a comparison says that each has differently."""
    original, reproduced = facts
    return tuple(
        Difference(section, name, original[section].get(name), reproduced[section].get(name))
        for section in _SECTIONS
        for name in sorted({*original[section], *reproduced[section]})
    )
