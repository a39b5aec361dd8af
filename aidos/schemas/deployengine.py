"""Wire schemas of DeployEngine."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Wire

ModelRef = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[A-Za-z0-9._-]{1,100})?$")]
"""``name@version`` or ``name@alias``, e.g. ``digits@1``."""


class EndpointCreate(Asked):
    """An endpoint that is wanted."""

    name: Name
    model: ModelRef
    replicas: int = Field(1, ge=1, le=100)
    cpus: float = Field(0.5, ge=0, le=1024, description="CPUs that each replica leases.")


class EndpointUpdate(Asked):
    """What to change; absent fields stay."""

    model: ModelRef | None = None
    replicas: int | None = Field(None, ge=1, le=100)
    cpus: float | None = Field(None, ge=0, le=1024)


class EndpointRead(Wire):
    """An endpoint as it is."""

    id: UUID
    name: str
    route: str = Field(description="Path under the gateway's URL; the Open Inference Protocol v2 lives below it.")
    model: str
    version: int
    replicas: int
    cpus: float
    state: str
    reason: str
    generation: int
    deployed_generation: int
    created_by: str
    created_at: datetime
    updated_at: datetime
