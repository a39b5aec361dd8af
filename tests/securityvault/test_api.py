"""SecurityVault and the events over HTTP, through the gateway's own application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from actors.securityvault.models import Role
from api.app import build_app
from api.deps import Edge
from cluster import telemetry
from cluster.events import Event, Wakeup, publish
from cluster.objects import Objects
from data_pipelines.dataforge.tables.viewer import Viewer
from tests.securityvault.conftest import Vault, make_member
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.postgres
V1 = "/v1/securityvault"
PASSWORD = "correct horse battery"


@pytest.fixture
async def edge(vault: Vault) -> AsyncIterator[Edge]:
    async with Wakeup(vault.db) as wakeup:
        yield Edge(vault.db, Objects(vault.settings), wakeup, vault.authenticator, Viewer(vault.settings.home, 2**30))


class Gateway:
    """Clients of one gateway."""

    def __init__(self, edge: Edge) -> None:
        self.transport = httpx.ASGITransport(build_app(edge), raise_app_exceptions=False, client=("192.0.2.7", 1))

    def client(self, credential: str | None = None, **headers: str) -> httpx.AsyncClient:
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        return httpx.AsyncClient(transport=self.transport, base_url="http://gateway.test", headers=headers)


@pytest.fixture
def gateway(edge: Edge) -> Gateway:
    return Gateway(edge)


@pytest.fixture
async def admin(gateway: Gateway, vault: Vault) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client(vault.admin_key) as client:
        yield client


async def member(gateway: Gateway, vault: Vault, role: Role) -> httpx.AsyncClient:
    return gateway.client(await make_member(vault, f"the-{role}", role))


class TestKeys:
    async def test_are_shown_once_and_work(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        made = await admin.post(f"{V1}/keys", json={"name": "ci", "role": "developer"})
        assert made.status_code == 201, made.text
        key = made.json()["key"]
        me = (await gateway.client(key).get(f"{V1}/whoami")).json()
        assert me["role"] == "developer" and me["project"] == "default" and "modelhub:write" in me["permissions"]
        listed = (await admin.get(f"{V1}/keys")).json()["items"]
        assert [item["name"] for item in listed] == ["ci", "admin"] and key not in json.dumps(listed) and "secret" not in json.dumps(listed)

    async def test_answered_again_under_an_idempotency_key_are_not_stored_in_clear(
        self, admin: httpx.AsyncClient, root: psycopg.AsyncConnection
    ) -> None:
        headers = {"Idempotency-Key": uuid4().hex}
        first, second = [await admin.post(f"{V1}/keys", json={"name": "ci", "role": "viewer"}, headers=headers) for _ in range(2)]
        assert first.json() == second.json() and second.headers["idempotency-replayed"] == "true"
        rows = await (await root.execute("SELECT body FROM cluster.idempotency")).fetchall()
        secret = first.json()["key"].split("_")[3]
        assert len(rows) == 1 and secret.encode() not in bytes(rows[0][0])

    async def test_rotate_and_revoke(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        old = (await admin.post(f"{V1}/keys", json={"name": "ci", "role": "viewer"})).json()["key"]
        new = (await admin.post(f"{V1}/keys/ci/rotate")).json()["key"]

        async def status(key: str) -> int:
            return (await gateway.client(key).get(f"{V1}/whoami")).status_code

        async def old_is_dead() -> bool:
            return await status(old) == 401

        await wait_until_async(old_is_dead, within_s=1)
        assert await status(new) == 200
        assert (await admin.delete(f"{V1}/keys/ci")).status_code == 204
        assert (await admin.delete(f"{V1}/keys/ci")).status_code == 404

    async def test_nobody_grants_more_than_they_have(self, vault: Vault, gateway: Gateway) -> None:
        owner = await member(gateway, vault, Role.OWNER)
        for body, status in [
            ({"name": "a", "role": "owner"}, 201),
            ({"name": "b", "role": "admin"}, 403),
            ({"name": "c", "role": "operator"}, 403),
            ({"name": "d", "role": "viewer", "scopes": ["org:manage"]}, 403),
            ({"name": "e", "role": "viewer", "scopes": ["modelhub:fly"]}, 422),
            ({"name": "f", "role": "viewer", "scopes": ["modelhub:read"]}, 201),
            ({"name": "g", "role": "viewer", "project": "elsewhere"}, 404),
            ({"name": "a", "role": "viewer"}, 409),
            ({"name": "h", "role": "emperor"}, 422),
            ({"name": "i", "role": "viewer", "extra": 1}, 422),
        ]:
            answer = await owner.post(f"{V1}/keys", json=body)
            assert answer.status_code == status, (body, answer.text)

    async def test_a_narrowed_owner_widens_nothing(self, vault: Vault, gateway: Gateway, admin: httpx.AsyncClient) -> None:
        made = await admin.post(f"{V1}/keys", json={"name": "n", "role": "owner", "scopes": ["securityvault:manage"]})
        narrowed = gateway.client(made.json()["key"])
        inherited = await narrowed.post(f"{V1}/keys", json={"name": "child", "role": "owner"})
        assert inherited.json()["scopes"] == ["securityvault:manage"]
        assert (await narrowed.post(f"{V1}/keys", json={"name": "x", "role": "viewer", "scopes": ["modelhub:read"]})).status_code == 403
        await make_member(vault, "eve", None)
        assert (await narrowed.put(f"{V1}/members/eve", json={"role": "viewer"})).status_code == 403

    async def test_an_owner_of_one_project_has_no_power_over_stronger_keys(self, vault: Vault, gateway: Gateway) -> None:
        owner = await member(gateway, vault, Role.OWNER)
        for path in ("keys/admin/rotate", f"keys/{vault.admin.id}/rotate"):
            assert (await owner.post(f"{V1}/{path}")).status_code == 404
        assert (await owner.delete(f"{V1}/keys/admin")).status_code == 404


class TestPeople:
    async def test_sign_in_act_refresh_and_leave(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        made = await admin.post(f"{V1}/users", json={"email": "Ada@Example.org", "password": PASSWORD})
        assert made.status_code == 201 and made.json()["name"] == "ada@example.org" and PASSWORD not in made.text
        assert (await admin.put(f"{V1}/members/ada@example.org", json={"role": "annotator"})).json()["role"] == "annotator"
        anonymous = gateway.client()
        tokens = (await anonymous.post(f"{V1}/sessions", json={"email": "ada@example.org", "password": PASSWORD})).json()
        ada = gateway.client(tokens["access_token"])
        assert (await ada.get(f"{V1}/whoami")).json()["role"] == "annotator"
        assert [item["id"] for item in (await ada.get(f"{V1}/sessions")).json()["items"]] == [tokens["session_id"]]
        fresh = (await anonymous.post(f"{V1}/sessions/refresh", json={"refresh_token": tokens["refresh_token"]})).json()
        assert (await anonymous.post(f"{V1}/sessions/end", json={"refresh_token": fresh["refresh_token"]})).status_code == 204

        async def gone() -> bool:
            return (await ada.get(f"{V1}/whoami")).status_code == 401

        await wait_until_async(gone, within_s=1)
        assert (await anonymous.post(f"{V1}/sessions/refresh", json={"refresh_token": fresh["refresh_token"]})).status_code == 401

    async def test_an_invitation_is_a_first_password(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        invitation = (await admin.post(f"{V1}/users", json={"email": "bob@example.org"})).json()["invitation"]
        anonymous = gateway.client()
        body = {"invitation": invitation, "password": PASSWORD}
        assert (await anonymous.post(f"{V1}/invitations/accept", json={**body, "password": "short"})).status_code == 422
        assert (await anonymous.post(f"{V1}/invitations/accept", json=body)).status_code == 200
        assert (await anonymous.post(f"{V1}/invitations/accept", json=body)).status_code == 401
        assert (await anonymous.post(f"{V1}/sessions", json={"email": "bob@example.org", "password": PASSWORD})).status_code == 201

    async def test_members_are_put_listed_and_taken_out(self, vault: Vault, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        viewer = await member(gateway, vault, Role.VIEWER)
        assert [item["role"] for item in (await viewer.get(f"{V1}/members")).json()["items"]] == ["viewer"]
        assert (await viewer.put(f"{V1}/members/the-viewer", json={"role": "owner"})).status_code == 403
        assert (await admin.delete(f"{V1}/members/the-viewer")).status_code == 204
        assert (await admin.delete(f"{V1}/members/the-viewer")).status_code == 404

        async def out() -> bool:
            return (await viewer.get(f"{V1}/members")).status_code == 404

        await wait_until_async(out, within_s=1)

    async def test_nobody_closes_their_own_account(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.delete(f"{V1}/service-accounts/operator")).status_code == 409


class TestTenants:
    async def test_an_organisation_of_its_own_sees_nothing_of_ours(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        made = await admin.post(f"{V1}/organisations", json={"name": "acme", "admin": "eve@example.org"})
        assert made.status_code == 201, made.text
        anonymous = gateway.client()
        await anonymous.post(f"{V1}/invitations/accept", json={"invitation": made.json()["invitation"], "password": PASSWORD})
        body = {"email": "eve@example.org", "password": PASSWORD, "organisation": "acme"}
        eve = gateway.client((await anonymous.post(f"{V1}/sessions", json=body)).json()["access_token"])
        assert (await eve.get(f"{V1}/organisation")).json()["name"] == "acme"
        assert (await eve.get(f"{V1}/organisations")).status_code == 403
        ours = (await admin.get(f"{V1}/projects/default")).json()["id"]
        assert (await eve.get(f"{V1}/projects/{ours}")).status_code == 404
        assert (await eve.get(f"{V1}/members", headers={"X-Aidos-Project": ours})).status_code == 404
        assert (await eve.delete(f"{V1}/service-accounts/operator")).status_code == 404
        assert [item["name"] for item in (await eve.get(f"{V1}/users")).json()["items"]] == ["eve@example.org"]

    async def test_an_administrator_of_a_tenant_has_no_power_over_the_operator(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        key = (await admin.post(f"{V1}/keys", json={"name": "a", "role": "admin"})).json()["key"]
        tenant_admin = gateway.client(key)
        await admin.post(f"{V1}/service-accounts", json={"name": "robot"})
        assert (await tenant_admin.post(f"{V1}/keys", json={"name": "b", "role": "operator"})).status_code == 403
        assert (
            await tenant_admin.post(f"{V1}/keys", json={"name": "c", "role": "admin", "service_account": "operator"})
        ).status_code == 403
        assert (await tenant_admin.post(f"{V1}/keys/admin/rotate")).status_code == 403
        assert (await tenant_admin.delete(f"{V1}/keys/admin")).status_code == 403

    async def test_projects_are_made_listed_and_archived(self, vault: Vault, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        assert (await admin.post(f"{V1}/projects", json={"name": "vision"})).status_code == 201
        assert (await admin.post(f"{V1}/projects", json={"name": "vision"})).status_code == 409
        assert [item["name"] for item in (await admin.get(f"{V1}/projects?limit=1")).json()["items"]] == ["vision"]
        viewer = await member(gateway, vault, Role.VIEWER)
        assert [item["name"] for item in (await viewer.get(f"{V1}/projects")).json()["items"]] == ["default"]
        assert (await viewer.get(f"{V1}/projects/vision")).status_code == 404
        assert (await admin.post(f"{V1}/projects/vision/archive")).json()["archived_at"]


class TestAudit:
    async def test_every_change_is_on_the_record_and_the_record_holds(self, admin: httpx.AsyncClient) -> None:
        await admin.post(f"{V1}/projects", json={"name": "vision"})
        await admin.post(f"{V1}/projects", json={"name": "vision"})
        await admin.post(f"{V1}/audit/checkpoints")
        records = (await admin.get(f"{V1}/audit")).json()["items"]
        assert [record["action"] for record in records] == ["create_audit_checkpoint", "create_project", "bootstrap"]
        made = records[1]
        assert made["actor"].startswith("api_key:") and made["client_ip"] == "192.0.2.7" and made["data"] == {"status": 201}
        verdict = (await admin.post(f"{V1}/audit/verify", json={"anchors": [{"seq": made["seq"], "hash": made["hash"]}]})).json()
        assert verdict["valid"] and verdict["rows"] == 3 and verdict["checkpoints"] == 1
        wrong = await admin.post(f"{V1}/audit/verify", json={"anchors": [{"seq": made["seq"], "hash": "0" * 64}]})
        assert not wrong.json()["valid"] and wrong.json()["first_bad_seq"] == made["seq"]

    async def test_the_operator_verifies_every_tenants_log(self, admin: httpx.AsyncClient, gateway: Gateway) -> None:
        await admin.post(f"{V1}/organisations", json={"name": "acme", "admin": "eve@example.org"})
        verdict = (await admin.post(f"{V1}/audit/verify", json={"organisation": "acme"})).json()
        assert verdict["valid"] and verdict["rows"] == 0
        assert (await admin.post(f"{V1}/audit/verify", json={"organisation": "nobody"})).status_code == 404
        key = (await admin.post(f"{V1}/keys", json={"name": "a", "role": "admin"})).json()["key"]
        assert (await gateway.client(key).post(f"{V1}/audit/verify", json={"organisation": "acme"})).status_code == 403

    async def test_a_change_that_cannot_be_recorded_is_not_made(self, admin: httpx.AsyncClient, root: psycopg.AsyncConnection) -> None:
        await root.execute("REVOKE INSERT ON securityvault.audit_log FROM aidos_app")
        try:
            refused = await admin.post(f"{V1}/projects", json={"name": "vision"})
        finally:
            await root.execute("GRANT INSERT ON securityvault.audit_log TO aidos_app")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
        assert refused.json()["type"] == "urn:aidos:securityvault:audit-unwritable"
        assert (await admin.get(f"{V1}/projects/vision")).status_code == 404

    async def test_no_secret_is_logged(self, admin: httpx.AsyncClient, gateway: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
        key = (await admin.post(f"{V1}/keys", json={"name": "ci", "role": "viewer"})).json()["key"]
        await admin.post(f"{V1}/users", json={"email": "ada@example.org", "password": PASSWORD})
        body = {"email": "ada@example.org", "password": PASSWORD}
        tokens = (await gateway.client().post(f"{V1}/sessions", json=body)).json()
        refused = await gateway.client().post(f"{V1}/sessions", json={**body, "password": [PASSWORD]})
        await gateway.client(key).get(f"{V1}/whoami", params={"api_key": key})
        await gateway.client(tokens["access_token"]).get(f"{V1}/whoami")
        telemetry.note_waiting()
        printed = "".join(capfd.readouterr())
        assert printed.count("/v1/securityvault/sessions") >= 2 and PASSWORD not in refused.text
        for secret in (PASSWORD, key, key.split("_")[3], tokens["access_token"], tokens["refresh_token"]):
            assert secret not in printed


class TestEvents:
    async def happen(self, vault: Vault, count: int, type: str = "test.thing.made") -> None:
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            for number in range(count):
                await publish(
                    conn, Event(type, f"subject-{number}", vault.scope.org_id, vault.scope.project_id, vault.scope.actor, {"n": number})
                )

    async def test_are_listed_as_cloudevents_page_by_page(self, vault: Vault, admin: httpx.AsyncClient) -> None:
        await self.happen(vault, 5)
        seen: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await admin.get("/v1/events", params={"limit": 2, "type": "test", **({"cursor": cursor} if cursor else {})})).json()
            seen += page["items"]
            cursor = page["next_cursor"]
        assert [event["data"]["n"] for event in seen] == [0, 1, 2, 3, 4]
        first = seen[0]
        assert first["type"] == "aidos.test.thing.made" and first["specversion"] == "1.0" and first["source"].startswith("/projects/")
        assert (await admin.get("/v1/events", params={"type": "tes"})).json()["items"] == []
        assert len((await admin.get("/v1/events", params={"subject": "subject-3"})).json()["items"]) == 1

    async def test_of_another_project_are_not_seen(self, vault: Vault, admin: httpx.AsyncClient) -> None:
        await self.happen(vault, 3)
        await admin.post(f"{V1}/projects", json={"name": "vision"})
        found = (await admin.get("/v1/events", headers={"X-Aidos-Project": "vision"})).json()["items"]
        assert {event["type"] for event in found} == {"aidos.securityvault.project.created"}

    @pytest.mark.parametrize("bad", ["nonsense", "WzFd", "WzEsLTJd", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5LDBd"])
    async def test_a_cursor_of_somebody_else_is_the_callers_fault(self, admin: httpx.AsyncClient, bad: str) -> None:
        assert (await admin.get("/v1/events", params={"cursor": bad})).status_code == 400

    async def test_a_bad_last_event_id_is_too(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.get("/v1/events/stream", headers={"Last-Event-ID": "x"})).status_code == 400

    async def test_stream_from_where_the_client_left_off(self, vault: Vault, edge: Edge) -> None:
        """Read at the ASGI level: httpx's in-process transport waits for the whole answer."""
        await self.happen(vault, 3)
        async with Stream(build_app(edge), vault.admin_key, last_event_id="0-0") as stream:
            events = [await stream.next_event() or {} for _ in range(3)]
            assert [json.loads(event["data"])["data"]["n"] for event in events] == [0, 1, 2]
            await self.happen(vault, 1, "test.thing.changed")
            later = await stream.next_event()
            assert later is not None and later["event"] == "test.thing.changed"
        async with Stream(build_app(edge), vault.admin_key, last_event_id=events[1]["id"]) as again:
            assert (await again.next_event() or {})["id"] == events[2]["id"]
        async with Stream(build_app(edge), vault.admin_key) as fresh:

            async def heard() -> bool:
                """Where a new stream begins is not said, so something happens until it hears of it."""
                await self.happen(vault, 1, "test.thing.ended")
                return await fresh.next_event(within_s=0.5) is not None

            await wait_until_async(heard)


class Stream:
    """A client of the event stream that reads as it comes."""

    def __init__(self, app: Any, key: str, last_event_id: str | None = None) -> None:
        headers = [(b"authorization", f"Bearer {key}".encode()), (b"host", b"gateway.test")]
        if last_event_id is not None:
            headers.append((b"last-event-id", last_event_id.encode()))
        self.app, self.sent = app, asyncio.Queue[dict[str, Any]]()
        self.left, self.buffer = asyncio.Event(), ""
        self.scope = {
            "type": "http", "method": "GET", "path": "/v1/events/stream", "raw_path": b"/v1/events/stream", "query_string": b"", "headers": headers,
            "client": ("192.0.2.7", 1), "server": ("gateway.test", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
        }  # fmt: skip

    async def __aenter__(self) -> Stream:
        self.task = asyncio.create_task(self.app(self.scope, self._receive, self.sent.put))
        start = await asyncio.wait_for(self.sent.get(), 10)
        assert start["status"] == 200, start
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left.set()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _receive(self) -> dict[str, Any]:
        if not self.left.is_set() and not hasattr(self, "_asked"):
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def next_event(self, within_s: float = 10) -> dict[str, str] | None:
        """The next event that carries data; None when none came in time."""
        while "\n\n" not in self.buffer:
            try:
                message = await asyncio.wait_for(self.sent.get(), within_s)
            except TimeoutError:
                return None
            self.buffer += message.get("body", b"").decode().replace("\r\n", "\n")
        block, self.buffer = self.buffer.split("\n\n", 1)
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        return fields if "data" in fields else await self.next_event(within_s)
