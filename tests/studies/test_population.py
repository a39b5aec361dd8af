"""Population based training: a schedule is found that no fixed parameter has, and the population goes on where it was."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from typing import Any

import pytest

from aidos.schemas.studies import StudyRead, TrialRead
from tests.studies.examples import CONDITIONAL, make_study, make_trial
from tune.studies.policy import wrong_parameter
from tune.studies.population import Population, Turn

pytestmark = pytest.mark.plain
RATE = {"lr": {"kind": "float", "low": 1e-4, "high": 1, "log": True}}
MEMBERS, TURNS, STEPS = 6, 12, 10
State = list[float]


def descend(state: State, rate: float, steps: int, noise: random.Random) -> State:
    """Gradient descent on x² with a noisy gradient: a large rate is fast and stays far away, a small one is exact and slow."""
    for _ in range(steps):
        state = [x - rate * (x + noise.gauss(0, 1)) for x in state]
    return state


def loss(state: State) -> float:
    return statistics.fmean(x * x for x in state)


def make(turn: Turn, number: int, state: str = "COMPLETE", **values: float) -> TrialRead:
    return make_trial(number, turn.params, state, **values).model_copy(update={"member": turn.member, "parent": turn.parent})


def train(study: StudyRead, seed: int, *, rebuilt: bool = False) -> list[TrialRead]:
    """The whole search; ``rebuilt``: by a new process for each trial."""
    noise, states, trials = random.Random(seed), {}, list[TrialRead]()
    population = Population(study)
    for number in range(MEMBERS * TURNS):
        if rebuilt:
            population = Population(study, trials)
        turn = population.ask()
        assert turn is not None
        begin = [5.0] * 30 if turn.parent is None else states[turn.parent]
        states[number] = descend(begin, turn.params["lr"], STEPS, noise)
        trials.append(make(turn, number, loss=loss(states[number])))
        population.note(trials[-1])
    return trials


def ask(population: Population) -> Turn:
    turn = population.ask()
    assert turn is not None
    return turn


class TestPopulation:
    @pytest.mark.parametrize("rebuilt", [False, True], ids=["one driver", "a driver killed after every trial"])
    def test_beats_the_best_of_as_many_fixed_rates(self, rebuilt: bool) -> None:
        ours, fixed = [], []
        for seed in range(5):
            trials = train(make_study(space=RATE, sampler="pbt", population=MEMBERS, seed=seed), seed, rebuilt=rebuilt)
            ours.append(min(trial.values["loss"] for trial in trials[-MEMBERS:]))
            rates, noise = [trial.params["lr"] for trial in trials[:MEMBERS]], random.Random(seed)
            fixed.append(min(loss(descend([5.0] * 30, rate, STEPS * TURNS, noise)) for rate in rates))
        assert statistics.mean(ours) < statistics.mean(fixed)

    def test_members_take_turns_and_go_on_from_their_own_checkpoint_or_a_better_ones(self) -> None:
        trials = train(make_study(space=RATE, sampler="pbt", population=MEMBERS, seed=0), 0)
        assert [sum(trial.member == member for trial in trials) for member in range(MEMBERS)] == [TURNS] * MEMBERS
        own, exploited = 0, 0
        for trial in trials[MEMBERS:]:
            assert trial.parent is not None
            parent = trials[trial.parent]
            if parent.member == trial.member:
                own += 1
                assert parent.params == trial.params
            else:
                exploited += 1
                turn = trials[: trial.number // MEMBERS * MEMBERS][-MEMBERS:]
                ranked = [each.member for each in sorted(turn, key=lambda each: each.values["loss"])]
                assert trial.member in ranked[-2:] and parent.member in ranked[:2]
        assert own > exploited > 0

    def test_nobody_has_a_turn_while_at_work_and_a_failed_member_follows_another(self) -> None:
        population = Population(make_study(space=RATE, sampler="pbt", population=2, seed=0))
        first = ask(population)
        population.note(make(first, 0, "RUNNING"))
        population.note(make(ask(population), 1, "RUNNING"))
        assert population.ask() is None
        population.note(make(first, 0, loss=1.0))
        population.note(make(Turn(1, {"lr": 0.1}), 1, "FAILED"))
        again = ask(population)
        population.note(make(again, 2, "RUNNING"))
        follower = ask(population)
        assert {again.member, follower.member} == {0, 1} and again.parent == follower.parent == 0

    def test_what_is_explored_stays_in_the_space(self) -> None:
        study = make_study(space=CONDITIONAL, sampler="pbt", population=4, seed=3)
        population, seen = Population(study), set()
        for number in range(200):
            turn = ask(population)
            assert wrong_parameter(study.space, turn.params) is None
            seen.add(repr(sorted(turn.params.items(), key=str)))
            population.note(make(turn, number, loss=_score(turn.params, number)))
        assert len(seen) > 20


def _score(params: Mapping[str, Any], number: int) -> float:
    return random.Random(f"{sorted(params)} {number}").random()
