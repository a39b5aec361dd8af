"""When a schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from tune.trainos.errors import ScheduleInvalid

_FIELDS = 5


def next_time(cron: str, timezone: str, after: datetime) -> datetime:
    """The first time after ``after``, in UTC.

    As Debian's cron has it: a time that the clocks skip in spring comes right after the gap, one that they show twice in autumn comes
    once; what recurs by the hour or minute goes on by the hour and minute. Raises: ScheduleInvalid.
    """
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleInvalid(reason=f"'{timezone}' is no time zone") from error
    try:
        if len(cron.split()) != _FIELDS:
            raise CronSimError("it has not five fields")
        return next(CronSim(cron, after.astimezone(zone))).astimezone(UTC)
    except CronSimError as error:
        raise ScheduleInvalid(reason=f"'{cron}' is no cron expression ({error})") from error
    except StopIteration as error:
        raise ScheduleInvalid(reason=f"'{cron}' never comes") from error
