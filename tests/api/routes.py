"""The routes of an application, found in its router and in whatever is mounted in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute, Mount, WebSocketRoute

from api.deps import ApiRoute
from api.sockets import SocketApp

NOWHERE = "00000000-0000-7000-8000-000000000000"
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True)
class Operation:
    """One method of one route."""

    method: str
    path: str
    permission: str
    in_project: bool
    module: str
    documented: bool = True
    """A foreign protocol's routes are documented by the protocol."""

    def target(self, values: dict[str, str] | None = None) -> str:
        """The path with its parameters filled in; those not given name nothing that exists."""
        return PARAMETER.sub(lambda match: (values or {}).get(match.group(1), NOWHERE), self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def walk(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes, those of mounted applications included."""
    for route in routes:
        if isinstance(route, Mount):
            yield from walk(route.routes) if route.routes else [route]
        else:
            yield route


def operations(app: Any) -> list[Operation]:
    """Every operation but the probes'."""
    found = [route for route in walk(app.routes) if isinstance(route, ApiRoute) and not route.path.startswith("/v1/probe")]
    return [
        Operation(method, route.path, route.permission, route.in_project, str((route.tags or ["?"])[0]), route.include_in_schema)
        for route in found
        for method in sorted(route.methods or ())
    ]


def is_socket(route: BaseRoute) -> bool:
    """Whether it is a WebSocket that declares a permission."""
    return isinstance(route, WebSocketRoute) and isinstance(route.app, SocketApp)


def sockets(app: Any) -> list[Operation]:
    """Every WebSocket."""
    return [Operation("WEBSOCKET", route.path, route.app.permission, True, "trainos") for route in walk(app.routes) if is_socket(route)]  # type: ignore[attr-defined]  # it is one
