"""One gateway over a database of its own for all API tests of a process; tests make what they need under new names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio

from api.app import build_app
from api.deps import Edge
from cluster.objects import Objects
from cluster.settings import Settings
from tests.api import probe
from tests.api.world import World, build_world, close_world, with_settings
from tests.support.database import make_database


@pytest.fixture(scope="session")
def api_settings(storage: Settings) -> Settings:
    # Tests ask far more often than a key may: the limits have tests of their own.
    return make_database(storage, "api").model_copy(
        update={"s3_bucket": "api", "rate_limit_per_minute": 1_000_000, "submit_limit_per_minute": 1_000_000, "import_buckets": "lake"}
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(api_settings: Settings) -> AsyncIterator[World]:
    await Objects(api_settings).ensure_bucket()
    made = await build_world(api_settings)
    yield made
    await close_world(made)


@pytest.fixture
def edge(world: World) -> Edge:
    return world.edge


@pytest_asyncio.fixture(loop_scope="session")
async def call_as(world: World) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """``call_as("viewer")``: a client that is closed after the test."""
    opened: list[httpx.AsyncClient] = []

    def make(principal: str, **headers: str) -> httpx.AsyncClient:
        opened.append(world.client(principal, **headers))
        return opened[-1]

    yield make
    for client in opened:
        await client.aclose()


@pytest.fixture
def owner(call_as: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return call_as("owner")


@pytest.fixture
def stranger(call_as: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return call_as("foreign_admin")


@pytest.fixture
def anonymous(call_as: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return call_as("anonymous")


@pytest_asyncio.fixture(loop_scope="session")
async def impatient(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The owner at a gateway that gives a request a third of a second."""
    app = build_app(with_settings(world.edge, request_timeout_s=0.3))
    app.include_router(probe.router)
    async with world.client("owner", app) as client:
        yield client
