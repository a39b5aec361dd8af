"""The installation's own routes, and what stands around all routes: readiness, status, CORS, dispatch."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from api.app import build_app, build_edge
from api.deps import PUBLIC, ApiRoute, needs
from api.dispatch import RouteIndex
from api.health import VERSION
from cluster.settings import Settings
from tests.api.world import World, with_settings

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://gateway.test")


class TestReadiness:
    async def test_is_ready_when_database_and_store_answer(self, anonymous: httpx.AsyncClient) -> None:
        answer = await anonymous.get("/readyz")
        assert answer.status_code == 200
        assert {part["name"]: part["healthy"] for part in answer.json()["parts"]} == {"database": True, "objects": True}

    @pytest.mark.parametrize(
        ("change", "away"),
        [({"s3_endpoint": "http://127.0.0.1:9"}, ["objects"]), ({"database_url": SecretStr("postgresql://x@127.0.0.1:9/x")}, ["database"])],
        ids=["store", "database"],
    )
    async def test_says_what_is_away(self, api_settings: Settings, world: World, change: dict[str, object], away: list[str]) -> None:
        edge = build_edge(api_settings.model_copy(update=change))
        await edge.db.open()
        try:
            async with client_of(build_app(edge)) as client:
                answer = await client.get("/readyz")
                assert answer.status_code == 503 and answer.json()["parts"] == away and "retry-after" in answer.headers
                assert (await client.get("/healthz")).json() == {"status": "ok"}
        finally:
            await edge.db.__aexit__()


class TestStatus:
    async def test_shows_the_operator_leases_and_consumers(self, world: World) -> None:
        async with world.client("operator") as client:
            found = (await client.get("/v1/platform/status")).json()
        assert found["version"] == VERSION and [part["healthy"] for part in found["parts"]] == [True, True]
        assert isinstance(found["leases"], list) and isinstance(found["consumers"], list)


class TestCors:
    async def test_lets_in_the_origins_that_are_named(self, world: World) -> None:
        app = build_app(with_settings(world.edge, cors_origins="https://console.example, https://other.example"))
        async with client_of(app) as client:
            asked = {
                "Origin": "https://console.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            }
            preflight = await client.options("/v1/modelhub/runs", headers=asked)
            assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == "https://console.example"
            assert "access-control-allow-credentials" not in preflight.headers
            refused = await client.options("/v1/modelhub/runs", headers={**asked, "Origin": "https://evil.example"})
            assert "access-control-allow-origin" not in refused.headers


class TestRouteIndex:
    async def test_finds_what_the_scan_finds(self, world: World) -> None:
        router = APIRouter(route_class=ApiRoute)
        names = ["/a", "/a/{x}", "/a/b", "/a/b/c", "/a/b/{y}", "/{any}/z", "/a/b/c/d/{z}", "/a/{x}/c"]
        for name in names:
            router.add_api_route(name, _answer(name), openapi_extra=needs(PUBLIC), operation_id=name)
        scanned, indexed = (build_app(world.edge) for _ in range(2))
        scanned.user_middleware = [middleware for middleware in scanned.user_middleware if middleware.cls is not RouteIndex]
        for app in (scanned, indexed):
            app.include_router(router, prefix="/probe")
        assert len(indexed.user_middleware) == len(scanned.user_middleware) + 1
        async with client_of(scanned) as first, client_of(indexed) as second:
            for path in ("/a", "/a/q", "/a/b/c", "/a/b/q", "/q/z", "/a/b/c/d/e", "/a/q/c", "/a/", "/", "/a//b", "/nothing", "/a/b/c/d"):
                one, other = await first.get(f"/probe{path}"), await second.get(f"/probe{path}")
                assert (one.status_code, one.text if one.is_success else "") == (
                    other.status_code,
                    other.text if other.is_success else "",
                ), path


def _answer(name: str):  # type: ignore[no-untyped-def]  # a handler made on the spot
    async def handler() -> str:
        return name

    return handler
