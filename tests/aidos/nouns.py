"""Resources of no module, for tests of the mechanism."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr

from aidos.http.operation import Resource, operation
from aidos.schemas.common import Asked, Name, Wire


class WidgetPart(Asked):
    """A part."""

    size: int


class WidgetCreate(Asked):
    """A widget."""

    name: Name
    kind: Literal["round", "square"] = "round"
    replicas: int = Field(1, ge=1, description="How many.")
    tags: list[str] = []
    labels: dict[str, str] = {}
    part: WidgetPart | None = None
    password: SecretStr | None = None


class WidgetUpdate(Asked):
    """What to change."""

    replicas: int | None = None
    note: str | None = None


class WidgetRead(Wire):
    """A widget as it is."""

    name: str
    id: UUID | None = None


class LogLine(Wire):
    """A line."""

    text: str


class Widgets(Resource):
    """Widgets, to try the mechanism on."""

    noun = "widget"

    create = operation("POST", "/v1/widgets", body=WidgetCreate, returns=WidgetRead, positional=("name",), help="Make a widget.")
    list = operation("GET", "/v1/widgets", returns=WidgetRead, paged=True, query={"state": str, "deep": bool}, help="The widgets.")
    get = operation("GET", "/v1/widgets/{widget}", returns=WidgetRead, query={"wait": str}, help="One widget.")
    update = operation(
        "PATCH", "/v1/widgets/{widget}", body=WidgetUpdate, returns=WidgetRead, headers={"if_match": "If-Match"}, help="Change a widget."
    )
    delete = operation("DELETE", "/v1/widgets/{widget}", help="Remove a widget.")
    point = operation("PUT", "/v1/widgets/{widget}/refs/{ref:path}", returns=WidgetRead, help="Point a ref.")
    logs = operation("GET", "/v1/widgets/{widget}/logs", returns=LogLine, stream=True, help="Its log, live.")
    send = operation("PUT", "/v1/widgets/{widget}/bytes", body=bytes, help="Send bytes.")
    fetch = operation("GET", "/v1/widgets/{widget}/bytes", returns=bytes, help="Fetch bytes.")
    search = operation("GET", "/v1/search", returns=WidgetRead, query={"q": (str, ...), "limit": (int, 10)}, help="Search.")
