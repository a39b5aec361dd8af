"""What is refused of OpenLineage's events."""

from __future__ import annotations

from aidos.errors import InvalidPayload


class InvalidRunEvent(InvalidPayload):
    title = "Not an event of OpenLineage"
    detail = "{reason}"
