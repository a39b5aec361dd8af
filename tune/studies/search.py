"""What to try next: Optuna's samplers over a study's trials, and the grid. No Ray, no HTTP.

Optuna keeps its memory in this process only; the truth is the study's rows, from which the memory is built at any time.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from aidos.schemas.studies import (
    CategoricalParameter,
    IntParameter,
    Parameter,
    Sampler,
    StudyRead,
    TrialRead,
    contains,
    is_active,
    sort_space,
    steps_of,
)
from tune.studies.policy import violation

Params = dict[str, Any]
_STATES = {
    "RUNNING": optuna.trial.TrialState.RUNNING,
    "WAITING": optuna.trial.TrialState.RUNNING,
    "COMPLETE": optuna.trial.TrialState.COMPLETE,
    "PRUNED": optuna.trial.TrialState.PRUNED,
    "FAILED": optuna.trial.TrialState.FAIL,
}


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter in Optuna's words."""
    if isinstance(parameter, CategoricalParameter):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, IntParameter):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


class Search:
    """The memory of one study's trials, and the choice of the next one."""

    def __init__(self, study: StudyRead, trials: Sequence[TrialRead] = ()) -> None:
        self.study = study
        self._order = sort_space(study.space)
        self._memory = optuna.create_study(
            directions=[objective.direction for objective in study.objectives], sampler=_build_sampler(study, len(trials))
        )
        self._asked: dict[int, optuna.Trial] = {}
        self._tried: set[str] = set()
        self._grid = _walk_grid(study.space) if study.sampler is Sampler.GRID else None
        for trial in trials:
            self._remember(trial)

    def ask(self) -> tuple[Params, optuna.Trial | None] | None:
        """Parameters for the next trial, and what ``begin`` is to be told; None where the grid has no point left."""
        if self._grid is not None:
            params = next((point for point in self._grid if _key(point) not in self._tried), None)
            return None if params is None else (params, None)
        trial, chosen = self._memory.ask(), Params()
        for name in self._order:
            parameter = self.study.space[name]
            if is_active(parameter, chosen):
                chosen[name] = _suggest(trial, name, parameter)
        return chosen, trial

    def begin(self, number: int, params: Params, asked: optuna.Trial | None) -> None:
        """The trial that was asked for is number ``number`` of the study."""
        self._tried.add(_key(params))
        if asked is not None:
            self._asked[number] = asked

    def tell(self, trial: TrialRead) -> None:
        """Remember how a trial came out."""
        asked = self._asked.pop(trial.number, None)
        if asked is None:
            self._remember(trial)
            return
        if trial.values:
            for name, value in self._violations(trial).items():
                asked.set_constraint(name, value)
        objective = self.study.objectives[0].metric
        if trial.state == "PRUNED" and trial.step is not None and objective in trial.values and len(self.study.objectives) == 1:
            asked.report(trial.values[objective], trial.step)
        complete = trial.state == "COMPLETE"
        self._memory.tell(asked, self._values(trial) if complete else None, None if complete else _STATES[trial.state])

    def _remember(self, trial: TrialRead) -> None:
        """A trial that was not asked for here: of an earlier process, or of a space that was another."""
        self._tried.add(_key(trial.params))
        space = self.study.space
        if self._grid is not None or not all(name in space and contains(space[name], value) for name, value in trial.params.items()):
            return
        objective, complete = self.study.objectives[0].metric, trial.state == "COMPLETE"
        pruned = trial.state == "PRUNED" and trial.step is not None and objective in trial.values
        self._memory.add_trial(
            optuna.create_trial(
                state=_STATES[trial.state],
                params=trial.params,
                distributions={name: to_distribution(space[name]) for name in trial.params},
                values=self._values(trial) if complete else None,
                intermediate_values={trial.step: trial.values[objective]} if pruned and trial.step is not None else None,
                constraints=self._violations(trial) if trial.values else None,
            )
        )

    def _values(self, trial: TrialRead) -> list[float]:
        return [trial.values[objective.metric] for objective in self.study.objectives]

    def _violations(self, trial: TrialRead) -> dict[str, float]:
        found = {f"{each.metric}:{index}": violation(each, trial.values) for index, each in enumerate(self.study.constraints)}
        return {name: value for name, value in found.items() if math.isfinite(value)}


def _build_sampler(study: StudyRead, begun: int) -> optuna.samplers.BaseSampler:
    # A search that goes on must not draw the same numbers again.
    seed = None if study.seed is None else (study.seed + begun) % 2**32
    if study.sampler is Sampler.TPE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    if study.sampler is Sampler.CMAES:
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, CategoricalParameter):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _walk_grid(space: Mapping[str, Parameter]) -> Iterator[Params]:
    """Every point of the grid once; a parameter whose condition does not hold has no value in it."""
    order, seen = sort_space(space), set()
    for values in itertools.product(*(steps_of(space[name]) or [] for name in order)):
        point: Params = {}
        for name, value in zip(order, values, strict=True):
            if is_active(space[name], point):
                point[name] = value
        if (key := _key(point)) not in seen:
            seen.add(key)
            yield point


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
