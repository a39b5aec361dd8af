"""Bytes on a socket that no HTTP library would send: none of them opens a route that is closed (Starlette's CVE-2026-48710)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.deps import PUBLIC
from cluster.settings import Settings
from tests.api.live import Server, serve
from tests.api.routes import Operation, operations
from tests.api.world import World

pytestmark = [pytest.mark.postgres]

HOSTS = ("x/health?", "x/healthz?", "x/#", "x/v1/version?", "x?", "x@evil.example", "[::1]/healthz?", "127.0.0.1:80/healthz#", "")
PATHS = ("//{path}", "/.{path}", "/healthz/..{path}", "/healthz%2f..{path}", "{path};/healthz", "{path}%00", "{path}/", "{path}%3f")


@pytest.fixture(scope="module")
def server(api_settings: Settings, world: World) -> Iterator[Server]:
    with serve(api_settings) as running:
        yield running


@pytest.fixture(scope="module")
def closed(world: World) -> list[Operation]:
    found = [operation for operation in operations(world.app) if operation.permission != PUBLIC]
    assert len(found) > 20
    return found


def request(operation: Operation, target: str | None = None, *headers: str, host: str = "gateway.test") -> bytes:
    lines = [f"{operation.method} {target or operation.target()} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if operation.method != "GET" and not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append("Content-Length: 0")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def statuses(answer: bytes) -> list[int]:
    """The status of every answer in the bytes: a smuggled request would show as a second one."""
    return [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


class TestClosedRoutes:
    def test_are_closed_without_any_trick(self, server: Server, closed: list[Operation]) -> None:
        for operation in closed:
            assert statuses(server.send(request(operation))) == [401], str(operation)

    @pytest.mark.parametrize("host", HOSTS)
    def test_stay_closed_whatever_the_host(self, server: Server, closed: list[Operation], host: str) -> None:
        for operation in closed:
            assert statuses(server.send(request(operation, host=host))) in ([401], [400]), str(operation)

    def test_stay_closed_with_two_hosts(self, server: Server, closed: list[Operation]) -> None:
        for operation in closed[::5]:
            assert statuses(server.send(request(operation, None, "Host: x/healthz?"))) in ([401], [400]), str(operation)

    def test_stay_closed_with_forwarding_headers(self, server: Server, closed: list[Operation]) -> None:
        tricks = ["X-Original-URL: /healthz", "X-Rewrite-URL: /healthz", "X-Forwarded-Path: /healthz", "X-Forwarded-Host: x/healthz?",
                  "X-HTTP-Method-Override: GET", "Forwarded: for=127.0.0.1;host=x/healthz?", "X-Forwarded-For: 127.0.0.1"]  # fmt: skip
        for operation in closed[::5]:
            for trick in tricks:
                assert statuses(server.send(request(operation, None, trick))) == [401], f"{operation} {trick}"

    @pytest.mark.parametrize("form", ["http://x{path}", "http://gateway.test{path}", "http://x/healthz/..{path}", "http:{path}", "*"])
    def test_stay_closed_to_absolute_targets(self, server: Server, closed: list[Operation], form: str) -> None:
        for operation in closed[::3]:
            found = statuses(server.send(request(operation, form.format(path=operation.target()))))
            assert len(found) == 1 and found[0] in {400, 401, 404, 405}, f"{operation}: {found}"

    @pytest.mark.parametrize("form", PATHS)
    def test_stay_closed_to_other_spellings(self, server: Server, closed: list[Operation], form: str) -> None:
        for operation in closed[::3]:
            found = statuses(server.send(request(operation, form.format(path=operation.target()))))
            assert len(found) == 1 and found[0] in {400, 401, 404, 405}, f"{operation}: {found}"

    def test_are_not_reached_by_a_smuggled_request(self, server: Server) -> None:
        inner = b"GET /v1/platform/status HTTP/1.1\r\nHost: x\r\n\r\n"
        for framing in ("Transfer-Encoding: chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Content-Length: 4"):
            head = f"POST /v1/version HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner)}\r\n{framing}\r\nConnection: close\r\n\r\n"
            found = statuses(server.send(head.encode() + b"0\r\n\r\n" + inner))
            assert set(found) <= {400, 401, 405, 413, 501}, f"{framing}: {found}"


class TestOpenRoutes:
    @pytest.mark.parametrize("host", HOSTS)
    def test_answer_as_without_the_trick(self, server: Server, world: World, host: str) -> None:
        key = world.credentials["viewer"]
        for target in ("/healthz", "/v1/version", "/v1/modelhub/experiments", "/v1/nothing"):
            operation = Operation("GET", target, "", False, "")
            plain = statuses(server.send(request(operation, None, f"Authorization: Bearer {key}")))
            tricked = statuses(server.send(request(operation, None, f"Authorization: Bearer {key}", host=host)))
            assert tricked in (plain, [400]), target

    def test_a_key_in_the_query_or_a_cookie_is_no_key(self, server: Server, world: World) -> None:
        key, operation = world.credentials["viewer"], Operation("GET", "/v1/modelhub/experiments", "", False, "")
        assert statuses(server.send(request(operation, f"{operation.path}?api_key={key}&access_token={key}"))) == [401]
        assert statuses(server.send(request(operation, None, f"Cookie: session={key}; access_token={key}"))) == [401]

    @pytest.mark.parametrize(
        "target", ["/%00", "/v1/modelhub/experiments/%00", "/%ff%fe", "/v1/%2e%2e/%2e%2e/etc/passwd", "/" + "x" * 60_000]
    )
    def test_no_path_is_our_fault(self, server: Server, world: World, target: str) -> None:
        answer = server.send(request(Operation("GET", target, "", False, ""), None, f"Authorization: Bearer {world.credentials['viewer']}"))
        assert [status for status in statuses(answer) if status < 500], answer[:200]

    def test_a_huge_header_is_not_our_fault(self, server: Server) -> None:
        answer = server.send(request(Operation("GET", "/healthz", "", False, ""), None, "X-Huge: " + "x" * 200_000))
        assert statuses(answer) in ([], [200], [400], [431])
