"""An untrusted job on a whole platform: it reads its data, logs, saves a checkpoint, and sees nothing else."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TRAIN = """
import os, pathlib
import aidos

folder = aidos.dataset("greetings@main").to_local()
print("READS", (pathlib.Path(folder) / "a.txt").read_text())
with aidos.run(params={"rate": 0.5}) as run:
    run.log_metrics({"loss": 0.25}, step=1)
state = pathlib.Path("state")
state.mkdir()
(state / "weights").write_bytes(b"w" * 3_000_000)
aidos.save_checkpoint(state, step=7)
print("LOADS", aidos.load_checkpoint("again"), (pathlib.Path("again") / "weights").stat().st_size)
for what, ask in {
    "FOREIGN": lambda: aidos.Client(project="elsewhere").datasets.show("secrets", "main"),
    "JOB": lambda: aidos.Client().jobs.create(name="outside", command=["id"]),
    "AGAIN": lambda: aidos.Client().jobs.resume(os.environ["AIDOS_JOB_ID"]),
    "USERS": lambda: list(aidos.Client().members.list()),
}.items():
    try:
        print(what, ask())
    except aidos.AidosError as error:
        print(what, "refused", error.status)
print("TOKEN", pathlib.Path(os.environ["AIDOS_TOKEN_FILE"]).exists(), "AIDOS_HOME" in os.environ)
print("RAY", any(name.startswith("RAY_") for name in os.environ))
"""


def token_of(job_id: str) -> str | None:
    """What the platform's process of that job, which runs on this machine, was given for it."""
    for path in Path(tempfile.gettempdir()).glob("aidos-job-*/token"):
        try:
            token = path.read_text()
            payload = token.split(".")[1]
            if job_id in str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))):
                return token
        except OSError:
            continue
    return None


class TestUntrustedJob:
    def test_computes_with_the_platform_and_reaches_nothing_else(self, platform: RunningPlatform, tmp_path: Path) -> None:
        data, code = tmp_path / "data", tmp_path / "code"
        for folder in (data, code):
            folder.mkdir()
        (data / "a.txt").write_text("hello")
        (code / "train.py").write_text(TRAIN)
        # Python runs such a file wherever it finds it: Ray must not have unpacked it where its own workers look.
        (code / "sitecustomize.py").write_text("import os\nif 'RAY_JOB_ID' in os.environ or 'AIDOS_HOME' in os.environ: os._exit(99)\n")
        platform.aidos("dataset", "push", str(data), "--name", "greetings", check=True)
        platform.aidos("project", "create", "elsewhere", check=True)
        submitted = ("--name", "stranger", "--dataset", "greetings@main", "--sandbox", "--directory", str(code), "--", "python", "train.py")
        job = platform.ask("job", "submit", *submitted)
        token = wait_until(lambda: token_of(job["id"]), within_s=120)
        ended = platform.ask("job", "wait", job["id"], timeout_s=300)
        printed = platform.aidos("job", "logs", job["id"], check=True).out
        assert ended["state"] == "SUCCEEDED" and ended["spec"]["trust"] == "untrusted" and ended["resources"]["memory_gib"] == 2
        assert printed.endswith(
            "READS hello\nLOADS 7 3000000\nFOREIGN refused 404\nJOB refused 403\nAGAIN refused 403\nUSERS refused 403\nTOKEN False False\nRAY False\n"
        ), printed
        assert platform.ask("run", "get", ended["run_id"])["metrics"]["loss"]["value"] == 0.25
        answer = httpx.get(f"{platform.url}/v1/trainos/jobs", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401

    def test_more_than_one_process_tree_is_refused_in_words(self, platform: RunningPlatform) -> None:
        refused = platform.aidos(
            "job",
            "submit",
            "--name",
            "wide",
            "--workers",
            "4",
            "--sandbox",
            "--git",
            "https://example.com/x",
            "--commit",
            "0" * 40,
            "--",
            "true",
        )
        assert refused.code != 0 and "has 4 workers, and a sandbox is one process tree" in refused.err
