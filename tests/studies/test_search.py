"""The choice of trials: good ones soon, every point of a grid once, and nothing forgotten by a search that goes on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest

from aidos.schemas.studies import StudyRead
from tests.studies.examples import BRANIN, CONDITIONAL, HARTMANN, branin, hartmann, make_study, make_trial
from tune.studies.fanova import evaluate
from tune.studies.policy import wrong_parameter
from tune.studies.search import Search

pytestmark = pytest.mark.plain
Function = Callable[[Mapping[str, float]], float]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def search_for(study: StudyRead, function: Function, trials: int, search: Search | None = None, first: int = 0) -> list[float]:
    search, values = search or Search(study), []
    for number in range(first, first + trials):
        asked = search.ask()
        assert asked is not None
        search.begin(number, *asked)
        values.append(function(asked[0]))
        search.tell(make_trial(number, asked[0], loss=values[-1]))
    return values


class TestSamplers:
    @pytest.mark.parametrize(("space", "function"), [(BRANIN, branin), (HARTMANN, hartmann)], ids=["branin", "hartmann6"])
    def test_tpe_beats_random_at_50_trials_over_10_seeds(self, space: dict[str, Any], function: Function) -> None:
        best = {
            sampler: [min(search_for(make_study(space=space, sampler=sampler, seed=seed), function, 50)) for seed in range(10)]
            for sampler in ("tpe", "random")
        }
        assert statistics.mean(best["tpe"]) < statistics.mean(best["random"])
        assert statistics.median(best["tpe"]) < statistics.median(best["random"])

    def test_cmaes_comes_closer_than_random_once_it_has_had_its_generations(self) -> None:
        best = {
            sampler: statistics.mean(
                min(search_for(make_study(space=HARTMANN, sampler=sampler, seed=seed), hartmann, 120)) for seed in range(3)
            )
            for sampler in ("cmaes", "random")
        }
        assert best["cmaes"] < best["random"]

    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_conditional_parameters_stand_only_where_their_condition_holds(self, sampler: str) -> None:
        study, seen = make_study(space=CONDITIONAL, sampler=sampler, seed=1), set()
        search = Search(study)
        for number in range(30):
            asked = search.ask()
            assert asked is not None and wrong_parameter(study.space, asked[0]) is None
            search.begin(number, *asked)
            search.tell(make_trial(number, asked[0], loss=float(number)))
            seen.add(frozenset(asked[0]))
        assert seen == {frozenset({"optimizer", "momentum", "nesterov", "layers"}), frozenset({"optimizer", "beta", "layers"})}

    def test_a_search_with_a_seed_is_the_same_again(self) -> None:
        study = make_study(seed=7)
        assert search_for(study, branin, 20) == search_for(study, branin, 20)

    def test_several_objectives_and_constraints_are_learned_from(self) -> None:
        objectives = [{"metric": "loss"}, {"metric": "acc", "direction": "maximize"}]
        search = Search(make_study(objectives=objectives, constraints=[{"metric": "size", "at_most": 1}], seed=0))
        for number in range(15):
            asked = search.ask()
            assert asked is not None
            search.begin(number, *asked)
            x = asked[0]["x"]
            search.tell(make_trial(number, asked[0], loss=abs(x), acc=asked[0]["y"], size=x))
        assert search.ask() is not None

    def test_pruned_and_failed_trials_are_told_too(self) -> None:
        search = Search(make_study(pruner={"kind": "asha"}))
        for number, state in enumerate(["PRUNED", "FAILED", "COMPLETE"] * 5):
            asked = search.ask()
            assert asked is not None
            search.begin(number, *asked)
            search.tell(make_trial(number, asked[0], state, **({} if state == "FAILED" else {"loss": 1.0 * number})))
        assert search.ask() is not None


class TestGrid:
    def test_every_point_is_tried_once_and_then_it_is_over(self) -> None:
        space = {
            "a": {"kind": "int", "low": 0, "high": 4, "step": 2},
            "b": {"kind": "categorical", "choices": ["p", "q"]},
            "c": {"kind": "float", "low": 0, "high": 0.3, "step": 0.1, "when": {"b": ["q"]}},
        }
        search, points = Search(make_study(space=space, sampler="grid")), []
        while (asked := search.ask()) is not None:
            search.begin(len(points), *asked)
            points.append(asked[0])
        assert len(points) == 3 * (1 + 4) == len({json.dumps(point) for point in points})
        assert all(wrong_parameter(make_study(space=space).space, point) is None for point in points)

    def test_one_that_goes_on_leaves_out_what_was_tried(self) -> None:
        study = make_study(space={"a": {"kind": "int", "low": 0, "high": 3}}, sampler="grid")
        tried = [make_trial(0, {"a": 0}, loss=1.0), make_trial(1, {"a": 2}, "FAILED")]
        search, left = Search(study, tried), []
        while (asked := search.ask()) is not None:
            search.begin(2 + len(left), *asked)
            left.append(asked[0]["a"])
        assert left == [1, 3]


class TestGoingOn:
    def test_a_search_that_goes_on_is_as_good_as_one_that_was_never_killed(self) -> None:
        found = []
        for seed in range(5):
            study, trials, search = make_study(seed=seed), [], None
            for number in range(50):
                if number % 10 == 0:
                    search = Search(study, trials)
                assert search is not None
                asked = search.ask()
                assert asked is not None
                search.begin(number, *asked)
                trials.append(make_trial(number, asked[0], loss=branin(asked[0])))
                search.tell(trials[-1])
            assert len({json.dumps(trial.params) for trial in trials}) == 50
            found.append(min(trial.values["loss"] for trial in trials))
        random = [min(search_for(make_study(sampler="random", seed=seed), branin, 50)) for seed in range(5)]
        assert statistics.mean(found) < statistics.mean(random)

    def test_trials_outside_of_a_changed_space_are_left_out_and_those_inside_count(self) -> None:
        space = {**BRANIN, "x": {"kind": "float", "low": 2, "high": 4}, "new": {"kind": "int", "low": 0, "high": 9}}
        old = [make_trial(number, {"x": -4.0 + number, "y": 1.0}, loss=1.0 * number) for number in range(14)]
        search = Search(make_study(space=space), old)
        assert {trial.params["x"] for trial in search._memory.trials} == {2.0, 3.0, 4.0}
        for number in range(14, 20):
            asked = search.ask()
            assert asked is not None and 2 <= asked[0]["x"] <= 4 and 0 <= asked[0]["new"] <= 9
            search.begin(number, *asked)


class TestImportance:
    def test_the_parameter_that_decides_has_the_largest_share(self) -> None:
        study = make_study(space={**BRANIN, "z": {"kind": "categorical", "choices": ["a", 1]}}, sampler="random", seed=0)
        search, points = Search(study), []
        for _ in range(60):
            asked = search.ask()
            assert asked is not None
            points.append({"params": asked[0], "value": 10 * asked[0]["y"] + asked[0]["x"]})
        asked_for = {"space": {name: each.model_dump() for name, each in study.space.items()}, "points": points}
        shares = evaluate(asked_for)
        assert next(iter(shares)) == "y" and shares["y"] > 0.8 and abs(sum(shares.values()) - 1) < 1e-6

    def test_too_few_trials_have_no_shares(self) -> None:
        assert evaluate({"space": BRANIN, "points": []}) == {}
