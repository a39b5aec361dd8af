"""Pure decisions of studies: facts in, a decision out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from aidos.schemas.studies import Constraint, Objective, Parameter, Pruner, PrunerKind, StudyCreate, contains, is_active, sort_space
from tune.studies.models import Ended, Outcome, Peer, Study, StudyState, Trial, TrialState
from tune.trainos.models import Job, JobSpec, JobState
from tune.trainos.reproduction.errors import RunNotReproducible
from tune.trainos.reproduction.models import Part

RESTARTS = 3
"""How often a study's job is begun again without a trial having ended in between."""
_KILLED = frozenset({137, -9})


def wrong_parameter(space: Mapping[str, Parameter], params: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first parameter that does not fit the space and what is wrong with it; None where all fit."""
    for name in sort_space(space):
        if not is_active(space[name], params):
            if name in params:
                return name, "its condition does not hold, so that it has no value"
        elif name not in params:
            return name, "it has no value"
        elif not contains(space[name], params[name]):
            return name, f"{params[name]!r} is not among its values"
    unknown = sorted(set(params) - set(space))
    return (unknown[0], "the space has none of that name") if unknown else None


def changed_kind(before: Mapping[str, Parameter], after: Mapping[str, Parameter]) -> str | None:
    """Why one space cannot follow the other: the trials of the first must keep their meaning. None where it can."""
    for name in before.keys() & after.keys():
        if before[name].kind != after[name].kind:
            return f"'{name}' is {before[name].kind} and cannot become {after[name].kind}; give the new parameter another name"
    return None


def spent_budget(spec: StudyCreate, trials: Mapping[str, int], time_s: float, micro_usd: int) -> str | None:
    """Which part of the budget is used up; None while another trial may begin."""
    budget, begun, failed = spec.budget, sum(trials.values()), trials.get(TrialState.FAILED, 0)
    if failed >= budget.failures:
        return f"{failed} trials failed, and the budget is {budget.failures}"
    if begun >= budget.trials:
        return f"{begun} of {budget.trials} trials have begun"
    if budget.time_s is not None and time_s >= budget.time_s:
        return f"it has run for {time_s:.0f} s of {budget.time_s}"
    if budget.usd is not None and micro_usd >= budget.usd * 1e6:
        return f"it has cost {micro_usd / 1e6:.2f} of {budget.usd:g} USD"
    return None


def find_rung(pruner: Pruner, before: int | None, step: int) -> int | None:
    """The step to be judged at, now that a trial came from step ``before`` to ``step``; None where there is nothing to judge.

    ASHA's rungs are ``min_steps · reduction^k``, the highest that was just reached counts (Li et al., "A System for Massively Parallel
    Hyperparameter Tuning", MLSys 2020).
    """
    if pruner.kind is PrunerKind.NONE or step < pruner.min_steps:
        return None
    if pruner.kind is PrunerKind.MEDIAN:
        return step
    rung = pruner.min_steps
    while rung * pruner.reduction <= step:
        rung *= pruner.reduction
    return None if before is not None and before >= rung else rung


def should_stop(pruner: Pruner, objective: Objective, number: int, own: Sequence[float], peers: Sequence[Peer]) -> bool:
    """Whether the trial is to end. ``own``: its values up to now, the last one last; ``peers``: the others at the same rung.

    Of n trials at a rung ASHA lets the best ``max(1, n // reduction)`` go on. The median rule compares the trial's best value with the
    median of the trials that ended (Golovin et al., "Google Vizier", KDD 2017). A trial that measures NaN has nothing more to say.
    """
    sign = 1.0 if objective.direction == "minimize" else -1.0
    if math.isnan(own[-1]):
        return True
    if pruner.kind is PrunerKind.ASHA:
        better = sum(sign * peer.value < sign * own[-1] for peer in peers if peer.number != number)
        count = 1 + sum(peer.number != number for peer in peers)
        return better >= max(1, count // pruner.reduction)
    ended = [sign * peer.value for peer in peers if peer.state is TrialState.COMPLETE and not math.isnan(peer.value)]
    best = min(sign * value for value in own if not math.isnan(value))
    return len(ended) >= pruner.startup_trials and best > median(ended)


def judge_trial(spec: StudyCreate, exit_code: int, last_line: str, values: Mapping[str, float], stop_step: int | None) -> Ended:
    """How a trial came out whose program has ended."""
    if stop_step is not None:
        return Ended(TrialState.PRUNED, f"ended by {spec.pruner.kind} at step {stop_step}")
    if exit_code != 0:
        return Ended(TrialState.FAILED, f"exit code {exit_code}; last line: {last_line}" if last_line else f"exit code {exit_code}")
    for metric in [objective.metric for objective in spec.objectives] + [constraint.metric for constraint in spec.constraints]:
        if metric not in values:
            return Ended(TrialState.FAILED, f"it reported no '{metric}'")
        if not math.isfinite(values[metric]):
            return Ended(TrialState.FAILED, f"its last '{metric}' is {values[metric]}")
    return Ended(TrialState.COMPLETE)


def violation(constraint: Constraint, values: Mapping[str, float]) -> float:
    """By how much a bound is broken; 0 or less where it is kept."""
    value = values.get(constraint.metric, math.inf if constraint.at_least is None else -math.inf)
    return value - constraint.at_most if constraint.at_most is not None else (constraint.at_least or 0.0) - value


def is_feasible(spec: StudyCreate, values: Mapping[str, float]) -> bool | None:
    """Whether all constraints are kept; None without values."""
    return all(violation(constraint, values) <= 0 for constraint in spec.constraints) if values else None


def best_trials(spec: StudyCreate, trials: Sequence[Trial]) -> list[Trial]:
    """The feasible trials that no other beats: the first best one of a single objective, the Pareto front of several, by number."""

    def costs(trial: Trial) -> tuple[float, ...]:
        return tuple((1 if each.direction == "minimize" else -1) * trial.values[each.metric] for each in spec.objectives)

    candidates = [trial for trial in trials if trial.state is TrialState.COMPLETE and is_feasible(spec, trial.values)]
    if len(spec.objectives) == 1:
        return [min(candidates, key=lambda trial: (costs(trial), trial.number))] if candidates else []
    front: list[tuple[tuple[float, ...], Trial]] = []
    for trial in sorted(candidates, key=lambda trial: (costs(trial), trial.number)):
        mine = costs(trial)
        # In this order nobody behind a trial can beat it, so that the front so far decides.
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other, _ in front):
            front.append((mine, trial))
    return sorted((trial for _, trial in front), key=lambda trial: trial.number)


def after_job(job: Job, restarts: int) -> Outcome:
    """What becomes of a running study, given its job: one that was killed or lost is begun again."""
    if not job.state.final:
        return Outcome(StudyState.RUNNING, job.reason)
    if job.state is JobState.CANCELLED:
        return Outcome(StudyState.STOPPED, job.reason or "its job was cancelled")
    lost = job.exit_code is None or job.exit_code in _KILLED
    if job.state is JobState.FAILED and lost and restarts < RESTARTS and not job.reason.startswith("can never start"):
        return Outcome(StudyState.RUNNING, f"begun again: {job.reason}", begin_again=True)
    return Outcome(StudyState.FAILED, job.reason or f"its job ended as {job.state} before the search did")


def build_command(command: Sequence[str], space: Mapping[str, Parameter], params: Mapping[str, Any]) -> list[str]:
    """A trial's command: ``{name}`` is replaced by the parameter's value; a parameter that the trial has not leaves nothing."""
    texts = dict.fromkeys(space, "") | {name: to_text(value) for name, value in params.items()}
    names = re.compile("{(" + "|".join(map(re.escape, texts)) + ")}")
    return [names.sub(lambda found: texts[found.group(1)], word) for word in command]


def to_text(value: Any) -> str:
    """A parameter on a command line: text as it is, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def build_part(study: Study, trial: Trial) -> Part:
    """The job that does what the trial did, outside of its study. Raises: RunNotReproducible."""

    def refuse(reason: str) -> RunNotReproducible:
        remedy = f"Submit its command with the parameters that 'aidos study trial {study.name} {trial.number}' shows."
        return RunNotReproducible(
            run_id=trial.run_id, reason=f"it is trial {trial.number} of study '{study.name}', {reason}", remedy=remedy
        )

    spec = study.spec
    if trial.state not in {TrialState.COMPLETE, TrialState.FAILED}:
        raise refuse(f"which is {trial.state} and did not come to its own end.")
    if trial.parent is not None:
        raise refuse("which went on from another trial's checkpoint.")
    if spec.gpus_per_trial:
        raise refuse("which had a GPU, that the program of a job has not.")
    told = {"metric": spec.objectives[0].metric, "judged": False, "params": dict(trial.params)}
    command = ("env", f"AIDOS_TRIAL={json.dumps(told)}", *build_command(spec.command, spec.space, trial.params))
    job = JobSpec(
        name=f"{spec.name}-{trial.number}",
        command=command,
        code_sha256=spec.code_sha256,
        datasets=tuple(spec.datasets),
        workers=0,
        driver_cpus=spec.cpus_per_trial,
    )
    return Part(job, {name: str(value) for name, value in trial.params.items()})
