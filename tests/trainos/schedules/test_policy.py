"""When a schedule is due: cron expressions on clocks that are put forward and back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from tune.trainos.errors import ScheduleInvalid
from tune.trainos.schedules.policy import next_time


def times(cron: str, timezone: str, after: str, count: int) -> list[str]:
    """So many times, in UTC, one after the other."""
    at, found = datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in range(count):
        at = next_time(cron, timezone, at)
        found.append(f"{at:%m-%d %H:%M}")
    return found


class TestNextTime:
    def test_is_by_the_clocks_of_its_zone(self) -> None:
        assert times("0 3 * * *", "Europe/Berlin", "2026-01-01T12:00", 1) == ["01-02 02:00"]
        assert times("0 3 * * *", "Europe/Berlin", "2026-07-01T12:00", 1) == ["07-02 01:00"]
        assert times("30 9 * * 1-5", "UTC", "2026-11-20T10:00", 2) == ["11-23 09:30", "11-24 09:30"]

    def test_is_after_and_not_at_the_moment_asked_for(self) -> None:
        assert times("0 3 * * *", "UTC", "2026-01-01T03:00", 1) == ["01-02 03:00"]

    def test_a_time_that_spring_skips_comes_right_after_the_gap_and_once(self) -> None:
        assert times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:30"]

    def test_a_time_that_autumn_shows_twice_comes_once(self) -> None:
        assert times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]

    def test_what_recurs_by_the_minute_goes_on_through_both(self) -> None:
        for day, hour in (("2026-10-25", "00"), ("2026-03-29", "00")):
            after = datetime.fromisoformat(f"{day}T{hour}:00").replace(tzinfo=UTC)
            found = [after]
            for _ in range(8):
                found.append(next_time("*/30 * * * *", "Europe/Berlin", found[-1]))
            assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(minutes=30)}

    @pytest.mark.parametrize(
        ("cron", "timezone", "reason"),
        [
            ("0 3 * *", "UTC", "'0 3 \\* \\*' is no cron expression"),
            ("* * * * * *", "UTC", "five fields"),
            ("61 * * * *", "UTC", "Bad minute"),
            ("0 0 30 2 *", "UTC", "Bad day-of-month"),
            ("@daily xx", "UTC", "no cron expression"),
            ("0 3 * * *", "Europe/Atlantis", "'Europe/Atlantis' is no time zone"),
            ("0 3 * * *", "Europe", "no time zone"),
            ("0 3 * * *", "../etc/passwd", "no time zone"),
        ],
    )
    def test_what_is_none_is_refused_and_named(self, cron: str, timezone: str, reason: str) -> None:
        with pytest.raises(ScheduleInvalid, match=reason):
            next_time(cron, timezone, datetime(2026, 1, 1, tzinfo=UTC))
