"""The benchmarks' own instrument: figures say pass when they pass, and the load generator counts what it got."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator

import pytest

from benchmarks.harness import Figure, build_request, in_turns, load


class _Answers(socketserver.StreamRequestHandler):
    """200 to every request, and every fifth 500; the body comes in two pieces."""

    asked = 0

    def handle(self) -> None:
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            _Answers.asked += 1
            status = b"500 No" if _Answers.asked % 5 == 0 else b"200 OK"
            self.wfile.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\nab")
            self.wfile.flush()
            self.wfile.write(b"cd")


@pytest.fixture
def url() -> Iterator[str]:
    _Answers.asked = 0
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.plain
class TestFigure:
    @pytest.mark.parametrize(
        ("figure", "passed"),
        [
            (Figure("a.b", 90, "requests/s", "peer", 100, 0.8), True),
            (Figure("a.b", 79, "requests/s", "peer", 100, 0.8), False),
            (Figure("a.b", 79, "ms", "peer", 100, 0.8, lower_is_better=True), True),
            (Figure("a.b", 2.5, "GB", bar=3, lower_is_better=True), True),
            (Figure("a.b", 1, "requests/s", "peer", 0.0, 0.8), False),
            (Figure("a.b", 1, "ms"), None),
        ],
    )
    def test_passes_by_its_ratio(self, figure: Figure, passed: bool | None) -> None:
        assert figure.passed is passed and json.loads(figure.to_json())["pass"] is passed

    def test_is_one_line_with_the_members_that_scripts_read(self) -> None:
        line = Figure("gateway.get", 2012.345, "requests/s", "bare Serve", 2400.0, 0.8).to_json()
        assert json.loads(line) == {
            "bench": "gateway.get", "ours": 2012.0, "peer": "bare Serve", "peer_value": 2400.0, "unit": "requests/s", "ratio": 0.8385,
            "bar": 0.8, "pass": True,
        }  # fmt: skip


@pytest.mark.plain
class TestLoad:
    def test_counts_every_answer_by_status(self, url: str) -> None:
        result = load(f"{url}/x", seconds=0.3, connections=4)
        assert set(result.statuses) == {200, 500} and sum(result.statuses.values()) == len(result.latencies_s) == _Answers.asked
        assert result.broken_connections == 0 and 0 < result.percentile_ms(50) <= result.percentile_ms(99)

    def test_writes_a_request_with_its_headers_and_body(self) -> None:
        sent = build_request("http://x:1/a?b=c", "POST", {"Authorization": "Bearer k"}, b"{}")
        assert sent == b"POST /a?b=c HTTP/1.1\r\nHost: x:1\r\nAuthorization: Bearer k\r\nContent-Length: 2\r\n\r\n{}"

    def test_takes_turns_and_the_median(self) -> None:
        order: list[str] = []
        values = {"ours": iter([1.0, 9.0, 2.0]), "peer": iter([5.0, 5.0, 5.0])}

        def run(name: str) -> float:
            order.append(name)
            return next(values[name])

        assert in_turns({"ours": lambda: run("ours"), "peer": lambda: run("peer")}, 3) == {"ours": 2.0, "peer": 5.0}
        assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
