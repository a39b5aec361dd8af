"""An endpoint goes from one model version to the next while clients ask it without pause."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.onnx_models import linear
from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REGISTER = """
import sys, aidos
with aidos.run(experiment="updates") as run:
    for path in sys.argv[1:]:
        run.log_model(path, name="updated")
"""
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
PACE_S = 0.05  # three clients then stay below the key's limit


class Asking:
    """Clients of one endpoint: two over kept connections, one over a new connection for each request."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, {"Authorization": f"Bearer {key}"}
        self.answers: list[tuple[float, str]] = []  # when it was asked, and the model that answered or what went wrong
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(keeps,), daemon=True) for keeps in (True, True, False)]

    def asked_since(self, moment: float) -> list[str]:
        """The answers to what was asked after ``moment``."""
        return [answer for asked_at, answer in list(self.answers) if asked_at > moment]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _run(self, keeps: bool) -> None:
        with httpx.Client(headers=self.headers, timeout=60) as kept:
            while not self._stop.wait(PACE_S):
                asked_at = time.monotonic()
                self.answers.append((asked_at, self._ask(kept) if keeps else self._ask_anew()))

    def _ask_anew(self) -> str:
        with httpx.Client(headers=self.headers, timeout=60) as client:
            return self._ask(client)

    def _ask(self, client: httpx.Client) -> str:
        try:
            answer = client.post(self.url, json=BODY)
        except httpx.HTTPError as error:
            return repr(error)
        return answer.headers["x-aidos-model"] if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"


def ready(platform: RunningPlatform) -> bool:
    return bool(platform.ask("endpoint", "get", "updated", "--wait", "20s")["state"] == "READY")


@pytest.fixture
def endpoint(platform: RunningPlatform, tmp_path: Path) -> Iterator[str]:
    """The route of an endpoint that serves updated@1; updated@2 is registered."""
    files = [tmp_path / f"{classes}.onnx" for classes in (2, 3)]
    for classes, file in zip((2, 3), files, strict=True):
        file.write_bytes(linear(classes=classes))
    platform.python("-c", REGISTER, *map(str, files), check=True)
    route = platform.ask("endpoint", "create", "updated", "--model", "updated@1")["route"]
    wait_until(lambda: ready(platform), within_s=180)
    yield f"{platform.url}{route}/v2/models/updated/infer"
    platform.aidos("endpoint", "delete", "updated", check=True)


class TestUpdate:
    def test_every_prediction_is_answered_and_after_ready_only_by_the_new_version(self, platform: RunningPlatform, endpoint: str) -> None:
        clients = Asking(endpoint, platform.admin_key)
        with clients.running():
            wait_until(lambda: len(clients.answers) >= 30, within_s=60)
            platform.aidos("endpoint", "update", "updated", "--model", "updated@2", check=True)
            wait_until(lambda: ready(platform), within_s=180)
            ready_at = time.monotonic()
            wait_until(lambda: len(clients.asked_since(ready_at)) >= 100, within_s=60)
        assert {answer for _, answer in clients.answers} == {"updated@1", "updated@2"}
        assert set(clients.asked_since(ready_at)) == {"updated@2"}
