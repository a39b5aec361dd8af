"""One trace from the request through the actors into the job's Ray tasks, numbers on Ray's exporter, JSON in every log."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.ray_head import temporary_directory
from tests.support.onnx_models import linear
from tests.support.otlp import Collector, Span
from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

METRICS_PORT = 6
"""Offset of Ray's exporter from AIDOS_RAY_PORT."""
SCRIPT = """
import ray
import aidos

def look(name):
    try:
        aidos.Client().datasets.get(name)
    except aidos.AidosError:
        pass

look("asked-by-the-driver")
ray.init()
ray.get(ray.remote(look).remote("asked-by-a-task"))
with aidos.run() as run:
    run.log_model("tiny.onnx", name="tiny")
"""


def new_trace() -> tuple[str, str]:
    """A trace id, and the traceparent that asks for it to be recorded."""
    trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-01"


@pytest.fixture(scope="module")
def traced_job(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The trace of a job that has succeeded, and registered the model ``tiny``."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "look.py").write_text(SCRIPT)
    (folder / "tiny.onnx").write_bytes(linear())
    trace_id, traceparent = new_trace()
    job = platform.ask("job", "submit", "--name", "traced", "--", "python", "look.py", cwd=folder, TRACEPARENT=traceparent)
    wait_until(lambda: platform.ask("job", "get", job["id"], "--wait", "20s")["state"] in {"SUCCEEDED", "FAILED"}, within_s=240)
    log = platform.aidos("job", "logs", job["id"], check=True).out
    assert platform.ask("job", "get", job["id"])["state"] == "SUCCEEDED", log
    return trace_id


@pytest.fixture(scope="module")
def endpoint_trace(platform: RunningPlatform, traced_job: str) -> str:
    """The trace in which the endpoint ``tiny`` was asked for; it answers."""
    trace_id, traceparent = new_trace()
    platform.aidos("endpoint", "create", "tiny", "--model", "tiny@1", check=True, TRACEPARENT=traceparent)
    wait_until(lambda: platform.ask("endpoint", "get", "tiny", "--wait", "20s")["state"] == "READY", within_s=240)
    return trace_id


def has(spans: list[Span], service: str, name: str, path: str = "") -> bool:
    return any(span.service == service and span.name == name and path in str(span.attributes.get("url.path", "")) for span in spans)


class TestTraces:
    def test_go_from_the_request_through_the_actor_into_the_jobs_tasks(self, collector: Collector, traced_job: str) -> None:
        def arrived() -> bool:
            spans = collector.of(traced_job)
            return (
                has(spans, "aidos.gateway", "POST /v1/trainos/jobs")
                and has(spans, "aidos.trainos", "trainos.jobs")
                and has(spans, "aidos.trainos", "trainos.submit")
                and has(spans, "aidos.gateway", "GET /v1/dataforge/datasets/{dataset}", "asked-by-the-driver")
                and has(spans, "aidos.gateway", "GET /v1/dataforge/datasets/{dataset}", "asked-by-a-task")
                and has(spans, "aidos.modelhub", "modelhub.versions")
            )

        wait_until(arrived, within_s=20)
        spans = collector.of(traced_job)
        (submit,) = [span for span in spans if span.name == "trainos.submit"]
        by_a_task = next(span for span in spans if "asked-by-a-task" in str(span.attributes.get("url.path")))
        assert by_a_task.parent_id == submit.span_id
        assert len([span for span in spans if span.name == "trainos.jobs"]) < 8, "looking at an unchanged job is no span"

    def test_go_into_the_actor_that_deploys_and_into_the_replica(
        self, platform: RunningPlatform, collector: Collector, endpoint_trace: str
    ) -> None:
        wait_until(lambda: has(collector.of(endpoint_trace), "aidos.deployengine", "deployengine.endpoints"), within_s=20)
        trace_id, traceparent = new_trace()
        headers = {"Authorization": f"Bearer {platform.admin_key}", "traceparent": traceparent}
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
        answer = httpx.post(f"{platform.url}/serve/default/tiny/v2/models/tiny/infer", headers=headers, json=body)
        assert answer.status_code == 200, answer.text
        wait_until(lambda: has(collector.of(trace_id), "aidos.endpoint.tiny", "POST /v2/models/{model}/infer"), within_s=20)

    def test_an_event_names_the_trace_of_the_request_that_caused_it(self, platform: RunningPlatform, endpoint_trace: str) -> None:
        events = platform.ask("event", "list", "--type", "deployengine.endpoint", "--limit", "100")
        mine = [event for event in events if (event["traceparent"] or "").split("-")[1:2] == [endpoint_trace]]
        assert {"deployengine.endpoint.created", "deployengine.endpoint.ready"} <= {event["type"].removeprefix("aidos.") for event in mine}


class TestMetrics:
    def test_are_on_rays_own_exporter(self, platform: RunningPlatform, endpoint_trace: str) -> None:
        port = int(platform.environment["AIDOS_RAY_PORT"]) + METRICS_PORT
        wanted = {
            "ray_aidos_http_requests_total": {"app": "gateway", "route": "/v1/trainos/jobs", "method": "POST", "status": "201"},
            "ray_aidos_http_request_seconds_bucket": {"app": "endpoint.tiny", "route": "/v2/models/{model}/infer"},
            "ray_aidos_reconciler_items_total": {"reconciler": "trainos.jobs", "outcome": "applied"},
            "ray_aidos_reconciler_seconds_count": {"reconciler": "deployengine.endpoints"},
            "ray_aidos_events_consumed_total": {"consumer": "costoptimizer.leases"},
            "ray_aidos_jobs": {"state": "RUNNING"},
            "ray_aidos_endpoints": {"state": "READY"},
        }
        missing: list[str] = []

        def complete() -> bool:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            missing[:] = [
                name
                for name, labels in wanted.items()
                if not any(sample.name == name and labels.items() <= sample.labels.items() for sample in samples)
            ]
            return not missing

        try:
            wait_until(complete, within_s=60, every_s=1)
        except AssertionError:
            raise AssertionError(f"not on the exporter: {missing}") from None


class TestLogs:
    @pytest.fixture
    def lines(self, platform: RunningPlatform, endpoint_trace: str) -> list[str]:
        of_workers = temporary_directory(platform.home) / "session_latest" / "logs"
        files = [*of_workers.glob("worker-*.err"), *(platform.home / "logs").glob("*-*.log*")]
        return [line for path in sorted(files) for line in read_lines(path) if '"process"' in line]

    def test_every_process_writes_json_lines_with_its_ids(self, lines: list[str]) -> None:
        logs = [json.loads(line) for line in lines]
        assert {"gateway", "endpoint.tiny", "trainos"} <= {log["process"] for log in logs}
        submit = next(log for log in logs if log.get("route") == "/v1/trainos/jobs" and log.get("method") == "POST")
        for name in ("request_id", "trace_id", "project_id", "actor"):
            assert submit[name], submit

    def test_a_request_is_one_line(self, lines: list[str]) -> None:
        requests = [(log["process"], log["request_id"]) for log in map(json.loads, lines) if log["event"] == "request"]
        assert len(requests) == len(set(requests)) > 10

    def test_no_key_and_no_signature_is_in_any(self, platform: RunningPlatform, lines: list[str]) -> None:
        text = "\n".join(lines)
        assert platform.admin_key not in text and "Bearer " not in text.replace("Bearer …", "")
        assert "X-Amz-Signature=" not in text.replace("X-Amz-Signature=…", "")


def read_lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()
