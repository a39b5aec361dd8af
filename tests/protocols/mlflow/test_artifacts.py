"""Artifacts by MLflow's own client: every way in and out, and no way out of the run."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import matplotlib as mpl
import matplotlib.figure
import mlflow
import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests import HTTPError

from aidos.client import Client
from aidos.schemas.modelhub import ArtifactAnnounce
from cluster.settings import Settings
from tests.support.server import serve

pytestmark = pytest.mark.postgres
mpl.use("Agg")


@pytest.fixture
def run_id(tracking: MlflowClient) -> str:
    return tracking.create_run(tracking.create_experiment("digits")).info.run_id


@pytest.fixture
def proxy(url: str, admin_key: str) -> httpx.Client:
    """The artifact API by hand."""
    return httpx.Client(base_url=f"{url}/api/2.0/mlflow-artifacts", headers={"Authorization": f"Bearer {admin_key}"}, timeout=60)


def listed(files: list[FileInfo]) -> list[tuple[str, bool, int | None]]:
    return [(file.path, file.is_dir, file.file_size) for file in files]


class TestFiles:
    def test_come_back_as_they_were_logged(self, tracking: MlflowClient, run_id: str, tmp_path: Path) -> None:
        source = tmp_path / "src"
        (source / "deep" / "er").mkdir(parents=True)
        (source / "empty").write_bytes(b"")
        (source / "ä b.txt").write_text("umlaut")
        (source / "deep" / "er" / "bytes.bin").write_bytes(os.urandom(3_000_000))
        tracking.log_artifacts(run_id, str(source))
        tracking.log_artifact(run_id, str(source / "empty"), "sub")
        back = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="", dst_path=str(tmp_path / "back")))
        for file in ("empty", "ä b.txt", "deep/er/bytes.bin"):
            assert (back / file).read_bytes() == (source / file).read_bytes(), file
        assert (back / "sub" / "empty").exists()
        one = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/deep/er/bytes.bin")
        assert Path(one).read_bytes() == (source / "deep/er/bytes.bin").read_bytes()

    def test_are_listed_a_folder_at_a_time(self, tracking: MlflowClient, run_id: str) -> None:
        for path in ("a.txt", "dir/b.txt", "dir/deep/c.txt", "dir2/d.txt"):
            tracking.log_text(run_id, "text", path)
        assert listed(tracking.list_artifacts(run_id)) == [("a.txt", False, 4), ("dir", True, None), ("dir2", True, None)]
        assert listed(tracking.list_artifacts(run_id, "dir")) == [("dir/b.txt", False, 4), ("dir/deep", True, None)]
        assert tracking.list_artifacts(run_id, "a.txt") == tracking.list_artifacts(run_id, "nowhere") == []

    def test_of_every_kind_are_logged(self, tracking: MlflowClient, run_id: str) -> None:
        mlflow.set_experiment("digits")
        figure = mpl.figure.Figure()
        figure.subplots().plot([1, 2])
        tracking.log_dict(run_id, {"a": [1, None]}, "d.json")
        tracking.log_dict(run_id, {"a": 1}, "d.yaml")
        tracking.log_figure(run_id, figure, "plots/f.png")
        tracking.log_image(run_id, np.zeros((4, 4, 3), dtype=np.uint8), "i.png")
        with mlflow.start_run(run_id=run_id):
            for row in range(2):
                mlflow.log_table({"row": [row]}, "table.json")
        assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d.json") == {"a": [1, None]}
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/d.yaml") == "a: 1\n"
        assert mlflow.artifacts.load_image(f"runs:/{run_id}/plots/f.png").size == (640, 480)
        assert list(mlflow.load_table("table.json", run_ids=[run_id])["row"]) == [0, 1], (
            "a file that is written again stands for the new bytes"
        )

    def test_are_the_native_ones(self, tracking: MlflowClient, client: Client, run_id: str) -> None:
        tracking.log_text(run_id, "from mlflow", "there.txt")
        (file,) = client.runs.downloads(run_id, paths=["there.txt"]).files
        assert client.get_presigned(file.url).content == b"from mlflow"
        assert file.sha256 == hashlib.sha256(b"from mlflow").hexdigest()
        data = b"from aidos"
        files = [ArtifactAnnounce(path="here/n.txt", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))]
        (target,) = client.runs.announce(run_id, files=files).files
        assert tracking.list_artifacts(run_id, "here") == [], "announced is not stored"
        client.put_presigned(str(target.upload_url), data)
        client.runs.complete(run_id, paths=["here/n.txt"])
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/here/n.txt") == "from aidos"

    def test_are_deleted_alone_or_with_their_folder(self, tracking: MlflowClient, run_id: str) -> None:
        for path in ("a.txt", "dir/b.txt", "dir/c.txt", "directory.txt"):
            tracking.log_text(run_id, "text", path)
        stored = get_artifact_repository(tracking.get_run(run_id).info.artifact_uri)
        stored.delete_artifacts("dir")
        assert [file.path for file in tracking.list_artifacts(run_id)] == ["a.txt", "directory.txt"]
        stored.delete_artifacts("a.txt")
        assert [file.path for file in tracking.list_artifacts(run_id)] == ["directory.txt"]
        with pytest.raises(HTTPError):
            stored.delete_artifacts()
        assert [file.path for file in tracking.list_artifacts(run_id)] == ["directory.txt"], "all is deleted with the run alone"

    def test_that_are_not_there_are_not_found(self, tracking: MlflowClient, run_id: str, proxy: httpx.Client) -> None:
        for method, path in (("GET", "artifacts"), ("GET", "presigned"), ("DELETE", "artifacts")):
            answer = proxy.request(method, f"/{path}/runs/{run_id}/artifacts/nowhere")
            assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")

    def test_come_from_the_store_for_clients_that_take_no_presigned_urls(
        self, tracking: MlflowClient, run_id: str, proxy: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """They are sent on to it, and leave their credentials behind. The file is larger than any other body may be."""
        data = os.urandom(5_000_000)
        path = f"/artifacts/runs/{run_id}/artifacts/large%22ä.html"
        assert proxy.put(path, content=iter([data[:1_000_000], data[1_000_000:]])).status_code == 200
        monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
        back = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path='large"ä.html', dst_path=str(tmp_path))
        assert Path(back).read_bytes() == data
        answer = requests.get(f"{proxy.base_url}{path[1:]}", headers=dict(proxy.headers), timeout=60)
        (sent_on,) = answer.history
        assert (sent_on.status_code, sent_on.content) == (307, b"") and answer.content == data
        assert "Authorization" in sent_on.request.headers and "Authorization" not in answer.request.headers
        disposition = answer.headers["content-disposition"]
        assert disposition == "attachment; filename*=UTF-8''large%22%C3%A4.html", "a page that somebody logged is not shown"

    def test_that_stop_coming_are_refused_and_nothing_is_stored(
        self, tracking: MlflowClient, run_id: str, settings: Settings, admin_key: str
    ) -> None:
        with serve(settings.model_copy(update={"request_timeout_s": 0.3})) as address:
            server = urlsplit(address)
            with socket.create_connection((server.hostname, server.port or 80)) as stalled:
                head = f"PUT /api/2.0/mlflow-artifacts/artifacts/runs/{run_id}/artifacts/f HTTP/1.1\r\nHost: aidos\r\nContent-Length: 9\r\n"
                stalled.sendall(f"{head}Authorization: Bearer {admin_key}\r\n\r\nthree".encode())
                stalled.settimeout(30)
                answer = stalled.makefile("rb").read().decode()
        assert answer.startswith("HTTP/1.1 408") and "DEADLINE_EXCEEDED" in answer
        assert tracking.list_artifacts(run_id) == []

    def test_of_a_deleted_run_are_not_written(self, tracking: MlflowClient, run_id: str, proxy: httpx.Client) -> None:
        tracking.delete_run(run_id)
        assert proxy.put(f"/artifacts/runs/{run_id}/artifacts/a.txt", content=b"x").status_code == 400


class TestPaths:
    @pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE"])
    def test_that_climb_out_are_refused(self, run_id: str, proxy: httpx.Client, verb: str) -> None:
        paths = (
            "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "..%2fx", "a%2f..%2f..%2fx", "%5c..%5cx", "a//b", "./%2e/x", "a%00b", "x" * 501, "%0a",
        )  # fmt: skip
        for path in paths:
            answer = proxy.request(verb, httpx.URL(f"{proxy.base_url}artifacts/runs/{run_id}/artifacts/{path}"))
            assert answer.status_code in (400, 404), (path, answer.status_code)
        for path in (f"runs/{run_id}", f"runs/{run_id}/x/y", f"things/{run_id}/artifacts/x", "runs/1/artifacts/x", "etc/passwd"):
            assert proxy.request(verb, f"/artifacts/{path}").status_code in (400, 404)
        assert proxy.get("/artifacts", params={"path": f"runs/{run_id}/artifacts"}).json() == {"files": []}


class TestParts:
    @pytest.fixture
    def parts(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """Files of 6 MB go in parts of 5 MiB; the object store takes no smaller ones."""
        monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "6000000")
        monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(5 * 2**20))
        monkeypatch.setenv("MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE", str(5 * 2**20))
        return 5 * 2**20

    def test_of_a_large_file_go_straight_to_the_store(
        self, tracking: MlflowClient, client: Client, run_id: str, parts: int, tmp_path: Path
    ) -> None:
        source = tmp_path / "large.bin"
        source.write_bytes(os.urandom(2 * parts + 1000))
        tracking.log_artifact(run_id, str(source), "deep/folder")
        assert listed(tracking.list_artifacts(run_id, "deep/folder")) == [("deep/folder/large.bin", False, 2 * parts + 1000)]
        back = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/deep/folder/large.bin", dst_path=str(tmp_path / "back"))
        assert Path(back).read_bytes() == source.read_bytes()
        assert "mlflow_complete_upload" in {entry.action for entry in client.audit.list()}

    def test_show_nothing_before_they_are_complete(self, proxy: httpx.Client, tracking: MlflowClient, run_id: str) -> None:
        folder, name = f"runs/{run_id}/artifacts/sub", "f.bin"
        made = proxy.post(f"/mpu/create/{folder}", json={"path": f"/local/{name}", "num_parts": 2}).json()
        assert [part["part_number"] for part in made["credentials"]] == [1, 2]
        named = {"path": f"/local/{name}", "upload_id": made["upload_id"], "parts": []}
        data = [os.urandom(5 * 2**20), b"end"]
        assert httpx.put(made["credentials"][0]["url"], content=data[0]).is_success
        early = proxy.post(f"/mpu/complete/{folder}", json=named)
        assert (early.status_code, early.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert tracking.list_artifacts(run_id) == []
        assert httpx.put(made["credentials"][1]["url"], content=data[1]).is_success
        assert proxy.post(f"/mpu/complete/{folder}", json=named).status_code == 200
        assert proxy.get(f"/artifacts/{folder}/{name}", follow_redirects=True).content == b"".join(data)
        assert proxy.post(f"/mpu/complete/{folder}", json=named).status_code == 404, "an upload is completed once"

    def test_are_dropped_with_their_upload(self, proxy: httpx.Client, run_id: str) -> None:
        folder = f"runs/{run_id}/artifacts"
        made: dict[str, Any] = proxy.post(f"/mpu/create/{folder}", json={"path": "f.bin", "num_parts": 1}).json()
        named = {"path": "f.bin", "upload_id": made["upload_id"]}
        assert proxy.post(f"/mpu/abort/{folder}", json=named).status_code == 200
        assert not httpx.put(made["credentials"][0]["url"], content=b"x").is_success
        assert proxy.post(f"/mpu/complete/{folder}", json=named).status_code == 404

    def test_of_another_path_are_not_taken(self, proxy: httpx.Client, run_id: str) -> None:
        folder = f"runs/{run_id}/artifacts"
        made = proxy.post(f"/mpu/create/{folder}", json={"path": "f.bin", "num_parts": 1}).json()
        other = {"path": "other.bin", "upload_id": made["upload_id"]}
        assert proxy.post(f"/mpu/complete/{folder}", json=other).status_code == 404
        for count in (0, 10_001, -1):
            assert proxy.post(f"/mpu/create/{folder}", json={"path": "f.bin", "num_parts": count}).status_code == 400
