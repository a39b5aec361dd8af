"""ModelHub and CostOptimizer over HTTP with the real client: what travels, what is refused, what is repeated."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from actors.modelhub.errors import ArtifactNotFound, ParamChanged, RunEnded, RunNotFound, UploadIncomplete, VersionNotReady
from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.schemas.modelhub import ArtifactAnnounce, PointLog
from cluster.settings import Settings
from data_pipelines.dataforge.errors import DatasetNotFound
from tests.modelhub.inspecting import inspecting
from tests.support.onnx_models import linear

pytestmark = pytest.mark.postgres
BAD_POINTS: list[object] = [
    {"points": []},
    {"points": [{"key": "", "value": 1}]},
    {"points": [{"key": "k" * 251, "value": 1}]},
    {"points": [{"key": "a\u0000", "value": 1}]},
    {"points": [{"key": "a", "value": "many"}]},
    {"points": [{"key": "a", "value": None}]},
    {"points": [{"key": "a", "value": 1, "step": 2**63}]},
    {"points": [{"key": "a", "value": 1, "step": 1.5}]},
    {"points": [{"key": "a", "value": 1, "at": "0001-01-01T00:00:00+14:00"}]},
    {"points": [{"key": "a", "value": 1, "at": "9999-12-31T23:59:59-14:00"}]},
    {"points": [{"key": "a", "value": 1, "at": "2026-01-01T00:00:00"}]},
    {"points": [{"key": "a", "value": 1}], "more": 1},
]


@pytest.fixture
def raw(client: Client) -> Callable[..., httpx.Response]:
    """A request that the client would never send."""

    def ask(method: str, path: str, **options: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {client.config.api_key}"}
        return httpx.request(method, f"{client.config.url}/v1/modelhub{path}", headers=headers, timeout=30, **options)  # type: ignore[arg-type]  # as httpx takes it

    return ask


class TestRuns:
    def test_what_is_not_finite_survives_json(self, client: Client) -> None:
        run = client.runs.create(experiment="digits", params={"lr": "0.1"})
        values = [1.5, math.nan, math.inf, -math.inf]
        client.runs.log_metrics(
            str(run.id), points=[PointLog(key="train/loss", value=value, step=step) for step, value in enumerate(values)]
        )
        history = [point.value for point in client.runs.history(str(run.id), key="train/loss")]
        assert [repr(value) for value in history] == [repr(value) for value in values]
        assert client.runs.get(str(run.id)).metrics["train/loss"].value == -math.inf

    def test_nan_is_a_string_on_the_wire(self, client: Client, raw: Callable[..., httpx.Response]) -> None:
        run = client.runs.create()
        sent = raw("POST", f"/runs/{run.id}/metrics", json={"points": [{"key": "a", "value": "NaN"}, {"key": "b", "value": "-Infinity"}]})
        assert sent.status_code == 204
        metrics = raw("GET", f"/runs/{run.id}").json()["metrics"]
        assert (metrics["a"]["value"], metrics["b"]["value"]) == ("NaN", "-Infinity")

    def test_a_repeated_request_makes_one_run(self, client: Client, raw: Callable[..., httpx.Response]) -> None:
        once = client.runs.with_options(idempotency_key="the same")
        assert once.create(experiment="digits").id == once.create(experiment="digits").id
        assert len(list(client.runs.list(experiment="digits"))) == 1

    def test_history_pages_and_plots(self, client: Client) -> None:
        run = client.runs.create()
        points = [PointLog(key="loss", value=1e9 if step == 777 else float(step % 5), step=step) for step in range(1200)]
        client.runs.log_metrics(str(run.id), points=points)
        assert [point.step for point in client.runs.history(str(run.id), key="loss")] == list(range(1200))
        plotted = list(client.runs.history(str(run.id), key="loss", points=50))
        assert len(plotted) <= 50 and 1e9 in {point.value for point in plotted}

    def test_errors_come_back_as_what_they_are(self, client: Client) -> None:
        run = client.runs.create(params={"lr": "1"})
        with pytest.raises(ParamChanged):
            client.runs.log_params(str(run.id), params={"lr": "2"})
        client.runs.update(str(run.id), state="FINISHED")
        with pytest.raises(RunEnded):
            client.runs.log_metrics(str(run.id), points=[PointLog(key="a", value=1)])
        with pytest.raises(RunNotFound):
            client.runs.get(str(uuid4()))

    def test_a_bad_point_is_refused(self, client: Client, raw: Callable[..., httpx.Response]) -> None:
        run = client.runs.create()
        for body in BAD_POINTS:
            assert raw("POST", f"/runs/{run.id}/metrics", json=body).status_code == 422, body
        assert client.runs.get(str(run.id)).metrics == {}

    def test_a_foreign_cursor_is_refused(self, client: Client, raw: Callable[..., httpx.Response]) -> None:
        run = client.runs.create()
        for cursor in ["x", "WzFd", "bnVsbA", "WzEsICJ4IiwgMV0", "WyJcdTAwMDAiXQ", "WyJcdWQ4MDAiXQ"]:
            for path in ("/runs?", "/experiments?", f"/runs/{run.id}/metrics?key=a&"):
                answer = raw("GET", f"{path}cursor={cursor}")
                assert answer.status_code == 400, (path, cursor, answer.text)
        for cursor in ["WyJcdTAwMDAiXQ", "WyJcdWQ4MDAiXQ"]:
            assert raw("GET", f"/runs/{run.id}/artifacts?cursor={cursor}").status_code == 400

    def test_a_path_that_climbs_out_is_refused(self, client: Client, raw: Callable[..., httpx.Response]) -> None:
        run = client.runs.create()
        for path in ["/abs", "../up", "a/../b", "a//b", "a/./b", "a\\b", "", "x" * 501, "a\u0000b"]:
            body = {"files": [{"path": path, "sha256": "0" * 64, "size_bytes": 1}]}
            assert raw("POST", f"/runs/{run.id}/artifacts/uploads", json=body).status_code == 422, path


class TestModels:
    def announce(self, client: Client, run_id: str, path: str, data: bytes) -> str:
        files = [ArtifactAnnounce(path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))]
        (target,) = client.runs.announce(run_id, files=files).files
        assert target.upload_url is not None
        return target.upload_url

    def test_go_from_a_file_to_an_alias(self, client: Client, settings: Settings) -> None:
        run_id, data = str(client.runs.create(experiment="digits").id), linear()
        url = self.announce(client, run_id, "m/model.onnx", data)
        with pytest.raises(UploadIncomplete):
            client.runs.complete(run_id, paths=["m/model.onnx"])
        with pytest.raises(ArtifactNotFound):
            client.models.register("digits", run_id=run_id, flavour="onnx", artifacts=["m/model.onnx"])
        client.put_presigned(url, data)
        client.runs.complete(run_id, paths=["m/model.onnx"])
        assert "complete_artifacts" in {entry.action for entry in client.audit.list()}
        assert client.get_presigned(client.runs.downloads(run_id, paths=["m/model.onnx"]).files[0].url).content == data
        made = client.models.register("digits", run_id=run_id, flavour="onnx", artifacts=["m/model.onnx"])
        with pytest.raises(VersionNotReady):
            client.models.set_alias("digits", "champion", version="1")
        with inspecting(settings):
            ready = client.models.version("digits", "1", wait="30s")
        assert (made.state, ready.state, ready.reason) == ("PENDING", "READY", "")
        client.models.set_alias("digits", "champion", version="1")
        assert client.models.get("digits").aliases == {"champion": 1}
        (file,) = client.models.downloads("digits", "champion").files
        assert client.get_presigned(file.url).content == data and file.path == "model.onnx"

    def test_the_upload_url_no_longer_reaches_what_was_inspected(self, client: Client, settings: Settings) -> None:
        run_id, data = str(client.runs.create().id), linear()
        url = self.announce(client, run_id, "model.onnx", data)
        client.put_presigned(url, data)
        client.runs.complete(run_id, paths=["model.onnx"])
        client.models.register("digits", run_id=run_id, flavour="onnx", artifacts=["model.onnx"])
        with inspecting(settings):
            assert client.models.version("digits", "1", wait="30s").state == "READY"
        client.put_presigned(url, b"\x80\x05evil" + bytes(len(data) - 6))
        assert client.get_presigned(client.models.downloads("digits", "1").files[0].url).content == data

    def test_lineage_goes_from_run_to_version(self, client: Client) -> None:
        run, data = client.runs.create(name="first"), linear()
        client.put_presigned(self.announce(client, str(run.id), "model.onnx", data), data)
        client.runs.complete(str(run.id), paths=["model.onnx"])
        version = client.models.register("digits", run_id=run.id, flavour="onnx", artifacts=["model.onnx"])
        for kind, name in (("model_version", "digits@1"), ("run", str(run.id)), ("model_version", str(version.id))):
            (edge,) = client.lineage.get(kind, name).edges
            assert (edge.source.label, edge.target.label, edge.relation) == ("first", "digits@1", "produced")

    def test_a_run_needs_inputs_that_are_there(self, client: Client) -> None:
        for reference in ["digits", "a@b@c", "@main"]:
            with pytest.raises(InvalidPayload):
                client.runs.create(inputs=[reference])
        with pytest.raises(DatasetNotFound):
            client.runs.create(inputs=["no@thing"])
        assert not list(client.runs.list())


class TestCosts:
    def test_prices_are_kept_and_costs_are_zero_at_first(self, client: Client) -> None:
        assert client.costs.get().micro_usd == 0
        price = client.prices.set("gpu:h100", micro_usd=3_000_000, source="contract")
        assert price.unit == "GPU hour"
        book = [entry.micro_usd for entry in client.prices.list().prices if entry.resource == "gpu:h100"]
        assert book == [3_000_000, 4_000_000]
        assert client.costs.owner("job", str(uuid4())).leases == []
