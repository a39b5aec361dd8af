"""The driver's side of a study against the real API: what Tune is given to try, and how trials run. Here without Tune."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.schemas.studies import StudyRead, TrialRead
from tests.studies.examples import ask_for
from tests.support.tenant import JobClient
from tune.studies.checkpoints import keep_checkpoint
from tune.studies.child import Child
from tune.studies.train_loop import StudySearcher
from tune.studies.worker import TrialRunner, attend_trial

pytestmark = pytest.mark.postgres

TRAIN = """
import sys
import aidos

trial = aidos.trial()
assert trial.params["x"] == float(sys.argv[1]), (trial.params, sys.argv)
for step in range(1, 4):
    if trial.report(step, {"loss": (trial.params["x"] - 3) ** 2 + 1 / step}):
        break
with aidos.run() as run:
    run.log_metric("seconds", 0.5)
print("trial", trial.number, "ends")
"""
OFTEN = """
import multiprocessing
import aidos

def train(steps):
    trial = aidos.trial()
    for step in steps:
        trial.report(step, step)

if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=train, args=(range(1200),))
    process.start()
    process.join()
    train(range(1200, 2500))
"""
SPACE = {"x": {"kind": "float", "low": -5, "high": 10}}


@pytest.fixture
def begin(client: Client, as_job: JobClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[StudyRead, Client]]:
    """A study whose command is TRAIN, and its job's client; what it starts finds the job's token."""

    def make(**fields: Any) -> tuple[StudyRead, Client]:
        script, token = tmp_path / "train.py", tmp_path / "token"
        script.write_text(TRAIN)
        study = client.studies.create(ask_for(**{"command": [sys.executable, str(script), "{x}"], "space": SPACE, **fields}))
        job = as_job(study.job_id)
        token.write_text(str(job.config.api_key))
        monkeypatch.delenv("AIDOS_API_KEY")
        monkeypatch.setenv("AIDOS_TOKEN_FILE", str(token))
        monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
        return job.studies.start("s"), job

    return make


def drive(job: Client, searcher: StudySearcher, study: StudyRead, name: str) -> TrialRead | None:
    """What Tune does with one trial; None after the last."""
    config = searcher.suggest(name)
    if config == Searcher.FINISHED:
        return None
    attend(job, searcher, config, name)
    return job.studies.trial(str(study.id), str(config["number"]))


def attend(job: Client, searcher: StudySearcher, config: dict[str, Any], name: str) -> None:
    """Run the trial as a worker, and tell of it."""
    child = Child()
    trial, last_line = attend_trial(job, child, config)
    child.close()
    searcher.on_trial_complete(name, {"trial": trial and trial.model_dump_json(), "last_line": last_line})


class TestStudySearcher:
    def test_a_trial_that_had_ended_when_its_worker_was_lost_stays(self, begin: Any) -> None:
        study, job = begin()
        searcher = StudySearcher(job, study)
        config = searcher.suggest("a")
        ended, _ = attend_trial(job, Child(), config)
        assert ended.state == "COMPLETE" and searcher.begin_again("a") is None
        assert job.studies.trial("s", "0") == ended

    def test_tries_until_the_budget_is_spent(self, begin: Any) -> None:
        study, job = begin(budget={"trials": 3})
        searcher, trials = StudySearcher(job, study), []
        while (trial := drive(job, searcher, study, f"t{len(trials)}")) is not None:
            trials.append(trial)
        assert [trial.number for trial in trials] == [0, 1, 2] and {trial.state for trial in trials} == {"COMPLETE"}, trials
        assert searcher.over == "3 of 3 trials have begun" and searcher.suggest("more") == Searcher.FINISHED
        assert trials[0].values["loss"] == pytest.approx((trials[0].params["x"] - 3) ** 2 + 1 / 3)
        run = job.runs.get(str(trials[0].run_id))
        assert run.metrics["seconds"].value == 0.5 and run.state == "FINISHED"

    def test_never_has_more_at_work_than_the_study_may(self, begin: Any) -> None:
        study, job = begin(parallelism=2)
        searcher = StudySearcher(job, study)
        assert [type(searcher.suggest(name)) for name in "abc"] == [dict, dict, type(None)]

    def test_one_that_takes_over_begins_what_was_interrupted_first(self, begin: Any) -> None:
        study, job = begin(budget={"trials": 3})
        first = StudySearcher(job, study)
        ended = drive(job, first, study, "a")
        lost = first.suggest("b")
        assert ended is not None and (lost["number"], lost["attempt"]) == (1, 1)
        second, study = None, job.studies.start("s")
        second = StudySearcher(job, study)
        again = drive(job, second, study, "a")
        assert again is not None and (again.number, again.attempt, again.state) == (1, 2, "COMPLETE")
        assert attend_trial(job, Child(), lost)[0] == again == job.studies.trial("s", "1"), "a worker of before changes nothing"
        last = drive(job, second, study, "c")
        assert last is not None and last.number == 2 and drive(job, second, study, "d") is None
        assert job.studies.trial("s", "0") == ended

    def test_a_space_that_changes_is_chosen_from_at_once(self, begin: Any, client: Client) -> None:
        study, job = begin()
        searcher = StudySearcher(job, study)
        drive(job, searcher, study, "a")
        client.studies.update("s", space={"x": {"kind": "float", "low": 20, "high": 21}})
        changed = drive(job, searcher, study, "b")
        assert changed is not None and 20 <= changed.params["x"] <= 21 and changed.state == "COMPLETE"

    def test_a_trial_whose_worker_was_lost_too_often_has_failed(self, begin: Any) -> None:
        study, job = begin()
        searcher = StudySearcher(job, study)
        number = searcher.suggest("a")["number"]
        searcher.on_trial_complete("a", None, error=True)
        trial = job.studies.trial("s", str(number))
        assert (trial.state, trial.reason) == ("FAILED", "exit code -1; last line: its worker was lost again and again")

    def test_a_command_that_was_killed_has_failed_when_its_driver_says_so(self, begin: Any) -> None:
        study, job = begin(command=["sh", "-c", "echo reading {x}; kill -9 $$"], space={"x": {"kind": "int", "low": 1, "high": 1}})
        searcher = StudySearcher(job, study)
        config = searcher.suggest("a")
        attended = attend_trial(job, Child(), config)
        assert attended == (None, "reading 1")
        assert job.studies.trial("s", "0").state == "RUNNING", "its worker may be dying with its driver"
        searcher.on_trial_complete("a", {"trial": None, "last_line": attended[1]})
        ended = job.studies.trial("s", "0")
        assert (ended.state, ended.reason) == ("FAILED", "exit code 137; last line: reading 1")

    def test_a_program_whose_last_report_was_refused_has_failed_though_it_came_to_its_end(self, begin: Any, capfd: Any) -> None:
        study, job = begin()
        config = StudySearcher(job, study).suggest("a")
        job.studies.start("s")
        child = Child()
        code, last = child.run(config["command"], {**os.environ, **config["environment"]})
        child.close()
        assert code == 1 and "Trial 0 of study 's' is WAITING in its attempt 1" in last
        assert "trial 0 ends" in capfd.readouterr().out

    @pytest.mark.parametrize("options", [["-u"], []], ids=["fresh", "forked"])
    def test_what_a_program_reports_is_there_when_it_has_ended(self, begin: Any, options: list[str], tmp_path: Path) -> None:
        script = tmp_path / "often.py"
        study, job = begin(command=[sys.executable, *options, str(script)])
        script.write_text(OFTEN)
        trial = drive(job, StudySearcher(job, study), study, "a")
        assert trial is not None and (trial.state, trial.step, trial.values["loss"]) == ("COMPLETE", 2499, 2499.0), trial
        history = job.runs.history(str(trial.run_id), key="loss")
        assert sorted((point.step, point.value) for point in history) == [(step, float(step)) for step in range(2500)]

    @pytest.mark.parametrize("options", [["-u"], []], ids=["fresh", "forked"])
    @pytest.mark.parametrize(("value", "state", "reason"), [("2.5", "COMPLETE", ""), ("float('nan')", "FAILED", "its last 'loss' is nan")])
    def test_what_it_measured_last_counts_though_its_run_was_deleted(
        self, begin: Any, client: Client, options: list[str], value: str, state: str, reason: str, tmp_path: Path
    ) -> None:
        script = tmp_path / "last.py"
        script.write_text(f"import aidos\naidos.trial().report(1, {value})")
        study, job = begin(command=[sys.executable, *options, str(script)])
        searcher = StudySearcher(job, study)
        config = searcher.suggest("a")
        client.runs.delete(config["run"])
        attend(job, searcher, config, "a")
        trial = job.studies.trial("s", "0")
        assert (trial.state, trial.reason, trial.step) == (state, reason, 1)
        assert trial.values == ({"loss": 2.5} if state == "COMPLETE" else {})

    def test_a_metric_that_can_have_no_such_name_is_refused_at_once(self, begin: Any, tmp_path: Path) -> None:
        study, job = begin()
        (tmp_path / "train.py").write_text("import aidos\naidos.trial().report(1, {'a\\nb': 1.0})\nprint('the end')")
        trial = drive(job, StudySearcher(job, study), study, "a")
        assert trial is not None and trial.state == "FAILED"
        assert trial.reason.startswith("exit code 1; last line: ") and "should match pattern" in trial.reason

    def test_a_grid_ends_with_its_last_point(self, begin: Any) -> None:
        study, job = begin(space={"x": {"kind": "int", "low": 1, "high": 2}}, sampler="grid")
        searcher = StudySearcher(job, study)
        found = [drive(job, searcher, study, name) for name in "abc"]
        assert [trial.params["x"] for trial in found if trial] == [1, 2] and searcher.over == "every point of the grid was tried"


GROW = """
import sys
import aidos

trial = aidos.trial()
kept = trial.checkpoint / "state" / "steps.txt"
steps = int(kept.read_text()) if kept.exists() else 0
for step in range(steps, steps + 10):
    trial.report(step, trial.params["x"] + 100 - step)
kept.parent.mkdir(exist_ok=True)
kept.write_text(str(step + 1))
"""


class TestTrialRunner:
    def test_one_worker_takes_one_trial_after_the_other(self, begin: Any) -> None:
        study, job = begin(budget={"trials": 2})
        searcher = StudySearcher(job, study)
        runner = TrialRunner(searcher.suggest("a"))
        for name in "ab":
            result = runner.train()
            assert result["done"]
            searcher.on_trial_complete(name, result)
            assert name == "b" or runner.reset(searcher.suggest("b"))
        runner.stop()
        assert job.studies.get("s").trials == {"COMPLETE": 2}


class TestPopulation:
    def test_each_stretch_goes_on_from_its_parents_checkpoint_also_after_the_driver(self, begin: Any, tmp_path: Path) -> None:
        study, job = begin(sampler="pbt", population=2, budget={"trials": 6}, seed=0)
        (tmp_path / "train.py").write_text(GROW)
        searcher = StudySearcher(job, study)
        trials = [drive(job, searcher, study, name) for name in "abc"]
        searcher.suggest("lost with its driver")
        searcher = StudySearcher(job, job.studies.start("s"))
        trials += [drive(job, searcher, study, name) for name in "def"]
        assert drive(job, searcher, study, "more") is None and searcher.over == "6 of 6 trials have begun"
        assert [trial.state for trial in trials] == ["COMPLETE"] * 6, trials
        assert [(trial.member, trial.step) for trial in trials] == [(0, 9), (1, 9), (0, 19), (1, 19), (0, 29), (1, 29)]
        assert [trial.parent for trial in trials[:2]] == [None, None] and trials[3].attempt == 2
        for trial in trials[2:]:
            assert trial.step == trials[trial.parent].step + 10
        better = min(trials[:2], key=lambda trial: trial.values["loss"])
        assert [trial.parent for trial in trials[2:4]] == [better.number] * 2

    def test_a_worker_lost_after_it_kept_its_checkpoint_stands_in_nobodys_way(self, begin: Any, tmp_path: Path) -> None:
        study, job = begin(sampler="pbt", population=2, budget={"trials": 4}, seed=0)
        (tmp_path / "train.py").write_text(GROW)
        searcher = StudySearcher(job, study)
        lost = searcher.suggest("a")
        left = tmp_path / "left" / "state" / "steps.txt"
        left.parent.mkdir(parents=True)
        left.write_text("5")
        keep_checkpoint(job, lost, tmp_path / "left")
        attend(job, searcher, lost | searcher.begin_again("a"), "a")
        trials = [job.studies.trial("s", "0"), *(drive(job, searcher, study, name) for name in "bcd")]
        assert [(trial.state, trial.attempt, trial.step) for trial in trials] == [
            ("COMPLETE", 2, 9), ("COMPLETE", 1, 9), ("COMPLETE", 1, 19), ("COMPLETE", 1, 19)
        ], trials  # fmt: skip
        assert attend_trial(job, Child(), lost)[0] == trials[0], "what was lost changes nothing, should it come back"

    def test_takes_one_objective_and_no_pruner(self, client: Client) -> None:
        with pytest.raises(InvalidPayload, match="'pbt' takes a single objective and no pruner"):
            client.studies.create(ask_for(sampler="pbt", pruner={"kind": "asha"}))
