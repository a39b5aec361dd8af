"""The middleware in front of every Serve app, called as a server calls it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from actors.securityvault import service
from actors.securityvault.asgi import VaultMiddleware
from actors.securityvault.models import Role
from aidos.errors import Conflict
from cluster import telemetry
from tests.securityvault.conftest import Vault, make_member

pytestmark = pytest.mark.postgres
LIMIT_BYTES = 1000


@dataclass
class App:
    """An application that remembers what reached it."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    body: bytes = b""
    raises: Exception | None = None
    begins_first: bool = False
    swallows: bool = False
    started: bool = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                self.started = True
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.calls.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        if self.begins_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while (message := await receive())["type"] == "http.request":
                self.body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        except Exception:
            if not self.swallows:
                raise
            # As FastAPI does: a body that cannot be read is a 400 to it.
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"There was an error parsing the body"})
            return
        if self.raises is not None:
            raise self.raises
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), (b"cache-control", b"private")]}
        )
        await send({"type": "http.response.body", "body": b"fine"})


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


async def call(
    middleware: VaultMiddleware, *, key: str | None = None, chunks: list[bytes] | None = None, type: str = "http", **more: Any
) -> Answer:
    """One exchange. ``headers`` in ``more`` are added; everything else replaces members of the ASGI scope."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in more.pop("headers", {}).items()]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    scope = {
        "type": type,
        "method": "POST",
        "path": "/v2/models/m/infer",
        "query_string": b"",
        "client": ["192.0.2.7", 1],
        "headers": headers,
        **more,
    }
    if type == "websocket":
        del scope["method"]
    pending = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or []]
    pending.append({"type": "http.request", "body": b"", "more_body": False} if type == "http" else {"type": "websocket.connect"})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return pending.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await middleware(scope, receive, send)
    first = sent[0]
    assert len([message for message in sent if message["type"].endswith("start")]) <= 1, "an answer begins once"
    return Answer(
        first.get("status", first.get("code", 101)),
        {name.decode(): value.decode() for name, value in first.get("headers", [])},
        b"".join(message.get("body", b"") for message in sent),
    )


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def endpoint(vault: Vault, app: App) -> VaultMiddleware:
    """As deployengine uses it."""
    return VaultMiddleware(
        app,
        vault.authenticator,
        permission="deployengine:predict",
        project_id=vault.scope.project_id,
        public={"/health"},
        body_limit_bytes=LIMIT_BYTES,
    )


class TestCaller:
    async def test_is_told_to_the_application(self, vault: Vault, endpoint: VaultMiddleware, app: App) -> None:
        answer = await call(endpoint, key=vault.admin_key)
        assert (answer.status, answer.body) == (200, b"fine")
        state = app.calls[0]["state"]
        assert state["principal"].id == vault.admin.id and state["scope"].project_id == vault.scope.project_id
        assert state["request_id"] == answer.headers["x-request-id"]

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic YTpi"}, {"x-api-key": "nonsense"}, {"cookie": "token=x"}, {"authorization": "Bearer \xff"}])  # fmt: skip
    async def test_without_one_nothing_gets_through(self, endpoint: VaultMiddleware, app: App, headers: dict[str, str]) -> None:
        answer = await call(endpoint, headers=headers)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer" and not app.calls
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["instance"] == answer.headers["x-request-id"]

    async def test_a_key_in_the_query_is_none(self, vault: Vault, endpoint: VaultMiddleware) -> None:
        assert (await call(endpoint, query_string=f"api_key={vault.admin_key}".encode())).status == 401

    async def test_x_api_key_is_one(self, vault: Vault, endpoint: VaultMiddleware) -> None:
        assert (await call(endpoint, headers={"x-api-key": vault.admin_key})).status == 200

    @pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.ANNOTATOR, 403), (Role.DEVELOPER, 200), (None, 404)])
    async def test_needs_the_permission_in_the_endpoints_project(
        self, vault: Vault, endpoint: VaultMiddleware, role: Role | None, status: int
    ) -> None:
        key = await make_member(vault, "ci", role)
        assert (await call(endpoint, key=key, headers={"x-aidos-project": "another"})).status == status

    async def test_of_another_organisation_finds_nothing(self, vault: Vault, app: App) -> None:
        foreign = VaultMiddleware(app, vault.authenticator, permission="deployengine:predict", project_id=uuid4())
        assert (await call(foreign, key=vault.admin_key)).status == 404 and not app.calls

    async def test_a_public_path_needs_none_and_is_exact(self, endpoint: VaultMiddleware) -> None:
        assert (await call(endpoint, path="/health")).status == 200
        assert (await call(endpoint, path="/health", key="stale")).status == 200
        for path in ("/health/", "/health/../v2", "/HEALTH", "/health%2f", "//health", "/healthz"):
            assert (await call(endpoint, path=path)).status == 401, path

    async def test_of_a_websocket_is_asked_for_too(self, vault: Vault, endpoint: VaultMiddleware, app: App) -> None:
        assert (await call(endpoint, type="websocket")).status == 1008 and not app.calls
        assert (await call(endpoint, type="websocket", extensions={"websocket.http.response": {}})).status == 401
        assert (await call(endpoint, type="websocket", key=vault.admin_key)).status == 101 and len(app.calls) == 1

    async def test_a_host_that_is_not_ours_is_refused(self, vault: Vault, app: App) -> None:
        named = VaultMiddleware(app, vault.authenticator, hosts={"aidos.example"})
        assert (await call(named, key=vault.admin_key, headers={"host": "AIDOS.example:8000"})).status == 200
        assert (await call(named, key=vault.admin_key, headers={"host": "evil.example"})).status == 400
        assert (await call(named, key=vault.admin_key)).status == 400


class TestBody:
    async def test_within_the_limit_is_read(self, vault: Vault, endpoint: VaultMiddleware, app: App) -> None:
        assert (await call(endpoint, key=vault.admin_key, chunks=[b"x" * LIMIT_BYTES])).status == 200
        assert len(app.body) == LIMIT_BYTES

    async def test_that_says_it_is_too_large_is_not_read(self, vault: Vault, endpoint: VaultMiddleware, app: App) -> None:
        for length in (str(LIMIT_BYTES + 1), "9" * 30):
            answer = await call(endpoint, key=vault.admin_key, headers={"content-length": length})
            assert answer.status == 413 and not app.calls and answer.json()["limit_bytes"] == LIMIT_BYTES

    @pytest.mark.parametrize("swallows", [False, True])
    async def test_that_turns_out_too_large_is_cut(self, vault: Vault, endpoint: VaultMiddleware, app: App, swallows: bool) -> None:
        app.swallows = swallows
        answer = await call(endpoint, key=vault.admin_key, chunks=[b"x" * 400] * 100)
        assert answer.status == 413 and answer.json()["limit_bytes"] == LIMIT_BYTES
        assert len(app.body) <= LIMIT_BYTES


class TestAnswer:
    async def test_is_hardened_and_keeps_what_the_application_said(self, vault: Vault, endpoint: VaultMiddleware) -> None:
        for answer in (await call(endpoint, key=vault.admin_key), await call(endpoint)):
            assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await call(endpoint, key=vault.admin_key)).headers["cache-control"] == "private"

    async def test_carries_the_callers_request_id_if_it_is_sane(self, vault: Vault, endpoint: VaultMiddleware) -> None:
        answer = await call(endpoint, key=vault.admin_key, headers={"x-request-id": "ci-run-12345"})
        assert answer.headers["x-request-id"] == "ci-run-12345"
        for bad in ("short", "x" * 200, "has space in it", 'quote"quote"', "line\r\nset-cookie: a=b"):
            assert (await call(endpoint, key=vault.admin_key, headers={"x-request-id": bad})).headers["x-request-id"] != bad

    async def test_of_an_error_is_its_problem_and_of_a_bug_says_nothing(self, vault: Vault, endpoint: VaultMiddleware, app: App) -> None:
        app.raises = Conflict(reason="Taken.")
        answer = await call(endpoint, key=vault.admin_key)
        assert answer.status == 409 and answer.json()["detail"] == "Taken."
        app.raises = RuntimeError("password is hunter2")
        answer = await call(endpoint, key=vault.admin_key)
        assert answer.status == 500 and b"hunter2" not in answer.body and answer.json()["instance"]

    async def test_that_has_begun_is_left_to_the_server(self, vault: Vault, endpoint: VaultMiddleware, app: App) -> None:
        app.raises, app.begins_first = RuntimeError("broken"), True
        with pytest.raises(RuntimeError, match="broken"):
            await call(endpoint, key=vault.admin_key)


class TestLimits:
    async def test_a_thousand_calls_pass_a_hundred_times(
        self, vault: Vault, endpoint: VaultMiddleware, root: psycopg.AsyncConnection
    ) -> None:
        """A key's own limit; counted anew, with another key, when the minute ended in between."""
        for name in ("ci", "ci-again"):
            key = await make_member(vault, name, Role.DEVELOPER)
            await root.execute("UPDATE securityvault.api_keys SET rate_limit_per_minute = 100 WHERE name = %s", [f"{name}-key"])
            minute = int(time.time() // 60)
            answers = await asyncio.gather(*(call(endpoint, key=key) for _ in range(1000)))
            if int(time.time() // 60) == minute:
                break
        statuses = [answer.status for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (100, 900)
        refusal = next(answer for answer in answers if answer.status == 429)
        assert 1 <= int(refusal.headers["retry-after"]) <= 61 and refusal.json()["subject"] == "key"


class TestTrace:
    async def test_the_span_joins_the_callers_trace(self, vault: Vault, endpoint: VaultMiddleware, monkeypatch: pytest.MonkeyPatch) -> None:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
        await call(endpoint, key=vault.admin_key, headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        (span,) = exporter.get_finished_spans()
        assert format(span.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
        assert span.parent is not None and format(span.parent.span_id, "016x") == "b7ad6b7169203331"


class TestLifespan:
    async def test_a_middleware_of_its_own_opens_with_the_server(self, vault: Vault, app: App) -> None:
        own = VaultMiddleware(app, permission="deployengine:predict", project_id=vault.scope.project_id, settings=vault.settings)
        async with Serving(own):
            assert app.started and (await call(own, key=vault.admin_key)).status == 200
        assert own._own is None

    async def test_or_with_the_first_request(self, vault: Vault, app: App) -> None:
        own = VaultMiddleware(app, permission="deployengine:predict", project_id=vault.scope.project_id, settings=vault.settings)
        answers = await asyncio.gather(*(call(own, key=vault.admin_key) for _ in range(5)))
        assert {answer.status for answer in answers} == {200}
        await own._close()


class Serving:
    """The server's side of the lifespan protocol."""

    def __init__(self, app: VaultMiddleware) -> None:
        self.app, self.inbox, self.done = app, asyncio.Queue[str](), asyncio.Event()

    async def __aenter__(self) -> None:
        self.task = asyncio.create_task(self.app({"type": "lifespan"}, self._receive, self._send))
        await self.inbox.put("lifespan.startup")
        await self.done.wait()

    async def __aexit__(self, *_: object) -> None:
        await self.inbox.put("lifespan.shutdown")
        await self.task

    async def _receive(self) -> dict[str, str]:
        return {"type": await self.inbox.get()}

    async def _send(self, _message: Any) -> None:
        self.done.set()


class TestCost:
    async def test_a_known_caller_costs_little_and_no_database(
        self, vault: Vault, endpoint: VaultMiddleware, root: psycopg.AsyncConnection
    ) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        await vault.authenticator.listening.wait()
        for _ in range(200):
            await call(endpoint, key=key)

        def refuse(*_: object) -> AsyncIterator[Any]:
            raise AssertionError("the common request asked the database")

        vault.authenticator.db.platform = refuse  # type: ignore[method-assign,assignment]  # a trap: nothing may call it
        for _ in range(20):
            assert (await call(endpoint, key=key)).status == 200
        del vault.authenticator.db.platform  # type: ignore[method-assign]  # back to the class's own
        assert service.policy.allows(await vault.authenticator.scope(vault.admin, None), "deployengine:predict")
