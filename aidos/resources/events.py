"""What happened in the project, as the client sees it."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.events import EventRead

_FILTER = {"type": str, "subject": str}


class Events(Resource):
    """CloudEvents of the project."""

    noun = "event"

    list = operation("GET", "/v1/events", returns=EventRead, paged=True, query=_FILTER, help="What happened in the project, oldest first.")
    stream = operation("GET", "/v1/events/stream", returns=EventRead, stream=True, query=_FILTER, help="What happens, as it happens.")
