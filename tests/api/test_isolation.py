"""One organisation never sees a byte of another's: markers planted in everything of theirs, every read made as ours.

Generic over the routes: a new module joins with a function in ``tests/api/creators.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from urllib.parse import unquote
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.api.asgi_call import Answer, ask
from tests.api.creators import CREATORS, Made, create_everything
from tests.api.routes import NOWHERE, PARAMETER, Operation, operations
from tests.api.world import Tenant, World

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]

WILDCARDS = ("*", "~", "_", "%25", "null", "-1", "default")
SHARED = {"costoptimizer": "/v1/costoptimizer/prices/{resource}"}
"""Routes whose parameter is no object of a tenant: everyone has a resource called cpu."""
HAVE_NO_OBJECTS = {"platform"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def theirs(world: World) -> Made:
    """Everything of the other organisation's."""
    async with world.client("foreign_admin") as client:
        return await create_everything(client, world.edge, f"marker{uuid4().hex[:12]}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ours(world: World) -> Made:
    """The same of ours, so that our reads are not all empty."""
    async with world.client("org_admin") as client:
        return await create_everything(client, world.edge, f"own{uuid4().hex[:12]}")


def combinations(operation: Operation, made: Made) -> Iterator[dict[str, str]]:
    """Every filling of the path's parameters with what was made."""
    names = PARAMETER.findall(operation.path)
    for values in itertools.product(*(made.values[name] for name in names)):
        yield dict(zip(names, values, strict=True))


async def read(world: World, key: str, operation: Operation, target: str, **headers: str) -> Answer:
    body = b"{}" if operation.method in {"POST", "PUT", "PATCH"} else b""
    sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
    # A stream's first events are what there is of it.
    return await ask(
        world.app, operation.method, target, sent, body, patience_s=0.3 if operation.path.endswith("/stream") else 10, until=b"\0"
    )


class TestCreators:
    async def test_every_module_has_one(self, world: World) -> None:
        assert {operation.module for operation in operations(world.app)} - HAVE_NO_OBJECTS <= set(CREATORS)

    async def test_every_parameter_has_a_value(self, world: World, theirs: Made) -> None:
        parameters = {name for operation in operations(world.app) for name in PARAMETER.findall(operation.path)}
        assert parameters <= set(theirs.values), f"no creator gives a value for {sorted(parameters - set(theirs.values))}"

    async def test_the_owner_sees_what_was_planted(self, world: World, theirs: Made) -> None:
        """The oracle can see: as the owner of the markers every module shows them."""
        seen = set()
        for operation in operations(world.app):
            if operation.method == "GET":
                for values in combinations(operation, theirs):
                    answer = await read(world, world.theirs.admin_key, operation, operation.target(values))
                    refusals = {403, 404, 422} if operation.documented else {400, 403, 404}
                    assert answer.status in {200, 307, *refusals}, f"{operation} {values}: {answer.status} {answer.body[:300]!r}"
                    if theirs.marker.encode() in answer.body:
                        seen.add(operation.module)
        assert seen == set(CREATORS), f"the markers were not seen in {set(CREATORS) - seen}"


class TestReads:
    @pytest.mark.parametrize("reader", ["org_admin", "job"])
    async def test_show_no_byte_of_theirs(self, world: World, theirs: Made, ours: Made, reader: str) -> None:
        leaks, asked = [], 0
        queries = (
            "?limit=500",
            *(f"?{name}={theirs.marker}&base={theirs.marker}&head=main" for name in ("ref", "experiment", "subject", "prefix")),
        )
        for operation in (operation for operation in operations(world.app) if operation.method == "GET"):
            names = PARAMETER.findall(operation.path)
            wild = [dict.fromkeys(names, wildcard) for wildcard in WILDCARDS] if names else []
            fillings = list(combinations(operation, ours))
            mine = [operation.target(values) + queries[0] for values in fillings]
            mine += [operation.target(fillings[0]) + query for query in queries[1:] if not operation.path.endswith("/stream")]
            for target in (*mine, *(operation.target(values) for values in (*combinations(operation, theirs), *wild))):
                answer = await read(world, str(world.credentials[reader]), operation, target)
                asked += 1
                if shows(answer, target, theirs.marker):
                    leaks.append(f"{operation} {target}: {answer.status} {answer.body[:300]!r}")
        assert not leaks, "\n".join(leaks)
        assert asked > 200

    async def test_of_their_objects_find_nothing(self, world: World, theirs: Made) -> None:
        found = []
        for operation in operations(world.app):
            if PARAMETER.search(operation.path) and operation.path not in SHARED.values():
                for values in combinations(operation, theirs):
                    answer = await read(world, str(world.ours.admin_key), operation, operation.target(values))
                    nothing = await read(world, world.ours.admin_key, operation, operation.target({**values, **_unknown(values)}))
                    # Theirs must answer as what exists nowhere; a body that does not fit is refused before, and a stream refuses inside.
                    refused = answer.status in {404, 422} or (answer.status == 200 and b"event: error" in answer.body)
                    if not refused and (answer.status != nothing.status or len(answer.body) != len(nothing.body)):
                        found.append(f"{operation} {values}: {answer.status} {answer.body[:200]!r}")
        assert not found, "\n".join(found)

    async def test_their_project_cannot_be_named(self, world: World, theirs: Made) -> None:
        tenant: Tenant = world.theirs
        for operation in operations(world.app):
            if operation.in_project and operation.permission != "public":
                for name in (str(tenant.project_id), str(tenant.org_id), theirs.values["project"][0], str(tenant.project_id).upper()):
                    answer = await read(
                        world, str(world.credentials["operator"]), operation, operation.target(), **{"x-aidos-project": name}
                    )
                    assert answer.status == 404, f"{operation} in {name}: {answer.status}"

    async def test_their_objects_are_all_still_there(self, world: World, theirs: Made) -> None:
        """Runs last: none of the requests above has changed or removed any of it."""
        for operation in operations(world.app):
            if operation.method == "GET" and operation.path.count("{") == 1 and operation.path.endswith("}"):
                for values in combinations(operation, theirs):
                    answer = await read(world, world.theirs.admin_key, operation, operation.target(values))
                    assert answer.status in {200, 307}, f"{operation} {values}: {answer.status}"


def _unknown(values: dict[str, str]) -> dict[str, str]:
    """Ids that exist nowhere, in place of the ids."""
    return {name: NOWHERE for name, value in values.items() if len(value) == len(NOWHERE)}


def shows(answer: Answer, target: str, marker: str) -> bool:
    """Whether the answer has a byte of theirs. A refusal may repeat what was asked for; anything more is a leak."""
    body = answer.body.decode("utf-8", "replace")
    if answer.status >= 400 or b"event: error" in answer.body:
        for asked in sorted(re.findall(rf"[\w.@-]*{marker}[\w.@-]*", unquote(target)), key=len, reverse=True):
            body = body.replace(asked, "")
    return marker in body
