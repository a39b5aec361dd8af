"""Population based training: which member trains on, from whose checkpoint, with which parameters. No Ray, no HTTP.

Jaderberg et al., "Population Based Training of Neural Networks", 2017 (https://arxiv.org/abs/1711.09846), with the settings of Ray Tune's
``PopulationBasedTraining``. Each stretch between two decisions is a trial of its own: its row says which member it trained and which
trial's checkpoint it began from, so that the population is rebuilt from the rows at any time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aidos.schemas.studies import (
    CategoricalParameter,
    IntParameter,
    Parameter,
    StudyRead,
    TrialRead,
    contains,
    is_active,
    sort_space,
    steps_of,
)

QUANTILE, RESAMPLED, FACTORS = 0.25, 0.25, (0.8, 1.2)
_LIVE = frozenset({"RUNNING", "WAITING"})


@dataclass(frozen=True)
class Turn:
    """The next stretch: of which member, with which parameters, from which trial's checkpoint (None: from the beginning)."""

    member: int
    params: dict[str, Any]
    parent: int | None = None


class Population:
    """The newest trial of each member, those that are complete by turn, and whose turn it is."""

    def __init__(self, study: StudyRead, trials: Sequence[TrialRead] = ()) -> None:
        self._study, self._sign = study, 1 if study.objectives[0].direction == "minimize" else -1
        self._random = random.Random(None if study.seed is None else f"{study.seed} {len(trials)}")
        self._newest: dict[int, TrialRead] = {}
        self._complete: dict[int, dict[int, TrialRead]] = {}
        self._turns: dict[int, int] = {}
        for trial in trials:
            self.note(trial)

    def note(self, trial: TrialRead) -> None:
        """A member is at work, or came to an end."""
        assert trial.member is not None
        if trial.number not in {known.number for known in self._newest.values()}:
            self._turns[trial.member] = self._turns.get(trial.member, 0) + 1
        self._newest[trial.member] = trial
        if trial.state == "COMPLETE":
            self._complete.setdefault(trial.member, {})[self._turns[trial.member]] = trial

    def ask(self) -> Turn | None:
        """The turn of the member that has had the fewest; None while all are at work."""
        for member in range(self._study.population):
            if member not in self._newest:
                return Turn(member, self._draw())
        idle = [member for member, trial in self._newest.items() if trial.state not in _LIVE]
        if not idle:
            return None
        member = min(idle, key=lambda each: (self._turns[each], each))
        ranked = self._rank(self._turns[member])
        count = min(math.ceil(len(ranked) * QUANTILE), len(ranked) // 2)
        mine = self._newest[member]
        if mine in ranked[: len(ranked) - count]:
            return self._follow(member, mine, explore=False)
        if not ranked:
            return Turn(member, self._draw())
        return self._follow(member, self._random.choice(ranked[: max(1, count)]), explore=True)

    def _rank(self, turn: int) -> list[TrialRead]:
        """What each member had come to by that turn, the best first: one that has trained for longer is not better for it."""
        metric = self._study.objectives[0].metric
        reached = [max((at for at in turns if at <= turn), default=None) for turns in self._complete.values()]
        known = [turns[at] for turns, at in zip(self._complete.values(), reached, strict=True) if at is not None]
        return sorted(known, key=lambda trial: (not trial.feasible, self._sign * trial.values[metric], trial.number))

    def _follow(self, member: int, parent: TrialRead, *, explore: bool) -> Turn:
        params: dict[str, Any] = {}
        for name in sort_space(self._study.space):
            parameter = self._study.space[name]
            if not is_active(parameter, params):
                continue
            known = parent.params.get(name)
            if known is None or not contains(parameter, known) or (explore and self._random.random() < RESAMPLED):
                params[name] = self._draw_one(parameter)
            else:
                params[name] = self._perturb(parameter, known) if explore else known
        return Turn(member, params, parent.number)

    def _draw(self) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name in sort_space(self._study.space):
            if is_active(self._study.space[name], params):
                params[name] = self._draw_one(self._study.space[name])
        return params

    def _draw_one(self, parameter: Parameter) -> Any:
        if isinstance(parameter, CategoricalParameter):
            return self._random.choice(parameter.choices)
        if parameter.log:
            return _fit(parameter, math.exp(self._random.uniform(math.log(parameter.low), math.log(parameter.high))))
        return _fit(parameter, self._random.uniform(parameter.low, parameter.high))

    def _perturb(self, parameter: Parameter, value: Any) -> Any:
        """A number times 0.8 or 1.2, at least to the next one that there is; of choices the one beside it."""
        up = self._random.random() < 0.5
        steps = steps_of(parameter) or []
        if not isinstance(parameter, CategoricalParameter):
            moved = _fit(parameter, value * FACTORS[up])
            if moved != value or not steps:
                return moved
        at = next(index for index, step in enumerate(steps) if type(step) is type(value) and step == value)
        return steps[min(max(at + (1 if up else -1), 0), len(steps) - 1)]


def _fit(parameter: Any, value: float) -> float | int:
    """The nearest value that the parameter can have."""
    if parameter.step is not None and not parameter.log:
        value = parameter.low + round((value - parameter.low) / parameter.step) * parameter.step
        while value > parameter.high:
            value -= parameter.step
    value = min(max(value, parameter.low), parameter.high)
    return round(value) if isinstance(parameter, IntParameter) else float(value)
