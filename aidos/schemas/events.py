"""Wire schemas of events: CloudEvents 1.0 in their JSON form."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from aidos.schemas.common import Wire


class EventRead(Wire):
    """A CloudEvent (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md)."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: str = Field(description="`aidos.<module>.<noun>.<past tense>`, e.g. `aidos.modelhub.run.created`.")
    source: str
    subject: str
    time: datetime | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    actor: str
    traceparent: str | None = None
    data: dict[str, Any]
