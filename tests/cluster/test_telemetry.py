"""Logs, spans and numbers of one process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import metrics, telemetry
from tests.support.otlp import collecting

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SECRETS = [
    "https://s3/b/k?X-Amz-Signature=5ecre7&x=1",
    "Authorization: Bearer 5ecre7",
    "aidos_live_5ecre7",
    "postgresql://aidos:5ecre7@db/x",
]


def run(code: str, **environment: str) -> list[dict[str, Any]]:
    """Run the code in a process of its own, where telemetry is configured; its log lines, which must all be JSON."""
    program = (
        f"from cluster import telemetry\nfrom cluster.settings import get_settings\ntelemetry.configure(get_settings(), 'tested')\n{code}"
    )
    environment = {"PATH": "/usr/bin:/bin", "AIDOS_HOME": "/nonexistent", **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


class TestLogs:
    def test_a_line_has_the_ids_that_are_bound_and_the_trace(self) -> None:
        (line,) = run(
            "with telemetry.bind(request_id='r-1', project_id='p-1', actor=None), telemetry.span('work', "
            f"{PARENT!r}):\n telemetry.get_logger('here').info('done', rows=3)"
        )
        assert (line["event"], line["rows"], line["level"], line["module"]) == ("done", 3, "info", "here")
        assert (line["process"], line["request_id"], line["project_id"]) == ("tested", "r-1", "p-1")
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c" and "actor" not in line

    def test_lines_that_wait_for_each_other_keep_their_own_ids_and_time_and_outlive_the_loop(self) -> None:
        lines = run(
            "import asyncio\nlog = telemetry.get_logger('http')\n"
            "async def answer(number):\n"
            " with telemetry.bind(request_id=number, project_id='p' if number == 1 else None), telemetry.span('HTTP', "
            f"{PARENT!r} if number == 1 else None):\n"
            "  telemetry.later(lambda moment, status: log.info('request', moment=moment, status=status), number)\n"
            "async def main():\n"
            " await asyncio.gather(answer(1), answer(2))\n"
            " log.info('told at once')\n"
            " if slow: await asyncio.sleep(2 * telemetry.BATCH_S)\n"
            "for slow in (True, False): asyncio.run(main())"
        )
        told, asked = [[line for line in lines if (line["event"] == "request") is found] for found in (False, True)]
        assert [line["event"] for line in lines][:3] == ["told at once", "request", "request"] and len(told) == 2
        assert [(line["request_id"], line.get("project_id"), line["status"]) for line in asked] == [("1", "p", 1), ("2", None, 2)] * 2
        assert asked[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c" != asked[1]["trace_id"]
        assert asked[0]["timestamp"] < told[0]["timestamp"] < asked[2]["timestamp"] < told[1]["timestamp"]

    def test_a_thread_knows_the_process_too(self) -> None:
        (line,) = run("import threading\nthreading.Thread(target=lambda: telemetry.get_logger('x').info('in a thread')).start()")
        assert line["process"] == "tested"

    def test_what_libraries_log_is_the_same_json_once(self) -> None:
        (line,) = run("import logging\nlogging.getLogger('psycopg.pool').warning('lost %s', 'it')")
        assert (line["event"], line["module"], line["process"]) == ("lost it", "psycopg.pool", "tested")

    def test_a_secret_that_an_error_quotes_is_not_logged(self) -> None:
        lines = run(
            f"import logging\nlog = telemetry.get_logger('x')\nfor secret in {SECRETS}:\n"
            " log.info('asked', url=secret)\n logging.getLogger('minio').error(secret)\n"
            " try:\n  raise ValueError(secret)\n except ValueError:\n  log.exception('failed')"
        )
        assert len(lines) == 3 * len(SECRETS)
        assert "5ecre7" not in json.dumps(lines)

    def test_an_address_is_no_secret(self) -> None:
        (line,) = run("telemetry.get_logger('x').info('asked', url='http://127.0.0.1:8000/v1?a=b@c', at='2026-01-01T00:00:00Z')")
        assert line["url"] == "http://127.0.0.1:8000/v1?a=b@c"

    def test_libraries_are_never_heard_below_info(self) -> None:
        lines = run(
            "import logging\nlogging.getLogger('urllib3').debug('GET /?X-Amz-Signature')\ntelemetry.get_logger('x').debug('ours')",
            AIDOS_LOG_LEVEL="DEBUG",
        )
        assert [line["event"] for line in lines] == ["ours"]

    def test_what_json_cannot_say_is_said_all_the_same(self) -> None:
        (line,) = run("telemetry.get_logger('x').info('asked', path='/\\udce9', by=ValueError, ids={7})")
        assert line["path"] == "/\udce9" and "ValueError" in line["by"] and "7" in str(line["ids"])


class TestSpans:
    def test_reach_the_collector_before_the_process_ends(self) -> None:
        with collecting() as collector:
            lines = run(
                f"with telemetry.span('outer', {PARENT!r}, telemetry.SERVER, http__route='/v1/x', n=3):\n with telemetry.span('inner'): pass",
                AIDOS_OTLP_ENDPOINT=collector.endpoint,
            )
        inner, outer = sorted(collector.of("0af7651916cd43dd8448eb211c80319c"), key=lambda span: span.name)
        assert lines == [] and outer.service == "aidos.tested"
        assert (outer.parent_id, inner.parent_id) == ("b7ad6b7169203331", outer.span_id)
        assert outer.attributes == {"http.route": "/v1/x", "n": 3}

    def test_an_error_is_known_by_its_type_alone(self) -> None:
        with collecting() as collector:
            run(
                "try:\n with telemetry.span('failing'):\n  raise ValueError('5ecre7')\nexcept ValueError: pass",
                AIDOS_OTLP_ENDPOINT=collector.endpoint,
            )
        (span,) = collector.spans
        assert span.attributes == {"error.type": "ValueError"}

    def test_one_that_is_no_news_is_dropped(self) -> None:
        with collecting() as collector:
            run(
                "with telemetry.span('looked') as span: span.kept = False\nwith telemetry.span('did'): pass",
                AIDOS_OTLP_ENDPOINT=collector.endpoint,
            )
        assert [span.name for span in collector.spans] == ["did"]

    def test_the_share_is_the_settings_and_a_callers_choice_stands(self) -> None:
        with collecting() as collector:
            run(
                f"for _ in range(50):\n with telemetry.span('new'): pass\nwith telemetry.span('asked', {PARENT!r}): pass",
                AIDOS_OTLP_ENDPOINT=collector.endpoint,
                AIDOS_TRACE_SAMPLE_RATIO="0",
            )
        assert [span.name for span in collector.spans] == ["asked"]

    def test_a_dead_collector_costs_one_line_and_no_time(self) -> None:
        began = time.monotonic()
        lines = run(
            "import time\nbegan = time.perf_counter()\n"
            "for _ in range(5000):\n with telemetry.span('x'): pass\n"
            "telemetry.get_logger('x').info('spent', seconds=time.perf_counter() - began)",
            AIDOS_OTLP_ENDPOINT="http://127.0.0.1:9",
        )
        (spent,) = [line for line in lines if line["event"] == "spent"]
        assert spent["seconds"] < 5
        assert len([line for line in lines if line["module"].startswith("opentelemetry")]) == 1
        assert time.monotonic() - began < 30

    def test_without_a_collector_there_are_ids_all_the_same(self) -> None:
        (line,) = run("with telemetry.span('x'): telemetry.get_logger('x').info('seen', sent=telemetry.current_traceparent())")
        assert line["sent"].startswith(f"00-{line['trace_id']}-{line['span_id']}-")
        assert int(line["sent"][-2:], 16) & 1 == 0

    @pytest.mark.parametrize("broken", ["", "x", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", PARENT.replace("00-", "ff-", 1)])
    def test_a_broken_traceparent_begins_a_new_trace(self, broken: str) -> None:
        with telemetry.span("x", broken):
            sent = telemetry.current_traceparent()
        assert sent is not None and not sent.startswith("00-0000000") and "0af7651916cd43dd" not in sent


class Instruments:
    """``ray.util.metrics`` as far as it is used: remembers what was recorded."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, float, dict[str, str]]] = []
        self.Counter = self.Gauge = self.Histogram = self._make

    def _make(self, name: str, _meaning: str, tag_keys: tuple[str, ...], boundaries: Any = None) -> Any:
        def record(value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(tag_keys)
            self.recorded.append((name, value, tags))

        return SimpleNamespace(inc=record, observe=record, set=record)


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> Instruments:
    for metric in metrics.DECLARED:
        monkeypatch.setattr(metric, "_instrument", None)
    monkeypatch.setattr(metrics, "_app", ["none"])
    made = Instruments()
    metrics.start(made, "gateway")
    return made


class TestMetrics:
    def test_a_request_is_counted_by_its_route_and_an_odd_method_as_other(self, instruments: Instruments) -> None:
        metrics.count_request("/v1/x/{id}", "GET", 200, 0.25)
        metrics.count_request("none", "BREW-7", 405, 0.0)
        assert instruments.recorded[0] == (
            "aidos_http_requests_total",
            1,
            {"app": "gateway", "route": "/v1/x/{id}", "method": "GET", "status": "200"},
        )
        assert instruments.recorded[1] == ("aidos_http_request_seconds", 0.25, {"app": "gateway", "route": "/v1/x/{id}", "method": "GET"})
        assert instruments.recorded[2][2]["method"] == "other" and instruments.recorded[3][1] > 0

    def test_a_state_that_nothing_is_in_says_zero(self, instruments: Instruments) -> None:
        metrics.set_states(metrics.JOBS, ["QUEUED", "RUNNING"], {"RUNNING": 2})
        assert [(value, tags) for _, value, tags in instruments.recorded] == [(0, {"state": "QUEUED"}), (2, {"state": "RUNNING"})]

    def test_outside_of_ray_nothing_happens(self) -> None:
        metrics.count_request("/v1/x", "GET", 200, 0.25)
