"""What the edge does for every route: transactions, idempotency, ETags, long polls, time limits, problems."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from api.deps import ApiRoute, Edge
from tests.api import probe
from tests.api.routes import NOWHERE, PARAMETER, operations

if TYPE_CHECKING:
    from tests.api.world import World
from tests.support.waiting import wait_until_async

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]
THING = {"name": "moon"}


@pytest.fixture(autouse=True)
def _fresh_probe() -> Iterator[None]:
    probe.calls.clear()
    probe.gate.clear()
    yield
    probe.gate.set()


def thing(**more: Any) -> dict[str, Any]:
    return {"name": f"thing-{uuid4().hex}", **more}


async def until(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return condition()

    await wait_until_async(asked)


async def count(client: httpx.AsyncClient, name: str) -> int:
    return (await client.get(f"/v1/probe/things/{name}")).json()["number"]


class TestTransaction:
    async def test_a_change_is_there_when_it_is_acknowledged(self, owner: httpx.AsyncClient) -> None:
        body = thing()
        answer = await owner.post("/v1/probe/things", json=body)
        assert answer.status_code == 201, answer.text
        assert await count(owner, body["name"]) == 1

    @pytest.mark.parametrize(("failure", "status"), [("declared", 409), ("bug", 500), ("remote", 404), ("unique", 409), ("deadlock", 503)])
    async def test_a_failure_leaves_nothing(self, owner: httpx.AsyncClient, failure: str, status: int) -> None:
        body = thing()
        answer = await owner.post(f"/v1/probe/failing-things/{failure}", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json" and "secret" not in answer.text
        assert answer.json()["instance"] == answer.headers["x-request-id"]
        assert await count(owner, body["name"]) == 0

    async def test_a_returned_refusal_leaves_nothing(self, owner: httpx.AsyncClient) -> None:
        body = thing()
        assert (await owner.post("/v1/probe/refused-things", json=body)).status_code == 503
        assert await count(owner, body["name"]) == 0

    async def test_the_loser_of_a_race_is_run_again(self, owner: httpx.AsyncClient) -> None:
        body = thing()
        answer = await owner.post("/v1/probe/contended-things", json=body)
        assert answer.status_code == 201 and probe.calls == ["try"] * 3
        assert await count(owner, body["name"]) == 1

    async def test_who_never_wins_is_told_when_to_come_again(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.post("/v1/probe/failing-things/deadlock", json=thing())
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert probe.calls == ["fail deadlock"] * 4


class TestIdempotency:
    async def test_the_second_asker_gets_the_first_answer(self, owner: httpx.AsyncClient) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        first = await owner.post("/v1/probe/things", json=body, headers=headers)
        second = await owner.post("/v1/probe/things", json=body, headers=headers)
        assert (first.status_code, first.content) == (second.status_code, second.content) == (201, first.content)
        assert second.headers["location"] == first.headers["location"] and second.headers["idempotency-replayed"] == "true"
        assert probe.calls == [f"create {body['name']}"] and await count(owner, body["name"]) == 1

    async def test_two_at_once_have_one_effect(self, owner: httpx.AsyncClient) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        asked = [asyncio.create_task(owner.post("/v1/probe/slow-things", json=body, headers=headers)) for _ in range(4)]
        await until(lambda: len(probe.calls) == 1)
        probe.gate.set()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {201} and len({answer.content for answer in answers}) == 1
        assert probe.calls == [f"create {body['name']}"] and await count(owner, body["name"]) == 1

    @pytest.mark.parametrize("failure", ["declared", "bug", "actor-died"])
    async def test_a_failure_is_not_remembered(self, owner: httpx.AsyncClient, failure: str) -> None:
        headers = {"Idempotency-Key": uuid4().hex}
        for _ in range(2):
            await owner.post(f"/v1/probe/failing-things/{failure}", json=THING, headers=headers)
        assert probe.calls == [f"fail {failure}"] * 2

    async def test_the_key_may_be_used_after_a_failure(self, owner: httpx.AsyncClient) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        await owner.post("/v1/probe/failing-things/bug", json=body, headers=headers)
        assert (await owner.post("/v1/probe/things", json=body, headers=headers)).status_code == 201

    @pytest.mark.parametrize("change", ["body", "route", "query"])
    async def test_the_key_is_bound_to_its_request(self, owner: httpx.AsyncClient, change: str) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        await owner.post("/v1/probe/things", json=body, headers=headers)
        path = {"route": "/v1/probe/contended-things", "query": "/v1/probe/things?x=1"}.get(change, "/v1/probe/things")
        answer = await owner.post(path, json=thing() if change == "body" else body, headers=headers)
        assert answer.status_code == 409 and answer.json()["type"] == "urn:aidos:api:idempotency-key-reused"

    async def test_the_key_is_the_callers_own(self, owner: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        for client in (owner, stranger):
            assert (await client.post("/v1/probe/things", json=body, headers=headers)).status_code == 201
        assert len(probe.calls) == 2

    async def test_what_has_transactions_of_its_own_happens_once_too(self, owner: httpx.AsyncClient) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        first = asyncio.create_task(owner.post("/v1/probe/long-things", json=body, headers=headers))
        await until(lambda: len(probe.calls) == 1)
        meanwhile = await owner.post("/v1/probe/long-things", json=body, headers=headers)
        assert meanwhile.status_code == 409 and meanwhile.json()["type"] == "urn:aidos:api:request-in-progress"
        probe.gate.set()
        again = await owner.post("/v1/probe/long-things", json=body, headers=headers) if await first else None
        assert again is not None and (again.status_code, again.content) == (201, first.result().content)
        assert again.headers["idempotency-replayed"] == "true"
        assert probe.calls == [f"create {body['name']}"] and await count(owner, body["name"]) == 1

    async def test_and_may_be_asked_again_when_it_failed(self, owner: httpx.AsyncClient) -> None:
        probe.gate.set()
        body, headers = {"name": f"refused-{uuid4().hex}"}, {"Idempotency-Key": uuid4().hex}
        answers = [(await owner.post("/v1/probe/long-things", json=body, headers=headers)).status_code for _ in range(2)]
        assert answers == [409, 409] and len(probe.calls) == 2

    async def test_and_when_its_process_died(self, owner: httpx.AsyncClient, world: World) -> None:
        body, headers = thing(), {"Idempotency-Key": uuid4().hex}
        first = asyncio.create_task(owner.post("/v1/probe/long-things", json=body, headers=headers))
        await until(lambda: len(probe.calls) == 1)
        async with world.edge.db.platform() as conn:
            await conn.execute("UPDATE cluster.idempotency SET created_at = created_at - interval '66 s' WHERE status = 0")
        again = asyncio.create_task(owner.post("/v1/probe/long-things", json=body, headers=headers))
        await until(lambda: len(probe.calls) == 2)
        probe.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(first, again)} == {201}

    @pytest.mark.parametrize("key", ["", "x" * 201])
    async def test_a_key_has_a_length(self, owner: httpx.AsyncClient, key: str) -> None:
        assert (await owner.post("/v1/probe/things", json=THING, headers={"Idempotency-Key": key})).status_code == 400


class TestEtags:
    async def test_a_change_of_another_version_is_refused(self, owner: httpx.AsyncClient) -> None:
        assert (await owner.put("/v1/probe/versioned/7", headers={"If-Match": '"7"'})).status_code == 200
        answer = await owner.put("/v1/probe/versioned/7", headers={"If-Match": '"6"'})
        assert answer.status_code == 412 and answer.json()["actual"] == '"7"'

    async def test_what_the_caller_has_is_not_sent(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.get("/v1/probe/versioned/7", headers={"If-None-Match": '"7"'})
        assert answer.status_code == 304 and not answer.content


class TestWait:
    async def test_answers_when_it_happens(self, owner: httpx.AsyncClient) -> None:
        body = thing()
        waiting = asyncio.create_task(owner.get(f"/v1/probe/things/{body['name']}?wait=30s"))
        await until(lambda: probe.calls == ["read"])
        await owner.post("/v1/probe/things", json=body)
        answer = await asyncio.wait_for(waiting, 10)  # long before the wait would end by itself
        assert answer.json()["number"] == 1

    async def test_reads_once_while_nothing_happens(self, owner: httpx.AsyncClient) -> None:
        started = time.perf_counter()
        answer = await owner.get("/v1/probe/things/never?wait=01s")
        assert answer.json()["number"] == 0 and time.perf_counter() - started > 0.9
        assert len(probe.calls) <= 2

    async def test_holds_no_connection(self, owner: httpx.AsyncClient, edge: Edge) -> None:
        most = edge.db.settings.database_pool_connections
        waiting = [asyncio.create_task(owner.get(f"/v1/probe/things/none-{n}?wait=20s")) for n in range(3 * most)]
        await until(lambda: len(probe.calls) >= 3 * most)
        assert (await owner.post("/v1/probe/things", json=thing())).status_code == 201
        for task in waiting:
            task.cancel()

    @pytest.mark.parametrize("wait", ["1", "s", "-1s", "100s", "1m", "٣s", "1s%0A"])
    async def test_a_wait_has_a_form(self, owner: httpx.AsyncClient, wait: str) -> None:
        assert (await owner.get(f"/v1/probe/things/x?wait={wait}")).status_code == 422


class TestLimits:
    async def test_a_request_that_never_ends_is_ended(self, impatient: httpx.AsyncClient) -> None:
        answer = await impatient.get("/v1/probe/sleep")
        assert answer.status_code == 503 and answer.json()["type"] == "urn:aidos:api:took-too-long"

    async def test_a_change_that_never_ends_has_no_effect(self, impatient: httpx.AsyncClient, owner: httpx.AsyncClient) -> None:
        body = thing()
        assert (await impatient.post("/v1/probe/slow-things", json=body)).status_code == 503
        assert await count(owner, body["name"]) == 0

    async def test_a_body_over_the_limit_is_not_read(self, owner: httpx.AsyncClient, edge: Edge) -> None:
        read = 0

        async def endless() -> Any:
            nonlocal read
            while True:
                read += 64_000
                yield b"x" * 64_000

        answer = await owner.post("/v1/probe/things", content=endless(), headers={"content-type": "application/json"})
        assert answer.status_code == 413 and answer.json()["limit_bytes"] == edge.db.settings.request_body_limit_bytes
        assert read < 2 * edge.db.settings.request_body_limit_bytes


class TestBadInput:
    @pytest.mark.parametrize(
        "body",
        [b"{", b"\xff\xfe", b'{"name": "\xc3\x28"}', b"[" * 60_000, b"[" * 60_000 + b"]" * 60_000, b'{"a":' * 900 + b"1" + b"}" * 900,
         b'{"name": ' + b"9" * 5000 + b"}"],
        ids=["broken", "not UTF-8", "half UTF-8", "open brackets", "deep list", "deep object", "endless number"],
    )  # fmt: skip
    async def test_what_is_not_json_is_400(self, owner: httpx.AsyncClient, body: bytes) -> None:
        answer = await owner.post("/v1/probe/things", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json" and not probe.calls

    @pytest.mark.parametrize(
        "body", [b"", b"null", b"[]", b'"x"', b"{}", b'{"name": "x", "nmae": "x"}', b'{"name": "\\u0000"}', b'{"name": "a/b"}']
    )
    async def test_what_does_not_fit_is_422_with_a_pointer(self, owner: httpx.AsyncClient, body: bytes) -> None:
        answer = await owner.post("/v1/probe/things", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"].startswith("#"), answer.text

    @pytest.mark.parametrize(
        "labels",
        ['{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": "\\ud800"}', '{"a": NaN}', '{"a": 1e999}', '{"a": -Infinity}', '{"\\udfff": 1}'],
    )
    async def test_what_postgres_cannot_store_is_422(self, owner: httpx.AsyncClient, labels: str) -> None:
        content = f'{{"name": "x", "labels": {labels}}}'.encode()
        answer = await owner.post("/v1/probe/stored-values", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text

    @pytest.mark.parametrize(
        "path", ["/v1/probe/things/%00", "/v1/probe/things/%ff", "/v1/probe/things/" + "x" * 8000, "/v1/probe/things/%2e%2e%2fx"]
    )
    async def test_a_strange_path_is_the_callers_fault(self, owner: httpx.AsyncClient, path: str) -> None:
        answer = await owner.get(path)
        assert answer.status_code in {200, 400, 404, 414, 422}, answer.text
        assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"

    async def test_a_huge_header_is_the_callers_fault(self, owner: httpx.AsyncClient) -> None:
        for name in ("Idempotency-Key", "X-Aidos-Project", "If-Match", "Cookie", "Authorization", "X-Request-Id", "traceparent"):
            answer = await owner.put("/v1/probe/versioned/7", headers={name: "x" * 60_000})
            assert answer.status_code < 500, (name, answer.text)


class TestRouting:
    async def test_an_unknown_path_is_a_problem(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.get("/v1/nothing")
        assert answer.status_code == 404 and answer.json()["type"] == "urn:aidos:api:route-not-found"

    async def test_another_method_names_the_allowed_ones(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.delete("/v1/probe/versioned/7")
        assert answer.status_code == 405 and answer.headers["allow"] == "GET, PUT"
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_every_path_refuses_every_other_method(self, owner: httpx.AsyncClient, world: World) -> None:
        known = {(operation.method, operation.path) for operation in operations(world.app)}
        routes = [route for route in world.app.routes if isinstance(route, ApiRoute)]
        for path in sorted({path for _, path in known}):
            target = PARAMETER.sub(NOWHERE, path)
            # A fixed path may also be an object's name: `…/sessions/end` is the session called `end` to DELETE.
            meant = {method for route in routes if route.path_regex.match(target) for method in route.methods or ()}
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - meant:
                answer = await owner.request(method, target)
                assert answer.status_code == 405 and set(answer.headers["allow"].split(", ")) == meant, (
                    f"{method} {path}: {answer.status_code}"
                )

    async def test_a_slash_at_the_end_is_another_path(self, owner: httpx.AsyncClient) -> None:
        assert (await owner.get("/v1/probe/versioned/7/")).status_code == 404

    async def test_a_public_route_fails_as_a_problem_too(self, anonymous: httpx.AsyncClient) -> None:
        answer = await anonymous.get("/v1/probe/public-failure/bug")
        assert answer.status_code == 500 and "hunter2" not in answer.text


class TestHeaders:
    async def test_every_answer_is_hardened(self, owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, world: World) -> None:
        for answer in (await owner.get("/v1/version"), await anonymous.get("/v1/nothing"), await owner.get("/v1/probe/things/x")):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-request-id"]
            assert "server" not in answer.headers

    async def test_no_other_origin_is_let_in(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.get("/v1/version", headers={"Origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        preflight = await owner.options("/v1/version", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"})
        assert preflight.status_code >= 400 and not [name for name in preflight.headers if name.startswith("access-control-allow")]
