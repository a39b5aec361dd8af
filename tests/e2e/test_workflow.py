"""From an empty home to a served model, and again while everything that can die dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.running import ROOT, RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DIGITS = ROOT / "examples" / "digits"


def kinds(graph: dict[str, Any]) -> set[str]:
    return {node["kind"] for edge in graph["edges"] for node in (edge["source"], edge["target"])}


class TestDemo:
    def test_ends_with_a_summary_that_keeps_its_promise(self, demo: str) -> None:
        summary = demo[demo.index("AI-DOS demo") :]
        for step in ("platform", "dataset", "training", "model", "endpoint", "prediction", "lineage and cost", "total"):
            assert step in summary

    def test_lineage_reaches_from_a_file_to_the_endpoint(self, platform: RunningPlatform, demo: str) -> None:
        assert {"file", "commit", "run", "model_version", "endpoint"} <= kinds(platform.ask("lineage", "endpoint:digits"))
        digest = platform.ask("dataset", "files", "digits", "--limit", "1")[0]["sha256"]
        assert "endpoint" in kinds(platform.ask("lineage", f"file:{digest}"))

    def test_what_was_leased_has_a_cost(self, platform: RunningPlatform, demo: str) -> None:
        costs = platform.ask("cost")
        assert costs["micro_usd"] > 0

    def test_predictions_need_a_key_that_may_predict(self, platform: RunningPlatform, demo: str) -> None:
        url = f"{platform.url}/serve/default/digits/v2/models/digits"
        viewer = platform.ask("key", "create", "only-looks", "--role", "viewer")["key"]
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {viewer}"}).status_code == 403
        assert httpx.get(url, headers={"Authorization": f"Bearer {platform.admin_key}"}).json()["inputs"][0]["name"] == "images"

    def test_a_second_push_of_the_same_files_changes_nothing(self, platform: RunningPlatform, demo: str) -> None:
        before = platform.ask("dataset", "log", "digits")
        platform.aidos("dataset", "push", str(platform.home / "demo" / "digits"), "--name", "digits", check=True)
        assert platform.ask("dataset", "log", "digits") == before


class TestOperatorsRayJobs:
    def test_what_ray_job_submit_starts_is_listed_with_its_log(self, platform: RunningPlatform, tmp_path: Path) -> None:
        submitted = ray_job_submit(platform, tmp_path, token=platform.home / "secrets" / "aidos_ray_token")
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr

        def listed() -> Any:
            return [job for job in platform.ask("job", "list") if job["origin"] == "ray" and job["state"] == "SUCCEEDED"]

        job = wait_until(listed, within_s=60, every_s=0.5)[0]
        assert "said by an operator" in platform.aidos("job", "logs", job["id"], check=True).out

    def test_without_the_token_it_is_refused(self, platform: RunningPlatform, tmp_path: Path) -> None:
        wrong = tmp_path / "token"
        wrong.write_text("0" * 64)
        refused = ray_job_submit(platform, tmp_path, token=wrong)
        assert refused.returncode != 0
        assert "said by an operator" not in refused.stdout


def ray_job_submit(platform: RunningPlatform, folder: Path, token: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "say.py"
    script.write_text("print('said by an operator')\n")
    environment = {**platform.environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    address = f"http://127.0.0.1:{platform.environment['AIDOS_RAY_DASHBOARD_PORT']}"
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", address, "--", sys.executable, str(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


VICTIMS: dict[str, Callable[[RunningPlatform], int]] = {
    "gateway replica": lambda platform: platform.kill("ray::ServeReplica:gateway"),
    "PostgreSQL": lambda platform: platform.kill_program("postgres"),
    "SeaweedFS": lambda platform: platform.kill_program("s3"),
    "training worker": lambda platform: platform.kill("ray::RayTrainWorker"),
}
ACTORS = ("trainos", "dataforge", "modelhub", "deployengine", "costoptimizer", "securityvault")


class TestKillNine:
    def test_training_ends_right_whatever_dies_in_the_middle(self, platform: RunningPlatform, demo: str) -> None:
        """Each of these dies once while the job trains; the job still ends with the accuracy of an undisturbed one."""
        job = platform.ask(
            "job", "submit", "--name", "battered", "--dataset", "digits@main", "--workers", "2", "--", "python", "train.py", cwd=DIGITS
        )
        log = Follower(platform, job["id"])
        for number, (victim, kill) in enumerate(VICTIMS.items(), start=1):
            log.wait_for(f"epoch {number}:")
            assert kill(platform), f"there is no {victim} to kill"
        for name in ACTORS:
            assert kill_actor(platform, name), f"there is no actor {name} to kill"
        ended = wait_until(lambda: state_if_ended(platform, job["id"]), within_s=300, every_s=1)
        assert ended["state"] == "SUCCEEDED", ended
        version = platform.ask("model", "version", "digits", "latest")
        metrics = platform.ask("run", "show", job["run_id"])["run"]["metrics"]
        assert version["run_id"] == job["run_id"]
        assert metrics["accuracy"]["value"] >= 0.97
        log.close()


def kill_actor(platform: RunningPlatform, name: str) -> bool:
    hosts = json.loads((platform.home / "run" / "platform.json").read_text())["hosts"]
    try:
        os.kill(hosts[name]["pid"], signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def state_if_ended(platform: RunningPlatform, job: str) -> dict[str, Any] | None:
    ran = platform.aidos("job", "get", job, "--wait", "20s", "--json")
    return ran.json if ran.code == 0 and ran.json["state"] in {"SUCCEEDED", "FAILED", "CANCELLED"} else None


class Follower:
    """`aidos job logs -f` in the background; what it has printed so far."""

    def __init__(self, platform: RunningPlatform, job: str) -> None:
        command = [str(Path(sys.executable).parent / "aidos"), "job", "logs", job, "-f"]
        environment = {**platform.environment, "AIDOS_API_KEY": platform.admin_key}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: any(text in line for line in self.lines) or None, within_s=180, every_s=0.2)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
