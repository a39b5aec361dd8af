"""What a thing has gone into, as it is sent."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from aidos.schemas.common import Wire
from aidos.schemas.modelhub import NodeRead


class AffectedRead(Wire):
    node: NodeRead
    sure: bool = Field(description="It came of the thing itself; else of a commit that holds it, and nothing says whether it was read.")
    live: bool = Field(description="An endpoint that answers with it now, or is about to.")
    model: str = Field(description="The version that a live endpoint answers with; else empty.")


class ImpactRead(Wire):
    start: NodeRead
    affected: list[AffectedRead] = Field(description="Live endpoints first, then what is sure.")
    truncated: bool = Field(description="There are more than these: ask for one kind, or for what is `live`, which is found another way.")


class RunEventRead(Wire):
    """A RunEvent as the specification has it (https://openlineage.io/spec/2-0-2/OpenLineage.json), with the names that it gives its fields."""

    model_config = ConfigDict(extra="allow")
