"""Studies on real Ray workers: trials run the user's command, and a driver that is killed loses and doubles nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from aidos.client import Client
from aidos.schemas.studies import StudyRead
from tests.studies.examples import ask_for
from tests.support.tenant import JobClient
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

TRAIN = """
import sys, time
from pathlib import Path
import aidos

trial = aidos.trial()
assert trial.params["x"] == float(sys.argv[1])
print("trial", trial.number, flush=True)
with Path(__file__).with_name("begun").open("a") as begun:
    print(trial.number, file=begun)
for step in range(1, 6):
    if trial.report(step, {"loss": (trial.params["x"] - 3) ** 2 + 1 / step}):
        break
    time.sleep(float(sys.argv[2]))
"""
DESCEND = """
import os, signal, sys
from pathlib import Path
import aidos

trial = aidos.trial()
state = trial.checkpoint / "x"
x = float(state.read_text()) if state.exists() else 9.0
with Path(__file__).with_name("begun").open("a") as begun:
    print(trial.number, file=begun)
for step in range(5):
    x -= trial.params["x"] * x
    trial.report(step, x * x)
state.write_text(str(x))
again = Path(__file__).with_name("lost")
if trial.number == 4 and not again.exists():
    again.touch()
    os.kill(os.getppid(), signal.SIGKILL)
"""
SPACE = {"x": {"kind": "float", "low": -5, "high": 10}}


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    context = ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield context.address_info["address"]
    ray.shutdown()


class Driver:
    """The program of a study's job, as TrainOS starts it: with the job's token in a file."""

    def __init__(self, study: StudyRead, job: Client, folder: Path, url: str, ray_address: str) -> None:
        self._study, self._folder = study, folder
        token = folder / "token"
        token.write_text(str(job.config.api_key))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AIDOS_")}
        own = {"AIDOS_URL": url, "AIDOS_TOKEN_FILE": str(token), "RAY_ADDRESS": ray_address, "RAY_CHDIR_TO_TRIAL_DIR": "0"}
        # As Ray's Jobs API tells a driver which environment its workers have.
        own["RAY_JOB_CONFIG_JSON_ENV_VAR"] = json.dumps({"runtime_env": {"env_vars": dict(own)}})
        self._environment = clean | own | {"AIDOS_CONFIG_DIR": str(folder), "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-m", "tune.studies.run", str(self._study.id)]
        log = (self._folder / "log").open("ab")
        self._running = subprocess.Popen(command, env=self._environment, cwd=self._folder, stdout=log, stderr=log)
        return self._running

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()


@pytest.fixture
def drive(as_job: JobClient, client: Client, url: str, ray_address: str, tmp_path: Path) -> Iterator[Any]:
    """A study whose command is ``program``, and its driver."""
    drivers = []

    def begin(pause_s: float, program: str = TRAIN, **fields: Any) -> Driver:
        script = tmp_path / "train.py"
        script.write_text(program)
        command = ["env", f"PYTHONPATH={Path.cwd()}", sys.executable, str(script), "{x}", str(pause_s)]
        study = client.studies.create(ask_for(**{"command": command, "space": SPACE, **fields}))
        driver = Driver(study, as_job(study.job_id), tmp_path, url, ray_address)
        drivers.append(driver)
        return driver

    yield begin
    for driver in drivers:
        driver.stop()


def begun(folder: Path) -> list[int]:
    """The numbers of the trials whose program was begun, as often as it was."""
    return [int(line) for line in (folder / "begun").read_text().split()]


class TestOnRay:
    def test_a_study_ends_with_its_budget_and_its_best(self, client: Client, drive: Any, tmp_path: Path) -> None:
        driver = drive(0, budget={"trials": 8}, parallelism=2, pruner={"kind": "asha", "reduction": 2}, seed=0)
        assert driver.start().wait(300) == 0, driver.log
        ended = client.studies.get("s")
        trials = list(client.studies.trials("s"))
        assert (ended.state, ended.reason) == ("FINISHED", "8 of 8 trials have begun"), driver.log
        assert [trial.number for trial in trials] == list(range(8)) and {trial.state for trial in trials} <= {"COMPLETE", "PRUNED"}
        assert "trial 7" in driver.log, "what a trial prints is in the job's log"
        assert sorted(begun(tmp_path)) == list(range(8)), "each trial's program is run once"
        (best,) = client.studies.best("s")
        assert best.values["loss"] == pytest.approx((best.params["x"] - 3) ** 2 + 1 / 5)
        assert {client.runs.get(str(trial.run_id)).state for trial in trials} <= {"FINISHED", "KILLED"}

    def test_kill_9_of_the_driver_loses_no_trial_that_ended_and_repeats_none(self, client: Client, drive: Any) -> None:
        driver = drive(0.2, budget={"trials": 8}, parallelism=2, seed=0)
        process = driver.start()
        wait_until(lambda: client.studies.get("s").trials.get("COMPLETE", 0) >= 3, within_s=200, every_s=0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = {trial.number: trial for trial in client.studies.trials("s")}
        kept = {number: trial for number, trial in before.items() if trial.state == "COMPLETE"}
        assert len(kept) >= 3
        assert driver.start().wait(200) == 0, driver.log
        after = {trial.number: trial for trial in client.studies.trials("s")}
        assert client.studies.get("s").trials == {"COMPLETE": 8}, driver.log
        assert sorted(after) == list(range(8))
        for number, trial in kept.items():
            assert (after[number].finished_at, after[number].values, after[number].attempt) == (trial.finished_at, trial.values, 1)
        for number, trial in before.items():
            assert (after[number].params, after[number].run_id) == (trial.params, trial.run_id)
        assert len(list(client.runs.list(experiment="s"))) == 8 + 1, "a run a trial, and the job's own"

    def test_a_population_trains_on_also_when_a_worker_is_killed(self, client: Client, drive: Any, tmp_path: Path) -> None:
        rates = {"x": {"kind": "float", "low": 0.01, "high": 0.5}}
        driver = drive(0, DESCEND, space=rates, sampler="pbt", population=4, budget={"trials": 12}, parallelism=2, seed=0)
        assert driver.start().wait(300) == 0, driver.log
        trials = list(client.studies.trials("s"))
        assert [(trial.number, trial.state) for trial in trials] == [(number, "COMPLETE") for number in range(12)], driver.log
        assert [trial.attempt for trial in trials] == [2 if trial.number == 4 else 1 for trial in trials]
        assert sorted(begun(tmp_path)) == sorted([*range(12), 4]), "what was lost is run again, and nothing else"
        for trial in trials[4:]:
            assert trial.values["loss"] < trials[trial.parent].values["loss"], "it went on from its parent's checkpoint"
        assert {trial.member for trial in trials[8:]} == {0, 1, 2, 3}
        assert any(trial.member != trials[trial.parent].member for trial in trials[4:]), "the worst followed a better one"

    def test_a_command_that_fails_ends_the_study_with_its_last_words(self, client: Client, drive: Any) -> None:
        driver = drive(0, budget={"trials": 20, "failures": 2}, objectives=[{"metric": "absent"}])
        assert driver.start().wait(200) == 0, driver.log
        ended = client.studies.get("s")
        assert (ended.state, ended.reason) == ("FAILED", "2 trials failed, and the budget is 2")
        assert client.studies.trial("s", "0").reason == "it reported no 'absent'"
