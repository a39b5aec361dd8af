"""When what waits starts and ends, and how wrong that may be."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.trainos.queue.snapshots import HOUR, NOW, job, node, of, runs, snapshot
from tune.trainos.queue.models import Forecast
from tune.trainos.queue.prediction import RunTime, like, predict

MINUTE = 60.0


def minutes(forecast: Forecast) -> list[float]:
    """All but ``made_at``, as minutes from now."""
    moments = (forecast.starts_from, forecast.starts_at, forecast.starts_until, forecast.ends_from, forecast.ends_at, forecast.ends_until)
    return [(moment - NOW).total_seconds() / MINUTE for moment in moments]


class TestPredict:
    def test_a_job_starts_when_the_one_before_it_has_run_as_long_as_such_jobs_did(self) -> None:
        first, second = job("first", cpu=8, age_s=20), job("second", cpu=8, age_s=10)
        took = RunTime(30 * MINUTE, HOUR, 2 * HOUR)
        said = predict(snapshot([node("a", cpu=8)], [first, second]), {first.id: took, second.id: took})
        assert minutes(said[first.id]) == [-0.5, 0, 0.5, 29.5, 60, 120.5]
        assert minutes(said[second.id]) == [29.5, 60, 120.5, 59.5, 120, 240.5]

    def test_what_runs_counts_from_its_start(self) -> None:
        running = runs(job("runs", cpu=8), "a", for_s=20 * MINUTE)
        waiting = job("waits", cpu=8)
        said = predict(snapshot([node("a", cpu=8)], [waiting], [running]), {of("runs"): RunTime(30 * MINUTE, HOUR, 2 * HOUR)})
        assert minutes(said[waiting.id])[:3] == [9.5, 40, 100.5]

    def test_what_outlasts_all_that_is_known_may_end_soon_or_late(self) -> None:
        assert RunTime(60, 120, 180).after(900) == RunTime(1000, 1800, 9000)

    def test_a_limit_is_never_outlasted(self) -> None:
        running = runs(job("runs", cpu=8, limit_s=HOUR), "a", for_s=50 * MINUTE)
        waiting = job("waits", cpu=8)
        said = predict(snapshot([node("a", cpu=8)], [waiting], [running]), {of("runs"): RunTime(60, 120, 180)})
        assert minutes(said[waiting.id])[2] == 10.5

    def test_of_a_job_that_nothing_is_known_of_the_interval_is_wide(self) -> None:
        assert RunTime.unknown(None) == RunTime(360, 3600, 36000)
        assert RunTime.unknown(1000) == RunTime(100, 1000, 1000)

    def test_what_never_gets_room_is_promised_nothing(self) -> None:
        assert predict(snapshot([node("a", cpu=4)], [job("big", cpu=8)]), {}) == {}

    def test_the_bounds_hold_the_likely(self) -> None:
        waiting = [job(f"w{i}", cpu=1 + i % 3, age_s=100 - i, limit_s=HOUR * (1 + i % 4)) for i in range(30)]
        for forecast in predict(snapshot([node("a", cpu=4), node("b", cpu=3)], waiting), {}).values():
            start_from, start, start_until, end_from, end, end_until = minutes(forecast)
            assert start_from <= start <= start_until and end_from <= end <= end_until and start <= end


class TestLike:
    @pytest.mark.parametrize(
        ("by_name", "by_shape", "found"),
        [(True, True, RunTime(1, 2, 3)), (False, True, RunTime(4, 5, 6)), (False, False, None)],
    )
    def test_jobs_of_its_name_say_more_than_those_of_its_size(self, by_name: bool, by_shape: bool, found: RunTime | None) -> None:
        workload = job("digits", cpu=2)
        names = {(of("vision"), "digits"): RunTime(1, 2, 3)} if by_name else {}
        shapes = {(of("vision"), 2.0, 0.0, 0.0): RunTime(4, 5, 6)} if by_shape else {}
        assert like(workload, names, shapes) == found

    def test_never_longer_than_it_may(self) -> None:
        assert like(job("digits", cpu=2, limit_s=2.5), {(of("vision"), "digits"): RunTime(1, 2, 3)}, {}) == RunTime(1, 2, 2.5)


def test_a_forecast_is_of_its_moment() -> None:
    waiting = job("waits", cpu=8)
    said = predict(snapshot([node("a", cpu=8)], [waiting]), {})[waiting.id]
    assert said.made_at == NOW and said.ends_at - said.starts_at == timedelta(hours=1)
