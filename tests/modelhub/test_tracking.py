"""``aidos.run()``: nothing that was logged is lost, whatever happens to the platform or to the program."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

import aidos
from actors.modelhub.errors import RunEnded
from aidos.client import Client
from aidos.errors import Conflict, InvalidPayload, InvalidRequest, Unavailable
from aidos.schemas.modelhub import FileDownload, PointLog
from aidos.tracking.point_buffer import BATCH_POINTS, PointBuffer
from aidos.tracking.run import ModelRejected
from aidos.transfers.artifacts import DownloadDamaged, write_files
from cluster.settings import Settings
from tests.modelhub.inspecting import inspecting
from tests.support.onnx_models import linear
from tests.support.platform import find_free_ports
from tests.support.server import serve

ENVIRONMENT = ("diff.patch", "environment.json")
COMMAND = [sys.executable, "-c", "from aidos.cli import main; main()"]


def points(count: int) -> list[PointLog]:
    return [PointLog(key="loss", value=float(step), step=step) for step in range(count)]


class Counter:
    """A platform that fails as often as it is told to."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.failures, self.error = failures, error or Unavailable(reason="Gone.", retry_after_s=1)
        self.steps: list[int] = []
        self.batches: list[int] = []

    def send(self, batch: Sequence[PointLog]) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.batches.append(len(batch))
        self.steps += [point.step for point in batch]


@pytest.mark.plain
class TestPointBuffer:
    def test_sends_all_in_order_and_in_batches(self) -> None:
        platform = Counter()
        buffer = PointBuffer(platform.send)
        for point in points(2 * BATCH_POINTS + 10):
            buffer.add([point])
        buffer.close()
        assert platform.steps == list(range(2 * BATCH_POINTS + 10)) and max(platform.batches) <= BATCH_POINTS

    def test_takes_nothing_after_its_end(self) -> None:
        buffer = PointBuffer(Counter().send)
        buffer.close()
        with pytest.raises(Conflict, match="has ended"):
            buffer.add(points(1))

    def test_keeps_what_could_not_be_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aidos.tracking.point_buffer._RETRY_S", 0.01)
        platform = Counter(failures=1)
        buffer = PointBuffer(platform.send)
        buffer.add(points(5))
        with pytest.raises(Unavailable):
            buffer.flush()
        buffer.flush()
        assert platform.steps == [0, 1, 2, 3, 4]

    def test_a_refusal_is_raised_once_and_stops_nothing_else(self) -> None:
        platform = Counter(failures=1, error=RunEnded(run_id="r", state="FINISHED"))
        buffer = PointBuffer(platform.send)
        buffer.add(points(1))
        with pytest.raises(RunEnded):
            buffer.flush()
        buffer.add(points(2))
        buffer.close()
        assert platform.steps == [0, 1]

    def test_many_threads_may_log(self) -> None:
        platform = Counter()
        buffer = PointBuffer(platform.send)

        def log(first: int) -> None:
            for step in range(first, first + 500):
                buffer.add([PointLog(key="a", value=0, step=step)])

        threads = [threading.Thread(target=log, args=(500 * number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        buffer.close()
        assert sorted(platform.steps) == list(range(3000))


@pytest.mark.postgres
class TestRun:
    def test_ends_only_as_a_run_can(self, client: Client) -> None:
        run = aidos.run("digits")
        with pytest.raises(InvalidRequest, match="FINISHED, FAILED, KILLED"):
            run.end("DONE")
        run.end("KILLED")
        assert client.runs.get(str(run.id)).state == "KILLED"

    def test_logs_and_ends(self, client: Client) -> None:
        with aidos.run("digits", params={"lr": 0.1, "layers": [3, 3]}, tags={"who": "ada"}) as run:
            for value in (3.0, math.nan, 1.0):
                run.log_metric("loss", value)
            run.log_metrics({"acc": 0.9}, step=7)
        read = client.runs.get(str(run.id))
        assert (read.state, read.experiment, read.params) == ("FINISHED", "digits", {"lr": "0.1", "layers": "[3, 3]"})
        assert (read.metrics["loss"].step, read.metrics["loss"].value, read.metrics["acc"].step) == (2, 1.0, 7)
        assert read.tags["who"] == "ada" and read.tags["aidos.python"].startswith("3.") and len(read.tags["aidos.git_commit"]) == 40
        assert "pydantic==" in read.tags["aidos.packages"]

    def test_an_error_fails_it(self, client: Client) -> None:
        with pytest.raises(ZeroDivisionError), aidos.run() as run:
            run.log_metric("loss", 1)
            _ = 1 / 0
        assert client.runs.get(str(run.id)).state == "FAILED"
        assert len(list(client.runs.history(str(run.id), key="loss"))) == 1
        with aidos.run(resume=run.id) as again:
            again.log_metric("loss", 2, step=1)
        assert client.runs.get(str(run.id)).state == "FINISHED" and again.id == run.id

    def test_the_end_of_the_program_stores_what_is_left(self, client: Client) -> None:
        program = "import aidos\nrun = aidos.run('forgetful')\nfor i in range(5000): run.log_metric('loss', i)\nprint(run.id)\n"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        read = client.runs.get(done.stdout.strip())
        assert (read.state, read.metrics["loss"].step) == ("FINISHED", 4999)
        assert sum(1 for _ in client.runs.history(str(read.id), key="loss")) == 5000

    def test_loads_neither_torch_nor_ray(self) -> None:
        program = "import aidos, sys; aidos.run; print([m for m in ('torch', 'ray', 'numpy', 'psycopg') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "[]"

    def test_in_a_job_it_is_the_jobs_run_and_left_open(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = client.runs.create(experiment="jobs", name="of the job")
        monkeypatch.setenv("AIDOS_JOB_ID", "0190a0a0-0000-7000-8000-000000000000")
        monkeypatch.setenv("AIDOS_RUN_ID", str(mine.id))
        with aidos.run("ignored", params={"lr": 1}) as run:
            run.log_metric("loss", 1)
        read = client.runs.get(str(mine.id))
        assert (run.name, read.state, read.params, read.metrics["loss"].value) == ("of the job", "RUNNING", {"lr": "1"}, 1.0)

    def test_what_is_no_metric_is_refused_at_once(self, client: Client) -> None:
        with aidos.run() as run:
            for key, value in (("", 1.0), ("a", "x"), ("a", None), ("k" * 251, 1.0)):
                with pytest.raises(InvalidPayload):
                    run.log_metric(key, value)  # type: ignore[arg-type]  # the mistake under test

    def test_artifacts_are_files_and_folders(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "out" / "deep").mkdir(parents=True)
        (tmp_path / "out" / "a.txt").write_text("a")
        (tmp_path / "out" / "deep" / "b.txt").write_text("b" * 100)
        with aidos.run() as run:
            run.log_artifact(tmp_path / "out")
            run.log_artifact(tmp_path / "out" / "a.txt", "renamed.txt")
            run.log_artifact(tmp_path / "out" / "a.txt", "renamed.txt")
        listed = {artifact.path: artifact.size_bytes for artifact in client.runs.artifacts(str(run.id))}
        assert {path: size for path, size in listed.items() if path not in ENVIRONMENT} == {
            "out/a.txt": 1,
            "out/deep/b.txt": 100,
            "renamed.txt": 1,
        }


@pytest.mark.postgres
class TestRestarts:
    async def test_a_gateway_that_goes_and_comes_back_loses_nothing(
        self, settings: Settings, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        port = find_free_ports(1)
        monkeypatch.setenv("AIDOS_CONFIG_DIR", str(tmp_path))
        with Client(f"http://127.0.0.1:{port}", admin_key) as client:
            with serve(settings, port):
                run = aidos.run("restarts", client=client)
                run.log_metrics({"loss": 0.0}, step=0)
                run.flush()
            for step in range(1, 3000):  # nobody listens now
                run.log_metrics({"loss": float(step)}, step=step)
            with serve(settings, port):
                run.end()
                read = client.runs.get(str(run.id))
                steps = [point.step for point in client.runs.history(str(run.id), key="loss")]
        assert (read.state, steps) == ("FINISHED", list(range(3000)))


@pytest.mark.postgres
class TestModel:
    def test_is_registered_inspected_and_named(self, client: Client, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(linear())
        with inspecting(settings), aidos.run("digits") as run:
            first = run.log_model(tmp_path / "model.onnx", name="digits", alias="champion")
            (tmp_path / "model.onnx").write_bytes(linear(5, 2))
            second = run.log_model(tmp_path / "model.onnx", name="digits")
        assert (first.version, first.aliases, second.version, second.state) == (1, ["champion"], 2, "READY")
        assert second.signature is not None and second.signature["outputs"][0]["shape"] == ["batch", 2]
        assert [file.path for file in second.files] == ["model.onnx"]

    def test_a_pickle_is_rejected_with_the_reason(self, client: Client, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(pickle.dumps({"weights": [1.0]}))
        (tmp_path / "model.pkl").write_bytes(pickle.dumps({"weights": [1.0]}))
        with inspecting(settings), aidos.run("digits") as run:
            with pytest.raises(ModelRejected, match="a Python pickle, which can run code"):
                run.log_model(tmp_path / "model.onnx", name="digits")
            with pytest.raises(InvalidRequest, match="model.pkl"):
                run.log_model(tmp_path / "model.pkl", name="digits")

    def test_is_pushed_and_pulled_from_the_command(self, client: Client, settings: Settings, tmp_path: Path) -> None:
        def aidos_command(*words: str) -> str:
            done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        (tmp_path / "model.onnx").write_bytes(linear())
        with inspecting(settings):
            pushed = json.loads(aidos_command("model", "push", str(tmp_path / "model.onnx"), "--name", "digits", "--json"))
        assert (pushed["version"], pushed["state"]) == (1, "READY")
        aidos_command("model", "wait", "digits@1")
        aidos_command("model", "pull", "digits@1", str(tmp_path / "pulled"))
        assert (tmp_path / "pulled" / "model.onnx").read_bytes() == linear()
        assert "produced" in aidos_command("lineage", "digits@1")
        shown = aidos_command("run", "show", pushed["run_id"])
        assert "FINISHED" in shown and "model.onnx" in shown
        assert json.loads(aidos_command("cost", "--json"))["micro_usd"] == 0
        assert "$0.0000" in aidos_command("cost")


@pytest.mark.postgres
def test_a_damaged_download_is_not_written(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with aidos.run() as run:
        run.log_artifact(tmp_path / "a")
    (file,) = client.runs.downloads(str(run.id), paths=["a"]).files
    with pytest.raises(DownloadDamaged):
        write_files(client, [FileDownload(path="b", sha256="0" * 64, size_bytes=1, url=file.url)], tmp_path)
    with pytest.raises(InvalidRequest):
        write_files(client, [FileDownload(path="../b", sha256=file.sha256, size_bytes=1, url=file.url)], tmp_path)
    assert not (tmp_path / "b").exists()
