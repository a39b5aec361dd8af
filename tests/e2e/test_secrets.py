"""Secrets in jobs on a whole platform: the job's processes have them, and nothing that is kept does."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from cluster.ray_head import temporary_directory
from tests.e2e.test_security import dump, ray_jobs
from tests.support.running import AIDOS, RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
QUIET, LOUD = "quiet-horse-battery-staple", "loud-horse-battery-staple"

TRUSTED = """
import hashlib, os, subprocess
import ray

def digest():
    return hashlib.sha256(os.environ["QUIET"].encode()).hexdigest()

class Worker:
    def digest(self):
        print("ACTOR SAYS", os.environ["LOUD"])
        return digest()

print("COMMAND SAYS", os.environ["QUIET"], flush=True)
subprocess.run(["sh", "-c", "echo CHILD SAYS $QUIET"])
ray.init()
print("DIGESTS", digest(), ray.get(ray.remote(digest).remote()), ray.get(ray.remote(Worker).remote().digest.remote()))
raise SystemExit(os.environ["QUIET"])
"""
SANDBOXED = "import hashlib, os; print('SANDBOX SAYS', os.environ['QUIET'], hashlib.sha256(os.environ['QUIET'].encode()).hexdigest())"


def set_secret(platform: RunningPlatform, name: str, value: str) -> None:
    platform.run(["sh", "-c", f'printf %s "$VALUE" | {AIDOS} secret set {name}'], check=True, VALUE=value)


class TestSecretsInJobs:
    def test_reach_its_processes_and_are_masked_in_its_log_and_in_nothing_that_is_kept(
        self, platform: RunningPlatform, tmp_path: Path
    ) -> None:
        set_secret(platform, "QUIET", QUIET)
        set_secret(platform, "loud", LOUD)
        (tmp_path / "main.py").write_text(TRUSTED)
        named = ("--secret", "QUIET", "--directory", str(tmp_path))
        trusted = platform.ask(
            "job", "submit", "--name", "knows", *named, "--secret", "LOUD=loud", "--workers", "0", "--", "python", "main.py"
        )
        sandboxed = platform.ask("job", "submit", "--name", "knows-too", *named, "--sandbox", "--", "python", "-c", SANDBOXED)
        for job in (trusted, sandboxed):
            platform.aidos("job", "wait", job["id"], timeout_s=300)
        expected = hashlib.sha256(QUIET.encode()).hexdigest()

        ended, log = platform.ask("job", "get", trusted["id"]), platform.aidos("job", "logs", trusted["id"], check=True).out
        assert (ended["state"], ended["reason"]) == ("FAILED", "exit code 1; last line: ***"), log
        assert f"DIGESTS {expected} {expected} {expected}" in log, log
        assert [line for line in ("COMMAND SAYS ***\n", "CHILD SAYS ***\n", "ACTOR SAYS ***\n") if line not in log] == [], log
        said = platform.aidos("job", "logs", sandboxed["id"], check=True).out
        assert said.endswith(f"\nSANDBOX SAYS *** {expected}\n") and QUIET not in said

        kept = {"database": dump(platform), "ray jobs": ray_jobs(platform), "log": log}
        kept |= {
            command: platform.aidos(*command.split(), check=True).out
            for command in (f"job get {trusted['id']}", "audit list", "event list")
        }
        assert [place for place, text in kept.items() if QUIET in text or LOUD in text] == []
        assert "knows" in kept["ray jobs"] and "read_job_secrets" in kept["audit list"]
        places = [files_with(value, folder) for value in (QUIET, LOUD) for folder in (platform.home, temporary_directory(platform.home))]
        # What a Ray worker prints stands in a file of its own on its node, which shows that this looks well.
        assert places[:3] == [[], [], []]
        assert places[3] and all(Path(path).name.startswith("worker-") for path in places[3])


def files_with(text: str, folder: Path) -> list[str]:
    """Every file below, of whatever kind: the database's, the object store's, Ray's control store's, logs."""
    found = subprocess.run(["grep", "-rlaF", "--devices=skip", text, str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.split()
