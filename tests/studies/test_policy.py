"""What studies decide: who is pruned, what is wrong with a space, when a budget is spent, what becomes of a lost job."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from aidos.cli.study import parse_constraint, parse_objective, parse_parameter
from aidos.errors import InvalidRequest
from aidos.schemas.studies import Objective, Pruner
from cluster.db import new_id
from tests.studies.examples import BRANIN, CONDITIONAL, make_spec, make_study, read_space
from tune.studies import policy
from tune.studies.models import Peer, Trial, TrialState

pytestmark = pytest.mark.plain
COMPLETE, RUNNING = TrialState.COMPLETE, TrialState.RUNNING
LOSS, ACC = Objective(metric="loss"), Objective(metric="acc", direction="maximize")


class TestSpaces:
    @pytest.mark.parametrize(
        ("space", "said"),
        [
            ({}, "at least 1 item"),
            ({"x": {"kind": "float", "low": 2, "high": 1}}, "low must not be above high, got 2.0 and 1.0"),
            ({"x": {"kind": "float", "low": 0, "high": 1, "log": True}}, "with log, low must be above 0, got 0.0"),
            ({"x": {"kind": "int", "low": -1, "high": 1, "log": True}}, "with log, low must be above 0, got -1"),
            ({"x": {"kind": "float", "low": 1, "high": 2, "log": True, "step": 0.5}}, "log and step exclude each other"),
            ({"x": {"kind": "int", "low": 1, "high": 2, "step": 0}}, "greater than or equal to 1"),
            ({"x": {"kind": "float", "low": math.nan, "high": 1}}, "finite"),
            ({"x": {"kind": "normal", "mean": 0}}, "'float', 'int', 'categorical'"),
            ({"x": {"kind": "categorical", "choices": []}}, "at least 1 item"),
            ({"x": {"kind": "categorical", "choices": ["a", "a"]}}, "must differ"),
            ({"x": {"kind": "categorical", "choices": [{"a": 1}]}}, "must be text, a number or a truth value"),
            ({"a b": {"kind": "int", "low": 1, "high": 2}}, "should match pattern"),
            ({"x": {"kind": "int", "low": 1, "high": 2, "when": {"y": [1]}}}, "depends on 'y', which is not in the space"),
            (
                {"x": {"kind": "int", "low": 1, "high": 2}, "y": {"kind": "int", "low": 1, "high": 2, "when": {"x": [3]}}},
                "depends on 'x' being 3, which it can never be",
            ),
            (
                {
                    "x": {"kind": "int", "low": 1, "high": 2, "when": {"y": [1]}},
                    "y": {"kind": "int", "low": 1, "high": 2, "when": {"x": [1]}},
                },
                "the conditions of x, y go round in a circle",
            ),
        ],
    )
    def test_a_wrong_one_is_refused_with_what_is_wrong(self, space: Any, said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            make_spec(space=space)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"sampler": "magic"}, "'tpe', 'cmaes', 'random', 'grid' or 'pbt'"),
            ({"sampler": "grid"}, "needs a step for 'x'"),
            ({"sampler": "grid", "space": {"x": {"kind": "int", "low": 1, "high": 10**6}}}, "at most 100000"),
            ({"sampler": "cmaes", "space": CONDITIONAL}, "'optimizer' is none: use 'tpe'"),
            ({"sampler": "cmaes", "objectives": [{"metric": "a"}, {"metric": "b"}]}, "single objective"),
            ({"pruner": {"kind": "asha"}, "objectives": [{"metric": "a"}, {"metric": "b"}]}, "needs a single objective"),
            ({"objectives": [{"metric": "a"}, {"metric": "a", "direction": "maximize"}]}, "two objectives have the same metric"),
            ({"objectives": []}, "at least 1 item"),
            ({"budget": {"trials": 0}}, "greater than or equal to 1"),
            ({"budget": {"time_s": 0}}, "greater than or equal to 1"),
            ({"budget": {"usd": 0}}, "greater than 0"),
            ({"constraints": [{"metric": "a"}]}, "either at_most or at_least"),
        ],
    )
    def test_a_search_that_cannot_be_done_is_refused(self, fields: Any, said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            make_spec(**fields)

    @pytest.mark.parametrize(
        ("params", "name"),
        [
            ({"optimizer": "adam", "beta": 0.5, "layers": 2}, None),
            ({"optimizer": "sgd", "momentum": 0.1, "nesterov": True, "layers": 3}, None),
            ({"optimizer": "adam", "beta": 0.5, "momentum": 0.1, "layers": 2}, "momentum"),
            ({"optimizer": "sgd", "momentum": 0.1, "layers": 2}, "nesterov"),
            ({"optimizer": "sgd", "momentum": 0.1, "nesterov": 1, "layers": 2}, "nesterov"),
            ({"optimizer": "adam", "beta": 0.5, "layers": 4}, "layers"),
            ({"optimizer": "adam", "beta": 0.5, "layers": 1.5}, "layers"),
            ({"optimizer": "adam", "beta": 0.5, "layers": 1, "more": 1}, "more"),
        ],
    )
    def test_parameters_are_held_to_it(self, params: Any, name: str | None) -> None:
        found = policy.wrong_parameter(read_space(CONDITIONAL), params)
        assert (found[0] if found else None) == name

    def test_a_parameter_keeps_its_kind(self) -> None:
        changed = {**BRANIN, "x": {"kind": "int", "low": 0, "high": 3}}
        assert "'x' is float and cannot become int" in str(policy.changed_kind(read_space(BRANIN), read_space(changed)))
        assert policy.changed_kind(read_space(BRANIN), read_space({"z": changed["x"]})) is None


class TestPruning:
    def test_asha_judges_at_its_rungs_only(self) -> None:
        pruner = Pruner(kind="asha", min_steps=2, reduction=3)
        came = [(None, 0), (0, 1), (1, 2), (2, 3), (3, 5), (5, 6), (6, 17), (17, 19), (0, 200), (162, 200)]
        assert [policy.find_rung(pruner, *each) for each in came] == [None, None, 2, None, None, 6, None, 18, 162, None]

    @pytest.mark.parametrize(("own", "others", "stops"), [(1.0, [], False), (2.0, [1.0], True), (1.0, [2.0, 3.0], False)])
    def test_asha_lets_the_best_third_go_on(self, own: float, others: list[float], stops: bool) -> None:
        peers = [Peer(number, RUNNING, value) for number, value in enumerate(others, 1)] + [Peer(0, RUNNING, own)]
        assert policy.should_stop(Pruner(kind="asha"), LOSS, 0, [own], peers) is stops

    def test_asha_of_nine_lets_three_go_on(self) -> None:
        values = [float(value) for value in range(9)]
        peers = [Peer(number, RUNNING, value) for number, value in enumerate(values)]
        stopped = [policy.should_stop(Pruner(kind="asha"), LOSS, n, [value], peers) for n, value in enumerate(values)]
        assert stopped == [False] * 3 + [True] * 6
        stopped = [policy.should_stop(Pruner(kind="asha"), ACC, n, [value], peers) for n, value in enumerate(values)]
        assert stopped == [True] * 6 + [False] * 3

    def test_median_waits_for_enough_trials_that_ended(self) -> None:
        pruner = Pruner(kind="median", startup_trials=3)
        peers = [Peer(1, COMPLETE, 1.0), Peer(2, COMPLETE, 2.0), Peer(3, RUNNING, 3.0)]
        assert not policy.should_stop(pruner, LOSS, 0, [9.0], peers)
        peers.append(Peer(4, COMPLETE, 3.0))
        assert policy.should_stop(pruner, LOSS, 0, [9.0, 2.1], peers)
        assert not policy.should_stop(pruner, LOSS, 0, [1.9, 9.0], peers), "its best value counts"

    def test_one_that_measures_nan_is_over_and_one_that_was_nan_is_beaten(self) -> None:
        assert policy.should_stop(Pruner(kind="asha"), LOSS, 0, [1.0, math.nan], [])
        assert not policy.should_stop(Pruner(kind="asha"), LOSS, 0, [1.0], [Peer(1, RUNNING, math.nan)])

    def test_nobody_is_judged_without_a_pruner(self) -> None:
        assert policy.find_rung(Pruner(), None, 10) is None


class TestTrials:
    @pytest.mark.parametrize(
        ("code", "values", "stop_step", "state", "reason"),
        [
            (0, {"loss": 1.0}, None, "COMPLETE", ""),
            (0, {}, None, "FAILED", "it reported no 'loss'"),
            (0, {"loss": math.nan}, None, "FAILED", "its last 'loss' is nan"),
            (2, {"loss": 1.0}, None, "FAILED", "exit code 2; last line: boom"),
            (0, {"loss": 1.0}, 9, "PRUNED", "ended by asha at step 9"),
            (143, {"loss": 1.0}, 9, "PRUNED", "ended by asha at step 9"),
        ],
    )
    def test_come_out_by_what_they_reported(self, code: int, values: Any, stop_step: int | None, state: str, reason: str) -> None:
        ended = policy.judge_trial(make_spec(pruner={"kind": "asha"}), code, "boom", values, stop_step)
        assert (ended.state, ended.reason) == (state, reason)

    def test_the_best_keeps_its_constraints(self) -> None:
        spec = make_spec(constraints=[{"metric": "size", "at_most": 5}, {"metric": "acc", "at_least": 0.5}])
        values = [(1.0, 9, 0.9), (2.0, 1, 0.1), (3.0, 5, 0.5), (3.0, 1, 0.9)]
        trials = [_trial(number, loss=loss, size=size, acc=acc) for number, (loss, size, acc) in enumerate(values)]
        assert [trial.number for trial in policy.best_trials(spec, trials)] == [2]

    def test_of_several_objectives_the_front_is_best(self) -> None:
        spec = make_spec(objectives=[{"metric": "loss"}, {"metric": "acc", "direction": "maximize"}])
        values = [(1.0, 0.5), (2.0, 0.9), (2.0, 0.8), (3.0, 0.95), (1.0, 0.5), (0.9, 0.1)]
        trials = [_trial(number, loss=loss, acc=acc) for number, (loss, acc) in enumerate(values)]
        assert [trial.number for trial in policy.best_trials(spec, trials)] == [0, 1, 3, 4, 5]
        assert policy.best_trials(spec, []) == []


def _trial(number: int, **values: float) -> Trial:
    now = datetime.now(UTC)
    return Trial(number, COMPLETE, {}, values, 1, None, "", 1, new_id(), now, now)


class TestBudget:
    @pytest.mark.parametrize(
        ("trials", "time_s", "micro_usd", "said"),
        [
            ({"COMPLETE": 8, "RUNNING": 1}, 10, 0, None),
            ({"COMPLETE": 8, "RUNNING": 1, "WAITING": 1}, 10, 0, "10 of 10 trials have begun"),
            ({"FAILED": 3}, 10, 0, "3 trials failed, and the budget is 3"),
            ({}, 60.5, 0, "it has run for 60 s of 60"),
            ({}, 0, 2_500_000, "it has cost 2.50 of 2.5 USD"),
        ],
    )
    def test_what_is_reached_first_ends_the_search(self, trials: Any, time_s: float, micro_usd: int, said: str | None) -> None:
        spec = make_spec(budget={"trials": 10, "time_s": 60, "usd": 2.5, "failures": 3})
        assert policy.spent_budget(spec, trials, time_s, micro_usd) == said


class TestCommand:
    def test_parameters_stand_where_they_are_named_and_are_not_read_again(self) -> None:
        study = make_study(space=CONDITIONAL, command=["train", "--o={optimizer}", "{beta}{momentum}", "{other}", "{nesterov}"])
        params = {"optimizer": "{beta}", "beta": 1e-05, "nesterov": True}
        assert policy.build_command(study.command, study.space, params) == ["train", "--o={beta}", "1e-05", "{other}", "true"]

    @pytest.mark.parametrize(
        ("text", "parameter"),
        [
            ("lr=1e-5..0.1:log", {"kind": "float", "low": 1e-5, "high": 0.1, "log": True}),
            ("n=1..8", {"kind": "int", "low": 1, "high": 8}),
            ("n=1..8:step=2", {"kind": "int", "low": 1, "high": 8, "step": 2}),
            ("x=0..1:step=0.1", {"kind": "float", "low": 0, "high": 1, "step": 0.1}),
            ("x=-1.5..-0.5", {"kind": "float", "low": -1.5, "high": -0.5}),
            ("o=adam|sgd", {"kind": "categorical", "choices": ["adam", "sgd"]}),
            ("o=1|2.5|true|x", {"kind": "categorical", "choices": [1, 2.5, True, "x"]}),
        ],
    )
    def test_a_parameter_is_written_in_a_word(self, text: str, parameter: Any) -> None:
        name, found = parse_parameter(text)
        assert (name, found) == (text[0 : text.index("=")], parameter)

    @pytest.mark.parametrize("text", ["lr", "lr=", "lr=1..b", "lr=1..2..3", "lr=1..2:cube", "lr=1..2:step=x"])
    def test_what_is_no_parameter_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="--param takes NAME=LOW..HIGH"):
            parse_parameter(text)

    def test_objectives_and_constraints_are_words_too(self) -> None:
        assert parse_objective("maximize:a:b") == {"metric": "a:b", "direction": "maximize"}
        assert parse_objective("val/loss") == {"metric": "val/loss"}
        assert parse_constraint("ms<=50") == {"metric": "ms", "at_most": 50}
        assert parse_constraint("acc>=0.9") == {"metric": "acc", "at_least": 0.9}
        with pytest.raises(InvalidRequest, match="METRIC<=NUMBER"):
            parse_constraint("ms=50")
