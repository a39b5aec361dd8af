"""Server-sent events: from where the client left off, until done, for as long as the caller may and is there."""

from __future__ import annotations

import asyncio
import dataclasses
from uuid import uuid4

import httpx
import pytest

from actors.securityvault import service as securityvault
from actors.securityvault.models import Grade
from tests.api import probe
from tests.api.asgi_call import Answer, ask
from tests.api.world import World, make_key
from tests.support.waiting import wait_until_async

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(autouse=True)
def _fresh_probe() -> None:
    probe.calls.clear()


def bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def until_read(times: int = 1) -> None:
    async def read() -> bool:
        return probe.calls.count("read") >= times

    await wait_until_async(read)


async def add(owner: httpx.AsyncClient, name: str, **labels: str) -> None:
    if labels:
        await owner.post("/v1/probe/stored-values", json={"name": name, "labels": labels})
    else:
        await owner.post("/v1/probe/things", json={"name": name})


def ids(answer: Answer) -> list[int]:
    return [int(line[4:]) for line in answer.body.decode().splitlines() if line.startswith("id: ")]


class TestStream:
    async def test_sends_what_is_there_then_what_comes_then_ends(self, world: World, owner: httpx.AsyncClient) -> None:
        name = f"s-{uuid4().hex}"
        await add(owner, name)
        streaming = asyncio.create_task(
            ask(world.app, "GET", f"/v1/probe/things/{name}/stream", bearer(world.credentials["owner"]), until=b"event: end")
        )
        await until_read()
        await add(owner, name, end="yes")
        answer = await streaming
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert len(ids(answer)) == 2 and answer.whole and b"event: end" in answer.body
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-accel-buffering"] == "no"

    async def test_goes_on_after_the_last_event_seen(self, world: World, owner: httpx.AsyncClient) -> None:
        name, headers = f"s-{uuid4().hex}", bearer(world.credentials["owner"])
        await add(owner, name)
        await add(owner, name, end="yes")
        whole = await ask(world.app, "GET", f"/v1/probe/things/{name}/stream", headers, until=b"event: end")
        first, second = ids(whole)
        rest = await ask(world.app, "GET", f"/v1/probe/things/{name}/stream", {**headers, "last-event-id": str(first)}, until=b"event: end")
        assert ids(rest) == [second]

    async def test_many_streams_hold_no_connection(self, world: World, owner: httpx.AsyncClient) -> None:
        most = world.edge.db.settings.database_pool_connections
        headers = bearer(world.credentials["owner"])
        streams = [
            asyncio.create_task(ask(world.app, "GET", f"/v1/probe/things/none-{n}/stream", headers, until=b"never"))
            for n in range(3 * most)
        ]
        await until_read(3 * most)
        async with asyncio.timeout(2):
            await add(owner, f"s-{uuid4().hex}")
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def test_stops_reading_when_the_client_has_left(self, world: World, owner: httpx.AsyncClient) -> None:
        name = f"s-{uuid4().hex}"
        await ask(world.app, "GET", f"/v1/probe/things/{name}/stream", bearer(world.credentials["owner"]))  # hangs up on the first bytes
        reads = len(probe.calls)
        for _ in range(3):
            await add(owner, f"s-{uuid4().hex}")
        assert (await owner.get("/v1/probe/things/other")).status_code == 200
        assert probe.calls.count("read") == reads + 1  # the last GET's own

    async def test_a_revoked_key_ends_its_streams(self, world: World, owner: httpx.AsyncClient) -> None:
        vault = world.edge.vault
        scope = await vault.scope(await vault.resolve(str(world.credentials["owner"])), None)
        key = await make_key(world.edge, scope, Grade.OWNER)
        principal = await vault.resolve(key)
        streaming = asyncio.create_task(ask(world.app, "GET", "/v1/probe/things/x/stream", bearer(key), until=b"event: error"))
        await until_read()
        async with world.edge.db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await securityvault.revoke_key(conn, scope, str(principal.id))
        answer = await streaming
        assert answer.whole and b"credential-invalid" in answer.body

    async def test_needs_a_caller_and_a_permission(self, world: World) -> None:
        assert (await ask(world.app, "GET", "/v1/probe/things/x/stream", {})).status == 401
        scope = await world.edge.vault.scope(await world.edge.vault.resolve(str(world.credentials["owner"])), None)
        key = await make_key(world.edge, dataclasses.replace(scope), Grade.OWNER, scopes=frozenset({"trainos:read"}))
        assert (await ask(world.app, "GET", "/v1/probe/things/x/stream", bearer(key))).status == 403
