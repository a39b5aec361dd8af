"""Two tenants on one cluster, and a training that gives way: on a whole platform, by the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
STEPS = """
import pathlib, sys, tempfile, time
import aidos
state, done = pathlib.Path(tempfile.mkdtemp()), pathlib.Path(sys.argv[1])
saved = aidos.load_checkpoint(state)
step = 0 if saved is None else saved + 1
print("FROM", step, flush=True)
while not done.exists():
    time.sleep(0.1)
    print("STEP", step, flush=True)
    asked = aidos.preempted()
    if asked or step % 10 == 0:
        (state / "step").write_text(str(step))
        aidos.save_checkpoint(state, step=step)
        print("SAVED", step, flush=True)
    if asked:
        break
    step += 1
"""
NETWORK = '''
import time
import numpy, torch
import aidos

class Network(torch.nn.Sequential):
    """In the first attempt of the jobs "leaves" and "dies" it stays in the middle until it is asked to give way."""
    def __init__(self):
        super().__init__(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        self.passes = 0

    def forward(self, inputs):
        self.passes += self.training
        if aidos.job().name in ("leaves", "dies") and (aidos.job().attempt, self.passes) == (1, 8):
            print("IN THE MIDDLE", flush=True)
            while not aidos.preempted():
                time.sleep(0.1)
        return super().forward(inputs)

def transform(sample):
    return {"inputs": numpy.array([sample[f"x{n}"] for n in range(4)], numpy.float32), "target": int(sample["y"])}
'''
RECIPE = {
    "recipe": "torch",
    "module": "network:Network",
    "transform": "network:transform",
    "dataset": "points@main",
    "train": "train/*",
    "model": "points",
    "batch_size": 32,
    "epochs": 2,
    "max_steps": 14,
    "checkpoint_every": 5,
    "learning_rate": 0.01,
}


class Tenant:
    """Somebody's project on the platform."""

    def __init__(self, platform: RunningPlatform, name: str) -> None:
        self._platform, self._name = platform, name
        platform.aidos("project", "create", name, check=True)

    def ask(self, *arguments: str) -> Any:
        return self._platform.ask(*arguments, AIDOS_PROJECT=self._name)

    def states(self, array: str) -> dict[str, int]:
        return dict(self.ask("job", "get", array)["array"]["counts"])

    def log(self, job: str) -> str:
        return self._platform.aidos("job", "logs", job, check=True, AIDOS_PROJECT=self._name).out

    def find_ended(self, job: str) -> Any:
        """None while it goes on, and while the platform does not answer."""
        ran = self._platform.aidos("job", "get", job, "--json", AIDOS_PROJECT=self._name)
        return ran.json if ran.code == 0 and ran.json["state"] in {"SUCCEEDED", "FAILED", "CANCELLED"} else None

    def wait(self, job: str) -> Any:
        return json.loads(self._platform.aidos("job", "wait", job, "--json", timeout_s=240, AIDOS_PROJECT=self._name).out)


class TestTenants:
    def test_who_returns_has_its_half_back_and_the_other_loses_nothing(self, platform: RunningPlatform, tmp_path: Path) -> None:
        (tmp_path / "steps.py").write_text(STEPS)
        done = tmp_path / "done"
        busy, idle = Tenant(platform, "busy"), Tenant(platform, "idle")
        refused = platform.aidos("job", "submit", "--dry-run", "--name", "a", "--driver-cpus", "1000", "--", "true").err
        cpus = math.ceil(int(re.findall(r"needs 1001 CPU, (\d+) in the whole cluster", refused)[0]) / 4)

        def submit(tenant: Tenant, jobs: int) -> None:
            gang = ("--workers", "1", "--cpus-per-worker", str(cpus), "--driver-cpus", "0")  # whose worker nobody sees in its first minute
            options = ("--array", f"0-{jobs - 1}", *gang, "--directory", str(tmp_path))
            tenant.ask("job", "submit", "--name", "steps", *options, "--", "python", "steps.py", str(done))

        submit(busy, 5)
        wait_until(lambda: (found := busy.states("steps")).get("RUNNING") and not found.get("STARTING"), within_s=120, every_s=0.5)
        whole = busy.states("steps")["RUNNING"]
        half = whole // 2
        assert half and busy.states("steps")["QUEUED"] == 5 - whole, "it has all that there is while the other is idle"
        for tenant in (busy, idle):
            tenant.ask("quota", "set", "--nominal", json.dumps({"cpu": half * cpus}))
        submit(idle, half)
        wait_until(lambda: idle.states("steps").get("RUNNING") == half, within_s=120, every_s=0.5)
        assert busy.states("steps")["RUNNING"] == whole - half
        done.touch()
        assert [(tenant.wait("steps")["state"], tenant.states("steps")) for tenant in (busy, idle)] == [
            ("SUCCEEDED", {"SUCCEEDED": jobs}) for jobs in (5, half)
        ]
        gave_way = [job for job in busy.ask("job", "list", "--array", "steps") if job["preemptions"]]
        assert len(gave_way) == half
        for job in gave_way:
            before, _, after = busy.log(job["id"]).rpartition("FROM ")
            last = {what: int(re.findall(rf"{what} (\d+)", before)[-1]) for what in ("STEP", "SAVED")}
            assert last["SAVED"] < int(after.split()[0]) <= last["STEP"] + 1, "it goes on behind what it had saved, and leaves no step out"


class TestRecipe:
    def test_a_training_that_gave_way_or_lost_the_head_of_ray_ends_as_an_undisturbed_one(
        self, platform: RunningPlatform, tmp_path: Path
    ) -> None:
        rows = np.random.default_rng(7).normal(size=(256, 4))
        (tmp_path / "points" / "train").mkdir(parents=True)
        table = pyarrow.table({**{f"x{n}": rows[:, n] for n in range(4)}, "y": (rows.sum(axis=1) > 0).astype(int)})
        pyarrow.parquet.write_table(table, tmp_path / "points" / "train" / "rows.parquet")
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "network.py").write_text(NETWORK)
        (tmp_path / "code" / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))

        def submit(tenant: Tenant, name: str) -> Any:
            tenant.ask("dataset", "push", str(tmp_path / "points"), "--name", "points")
            return tenant.ask("job", "submit", "--name", name, "--recipe", str(tmp_path / "code" / "recipe.yaml"))

        shared, alone = Tenant(platform, "shared"), Tenant(platform, "alone")
        shared.ask("quota", "set", "--limit", '{"cpu": 2}')
        leaves, stays = submit(shared, "leaves"), submit(alone, "stays")
        wait_until(lambda: "IN THE MIDDLE" in shared.log("leaves"), within_s=180, every_s=0.5)
        urgent = shared.ask(
            "job", "submit", "--name", "urgent", "--priority", "9", "--workers", "0", "--directory", str(tmp_path / "code"), "--", "true"
        )
        assert shared.wait(urgent["id"])["state"] == "SUCCEEDED"
        ended, undisturbed = shared.wait(leaves["id"]), alone.wait(stays["id"])
        assert (ended["state"], ended["attempt"], ended["preemptions"]) == ("SUCCEEDED", 2, 1)
        assert (undisturbed["state"], undisturbed["attempt"]) == ("SUCCEEDED", 1)
        dies = submit(shared, "dies")
        wait_until(lambda: "IN THE MIDDLE" in shared.log("dies"), within_s=180, every_s=0.5)
        assert platform.kill_program("ray"), "the head, its raylet and all that ran there"
        reborn = wait_until(lambda: shared.find_ended("dies"), within_s=240, every_s=1)
        assert (reborn["state"], reborn["attempt"], reborn["preemptions"]) == ("SUCCEEDED", 2, 0), reborn
        jobs = ((shared, leaves), (shared, dies), (alone, stays))
        metrics = [tenant.ask("run", "get", job["run_id"])["metrics"]["loss"] for tenant, job in jobs]
        assert [(loss["value"], loss["step"]) for loss in metrics] == [(metrics[-1]["value"], 13)] * 3
