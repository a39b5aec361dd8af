"""Finds a request's route by the beginning of its path, instead of trying each of a hundred patterns in turn."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from api.deps import ApiRoute

_DEPTH = 5
Key = tuple[str, ...]


class RouteIndex:
    """The routes of a router by method and literal beginning. What it does not find is the application's to answer: 404, 405, mounts.

    A middleware, inside the one of SecurityVault and outside of FastAPI's: these catch what a route of ours has answered itself.
    """

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._router, self._otherwise = router, app
        self._indexed: tuple[BaseRoute, ...] = ()
        self._routes: dict[Key, list[ApiRoute]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._candidates(scope["method"], scope["path"]):
                if route.path_regex.match(scope["path"]) is None:
                    continue
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    scope["router"] = self._router
                    scope.update(child_scope)
                    await route.handle(scope, receive, send)
                    return
        await self._otherwise(scope, receive, send)

    def _candidates(self, method: str, path: str) -> Sequence[ApiRoute]:
        if len(self._indexed) != len(self._router.routes):
            self._build()
        parts = path.split("/", _DEPTH + 1)[1 : _DEPTH + 1]
        return [route for depth in range(len(parts), -1, -1) for route in self._routes.get((method, *parts[:depth]), ())]

    def _build(self) -> None:
        self._indexed, self._routes = tuple(self._router.routes), {}
        for route in self._indexed:
            if isinstance(route, ApiRoute):
                for method in route.methods or ():
                    self._routes.setdefault((method, *_literal_beginning(route.path)), []).append(route)


def _literal_beginning(path: str) -> list[str]:
    parts = path.split("/")[1 : _DEPTH + 1]
    first_parameter = next((index for index, part in enumerate(parts) if "{" in part), len(parts))
    return parts[:first_parameter]
