"""Whether a run came out as another did."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from actors.modelhub.models import Latest, Run, RunState
from cluster.db import new_id
from tune.trainos.reproduction import policy
from tune.trainos.reproduction.errors import MetricNotMeasured
from tune.trainos.reproduction.models import Tolerances, Verdict


def run_of(state: RunState = RunState.FINISHED, **metrics: float) -> Run:
    now = datetime.now(UTC)
    latest = {key.replace("__", "/"): Latest(value, 1, now) for key, value in metrics.items()}
    return Run(new_id(), new_id(), new_id(), "digits", "first", state, None, "ada", now, now, {}, {}, latest)


@pytest.mark.plain
class TestJudge:
    @pytest.mark.parametrize(
        ("original", "reproduced", "tolerance", "verdict"),
        [
            (0.5, 0.5, 0.0, Verdict.AGREES),
            (0.5, 0.5000009, 1e-6, Verdict.AGREES),
            (0.5, 0.50001, 1e-6, Verdict.DIFFERS),
            (0.0, 1e-7, 1e-6, Verdict.AGREES),
            (1e9, 1e9 + 100, 1e-6, Verdict.AGREES),
            (math.nan, math.nan, 0.0, Verdict.AGREES),
            (math.nan, 1.0, 1e-6, Verdict.DIFFERS),
            (1.0, math.nan, 1e-6, Verdict.DIFFERS),
            (math.inf, math.inf, 0.0, Verdict.AGREES),
            (math.inf, 1.0, 1e-6, Verdict.DIFFERS),
            (math.inf, -math.inf, 1e-6, Verdict.DIFFERS),
            (1.0, 5.0, math.inf, Verdict.AGREES),
        ],
    )
    def test_holds_a_metric_to_its_tolerance(self, original: float, reproduced: float, tolerance: float, verdict: Verdict) -> None:
        assert policy.judge(run_of(acc=original), run_of(acc=reproduced), Tolerances(tolerance))[0] is verdict

    def test_a_metric_has_a_tolerance_of_its_own(self) -> None:
        before, after = run_of(acc=0.9, loss=0.1), run_of(acc=0.905, loss=0.1)
        assert policy.judge(before, after, Tolerances())[:2] == (
            Verdict.DIFFERS,
            "1 of 2 metrics differ by more than their tolerance: acc.",
        )
        assert policy.judge(before, after, Tolerances(by_metric={"acc": 0.01}))[0] is Verdict.AGREES
        with pytest.raises(MetricNotMeasured, match="acc, loss"):
            policy.judge(before, after, Tolerances(by_metric={"accuracy": 0.01}))

    def test_what_one_of_them_did_not_measure_does_not_agree(self) -> None:
        for before, after in ((run_of(a=1.0, b=1.0), run_of(a=1.0)), (run_of(a=1.0), run_of(a=1.0, b=1.0))):
            verdict, reason, _ = policy.judge(before, after, Tolerances())
            assert verdict is Verdict.DIFFERS and reason.endswith(": b.")

    def test_nothing_measured_is_no_agreement_and_the_machine_is_not_judged(self) -> None:
        verdict, reason, metrics = policy.judge(run_of(system__cpu=1.0), run_of(system__cpu=50.0), Tolerances())
        assert (verdict, metrics) == (Verdict.DIFFERS, ()) and "Neither" in reason

    def test_it_must_end_as_the_original_did(self) -> None:
        verdict, reason, _ = policy.judge(run_of(a=1.0), run_of(RunState.FAILED, a=1.0), Tolerances())
        assert (verdict, reason) == (Verdict.DIFFERS, "It ended FAILED, the original FINISHED.")
        assert policy.judge(run_of(a=1.0), run_of(RunState.RUNNING), Tolerances())[0] is Verdict.RUNNING
