"""Endpoints and their states."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


class EndpointState(enum.StrEnum):
    """Where an endpoint is: asked for, being made, answering, refused, being removed, gone."""

    PENDING = "PENDING"
    DEPLOYING = "DEPLOYING"
    READY = "READY"
    FAILED = "FAILED"
    DELETING = "DELETING"
    DELETED = "DELETED"


TRANSITIONS: dict[EndpointState, frozenset[EndpointState]] = {
    EndpointState.PENDING: frozenset({EndpointState.DEPLOYING, EndpointState.DELETING}),
    EndpointState.DEPLOYING: frozenset({EndpointState.READY, EndpointState.FAILED, EndpointState.PENDING, EndpointState.DELETING}),
    EndpointState.READY: frozenset({EndpointState.PENDING, EndpointState.DEPLOYING, EndpointState.DELETING}),
    EndpointState.FAILED: frozenset({EndpointState.PENDING, EndpointState.DELETING}),
    EndpointState.DELETING: frozenset({EndpointState.DELETED}),
    EndpointState.DELETED: frozenset(),
}
SETTLED = frozenset({EndpointState.READY, EndpointState.FAILED, EndpointState.DELETED})


@dataclass(frozen=True)
class Endpoint:
    """A model version that answers under ``route``; ``generation`` grows with each change of what is asked for."""

    id: UUID
    org_id: UUID
    project_id: UUID
    name: str
    route: str
    model: str
    version: int
    model_version_id: UUID
    replicas: int
    cpus: float
    state: EndpointState
    reason: str
    generation: int
    deployed_generation: int
    lease_id: UUID | None
    traceparent: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    attempts: int

    @property
    def etag(self) -> str:
        return f'"{self.generation}-{self.state}"'

    @property
    def app_name(self) -> str:
        """Name of its Serve application."""
        return f"endpoint-{self.id}"


@dataclass(frozen=True)
class Deployment:
    """What one generation of an endpoint serves; ``ready``: it has answered."""

    endpoint: str
    endpoint_id: UUID
    generation: int
    model: str
    version: int
    model_version_id: UUID
    ready: bool

    @property
    def reference(self) -> str:
        """``digits@3``."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class ModelFileSpec:
    """A file of the model as a replica fetches it."""

    path: str
    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class EndpointSpec:
    """All that a replica needs, small enough to travel with the deployment; no secret in it."""

    endpoint_id: UUID
    org_id: UUID
    project_id: UUID
    name: str
    route: str
    model: str
    version: int
    flavour: str
    files: tuple[ModelFileSpec, ...]
    replicas: int
    cpus: float
    generation: int


@dataclass(frozen=True)
class Deployed:
    """What a reconciliation found or made: the state to write, and why when it failed."""

    state: EndpointState
    reason: str = ""
