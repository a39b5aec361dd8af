"""The document is complete and true: every route, every status, every problem, every credential."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx
import pytest

from api.app import build_app
from api.deps import PUBLIC, ApiRoute
from api.openapi import TAGS
from tests.api.routes import Operation, operations, walk
from tests.api.world import World

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document(world: World) -> dict[str, Any]:
    return build_app(world.edge).openapi()


def documented(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method.upper(), path, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def problems_of(operation: dict[str, Any]) -> dict[str, Any]:
    return {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}


class TestDocument:
    async def test_has_every_route_and_no_other(self, world: World, document: dict[str, Any]) -> None:
        routes = {(operation.method, operation.path) for operation in operations(world.app) if operation.documented}
        assert {(method, path) for method, path, _ in documented(document)} == routes

    async def test_leaves_out_foreign_protocols_alone(self, world: World) -> None:
        left_out = [route for route in walk(world.app.routes) if isinstance(route, ApiRoute) and not route.include_in_schema]
        assert {route.endpoint.__module__.rpartition(".")[0] for route in left_out} <= {
            "api.protocols.mlflow",
            "api.protocols.openlineage",
            "tests.api",
        }

    async def test_is_served_as_it_is(self, world: World, anonymous: httpx.AsyncClient, document: dict[str, Any]) -> None:
        app = build_app(world.edge)
        async with world.client("anonymous", app) as client:
            answer = await client.get("/v1/openapi.json")
        assert answer.status_code == 200 and answer.json() == json.loads(json.dumps(document))

    async def test_names_each_operation_after_its_function(self, world: World, document: dict[str, Any]) -> None:
        functions = {(m, r.path): r.endpoint.__name__ for r in walk(world.app.routes) if isinstance(r, ApiRoute) for m in r.methods or ()}
        for method, path, operation in documented(document):
            assert operation["operationId"] == functions[method, path]
        repeated = [name for name, times in Counter(o["operationId"] for _, _, o in documented(document)).items() if times > 1]
        assert not repeated, f"operation ids of several routes: {repeated}"

    async def test_documents_every_refusal_as_a_problem(self, document: dict[str, Any]) -> None:
        assert document["components"]["schemas"]["Problem"]["title"] == "Problem"
        for method, path, operation in documented(document):
            refusals = problems_of(operation)
            least = {"400", "401", "404", "422", "429", "500", "503"} | (set() if operation["x-permission"] == PUBLIC else {"403"})
            least |= {"409", "413"} if method != "GET" else set()
            assert least <= set(refusals), f"{method} {path} lacks {sorted(least - set(refusals))}"
            for status, answer in refusals.items():
                assert list(answer["content"]) == ["application/problem+json"], f"{method} {path} {status}"
                assert answer["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}

    async def test_has_nothing_of_the_frameworks_own_errors(self, document: dict[str, Any]) -> None:
        assert "HTTPValidationError" not in json.dumps(document)

    async def test_says_which_credential_is_needed(self, world: World, document: dict[str, Any]) -> None:
        assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
        permissions = {(operation.method, operation.path): operation.permission for operation in operations(world.app)}
        for method, path, operation in documented(document):
            public = permissions[method, path] == PUBLIC
            assert operation["security"] == ([] if public else [{"bearer": []}, {"apiKey": []}]), f"{method} {path}"

    async def test_describes_its_tags_and_operations(self, document: dict[str, Any]) -> None:
        described = {tag["name"] for tag in document["tags"] if tag["description"]}
        for method, path, operation in documented(document):
            assert set(operation["tags"]) <= described <= set(TAGS), f"{method} {path}"
            assert operation.get("summary"), f"{method} {path}"

    async def test_every_list_is_paged(self, world: World, document: dict[str, Any]) -> None:
        for method, path, operation in documented(document):
            schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "PageOf" in schema.get("$ref", ""):
                names = {parameter["name"] for parameter in operation["parameters"]}
                assert {"limit", "cursor"} <= names, f"{method} {path}"
            assert schema.get("type") != "array", f"{method} {path} answers with a bare list: use PageOf"


async def test_the_probe_is_no_part_of_it(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if "probe" in path]


async def test_the_walk_finds_operations(world: World) -> None:
    found: list[Operation] = operations(world.app)
    assert len(found) > 20 and {operation.method.lower() for operation in found} >= METHODS
