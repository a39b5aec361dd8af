"""Decisions of DeployEngine that need neither Ray nor a database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from serve_apps.deployengine.errors import ModelNotServable
from serve_apps.deployengine.models import Deployed, EndpointState

SERVABLE_FLAVOURS = frozenset({"onnx"})
"""What a replica can load without running code from the model: a graph that ONNX Runtime interprets."""


_PREDICTION = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,8})-(0[0-9a-f]{31})")


class Version(Protocol):
    """What of a model version decides whether it can be served."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def flavour(self) -> Any: ...
    @property
    def state(self) -> Any: ...
    @property
    def reason(self) -> str: ...


class File(Protocol):
    @property
    def path(self) -> str: ...


F = TypeVar("F", bound=File)


def split_model(model: str) -> tuple[str, str]:
    """``name@version`` or ``name@alias`` in its parts; without ``@``, the alias ``latest``."""
    name, _, version = model.partition("@")
    return name, version or "latest"


def route_of(project: str, endpoint: str) -> str:
    """The path that an endpoint answers under."""
    return f"/serve/{project}/{endpoint}"


def to_prediction_id(endpoint_id: UUID, generation: int, id: UUID) -> str:
    """The id of a prediction says which generation of which endpoint gave it, and when: nothing is written to know that."""
    return f"{endpoint_id.hex}-{generation}-{id.hex}"


def parse_prediction_id(text: str) -> tuple[UUID, int, datetime] | None:
    """Endpoint, generation and moment; None where it is no prediction's id."""
    if (match := _PREDICTION.fullmatch(text)) is None:
        return None
    endpoint, generation, id = match.groups()
    return UUID(endpoint), int(generation), datetime.fromtimestamp((UUID(id).int >> 80) / 1000, UTC)


def graph_first(files: Sequence[F]) -> list[F]:
    """The graph that a replica loads, and what lies beside it."""
    return sorted(files, key=lambda file: not file.path.endswith(".onnx"))


def require_servable(version: Version, *, excepted: bool = False) -> None:
    """``excepted``: an owner answers for what the scan of the version found. Raises: ModelNotServable."""
    state = str(version.state)
    if state != "READY" and not (state == "QUARANTINED" and excepted):
        because = f" ({version.reason})" if version.reason else ""
        instead = "; an owner may sign exceptions for what the scan found: 'aidos model except'" if state == "QUARANTINED" else ""
        raise ModelNotServable(model=version.model, version=version.version, reason=f"it is {state}, not READY{because}{instead}")
    if str(version.flavour) not in SERVABLE_FLAVOURS:
        raise ModelNotServable(
            model=version.model,
            version=version.version,
            reason=f"flavour '{version.flavour}' holds weights without a graph; log the model as ONNX to serve it",
        )


def decide(app_status: str | None, message: str, *, asked_generation_is_deployed: bool) -> Deployed | None:
    """What a Serve application's status means for the endpoint; None: keep waiting or deploy (again)."""
    if app_status == "RUNNING" and asked_generation_is_deployed:
        return Deployed(EndpointState.READY)
    if app_status in {"DEPLOY_FAILED", "UNHEALTHY"} and asked_generation_is_deployed:
        return Deployed(EndpointState.FAILED, message or f"Serve reports {app_status}")
    return None
