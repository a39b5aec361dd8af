"""Schedules, as the client sees them."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.schedules import ScheduleCreate, ScheduleRead

_ALL, _ONE = "/v1/trainos/schedules", "/v1/trainos/schedules/{schedule}"


class Schedules(Resource):
    """Jobs that are queued anew at the times of a cron expression."""

    noun = "schedule"

    create = operation("POST", _ALL, body=ScheduleCreate, returns=ScheduleRead, positional=("name",), help="Queue a job again and again.")
    list = operation("GET", _ALL, returns=ScheduleRead, paged=True, help="The project's schedules, by name.")
    get = operation("GET", _ONE, returns=ScheduleRead, help="One schedule: when it is due, and what its last time came to.")
    pause = operation("POST", f"{_ONE}/pause", returns=ScheduleRead, help="Queue nothing until it is resumed.")
    resume = operation("POST", f"{_ONE}/resume", returns=ScheduleRead, help="Go on at the next time.")
    delete = operation("DELETE", _ONE, help="Delete a schedule; its jobs stay.")
