"""What traces refuse."""

from __future__ import annotations

from aidos.errors import InvalidPayload, NotFound


class TraceNotFound(NotFound):
    title = "Trace not found"
    detail = "Trace with ID '{trace_id}' not found."


class AssessmentNotFound(NotFound):
    title = "Assessment not found"
    detail = "Assessment with ID '{assessment_id}' not found for trace '{trace_id}'."


class InvalidDeletion(InvalidPayload):
    title = "Nothing is named to delete"
    detail = "Either `max_timestamp_millis` or `trace_ids` must be specified, and not both."
