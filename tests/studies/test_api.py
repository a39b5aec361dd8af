"""Studies over HTTP: what is asked, what their job may write, and that nothing that ended is lost or counted twice."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from actors.costoptimizer import service as costoptimizer
from actors.securityvault import service as securityvault
from aidos.client import AsyncClient, Client
from aidos.config import TrialConfig
from aidos.errors import Conflict, Forbidden, InvalidPayload, NotFound
from aidos.schemas.studies import StudyRead, TrialRead
from aidos.tracking.trial import ActiveTrial
from cluster.db import Database, new_id
from cluster.settings import Settings
from tests.costoptimizer.conftest import lease_event
from tests.studies.examples import BRANIN, CONDITIONAL, ask_for, branin
from tests.support.tenant import JobClient
from tests.support.waiting import wait_until
from tune.studies.errors import BudgetSpent, SpaceChanged, StudyNotRunning, TrialNotRunning
from tune.studies.search import Search

pytestmark = pytest.mark.postgres
POINT = {"x": 0.0, "y": 1.0}


def create(client: Client, **fields: Any) -> StudyRead:
    return client.studies.create(ask_for(**fields))


def attend(job: Client, study: StudyRead, trial: TrialRead) -> ActiveTrial:
    return ActiveTrial(TrialConfig(str(study.id), trial.number, trial.attempt, study.objectives[0].metric, params=trial.params), job)


def begin(job: Client, study: StudyRead, params: Any = POINT, **fields: Any) -> TrialRead:
    return job.studies.begin_trial(str(study.id), params=params, **{"space_version": study.space_version, **fields})


def finish(job: Client, study: StudyRead, trial: TrialRead, exit_code: int = 0, last_line: str = "") -> TrialRead:
    return job.studies.finish_trial(str(study.id), str(trial.number), attempt=trial.attempt, exit_code=exit_code, last_line=last_line)


def work(job: Client, study: StudyRead, trials: int) -> None:
    """Search as the study's job does, in this process."""
    search = Search(study, list(job.studies.trials(str(study.id))))
    for _ in range(trials):
        asked = search.ask()
        assert asked is not None
        trial = begin(job, study, asked[0])
        search.begin(trial.number, *asked)
        attend(job, study, trial).report(1, branin(asked[0]))
        search.tell(finish(job, study, trial))


async def lease(settings: Settings, job_id: Any) -> None:
    """The job had 2 CPUs and 4 GiB for 1.8 hours."""
    async with Database(settings) as db, db.platform() as conn:
        scope, began = await securityvault.default_scope(conn), datetime(2026, 11, 10, 22, tzinfo=UTC)
        told = [("opened", began), ("closed", began + timedelta(hours=1.8))]
        lease_id = new_id()
        await costoptimizer.record_leases(conn, [lease_event(scope, lease_id, what, at, ("job", str(job_id))) for what, at in told])


class TestAsking:
    def test_begins_one_job_with_room_for_all_trials_at_a_time(self, client: Client) -> None:
        study = create(client, parallelism=3, cpus_per_trial=2, seed=1)
        assert (study.state, study.trials, study.spent.trials, study.space_version) == ("RUNNING", {}, 0, 1)
        job = client.jobs.get(str(study.job_id))
        assert (job.name, job.resources.cpu) == ("s", 3 * 2 + 0.25)
        assert client.studies.get("s").id == study.id == client.studies.get(str(study.id)).id == next(iter(client.studies.list())).id
        assert list(client.studies.list(state="STOPPED")) == []

    def test_a_name_is_taken_once(self, client: Client) -> None:
        create(client)
        with pytest.raises(Conflict, match="a study 's' already"):
            create(client)
        assert len(list(client.jobs.list())) == 1, "the job of the second was not queued"

    def test_a_wrong_space_is_refused_at_the_platform_too(self, url: str, admin_key: str) -> None:
        asked = ask_for(space={"x": {"kind": "float", "low": 2, "high": 1}})
        answer = httpx.post(f"{url}/v1/studies", json=asked, headers={"Authorization": f"Bearer {admin_key}"})
        assert answer.status_code == 422 and "low must not be above high" in answer.text

    def test_another_project_sees_nothing_of_it(self, client: Client) -> None:
        create(client)
        client.projects.create("other")
        with Client(project="other") as other:
            assert list(other.studies.list()) == []
            with pytest.raises(NotFound, match="no study 's' here"):
                other.studies.get("s")


class TestTrials:
    def test_each_is_a_run_of_the_studys_experiment_with_its_metrics(self, client: Client, as_job: JobClient) -> None:
        study = create(client)
        with as_job(study.job_id) as job:
            trial = begin(job, study)
            active = attend(job, study, trial)
            assert active.report(1, 3.0) is False and active.report(2, {"loss": 2.5, "acc": 0.5}) is False
            ended = finish(job, study, trial)
        assert (ended.state, ended.values, ended.step, ended.feasible) == ("COMPLETE", {"loss": 2.5, "acc": 0.5}, 2, True)
        run = client.runs.get(str(ended.run_id))
        assert (run.experiment, run.name, run.state, run.job_id) == ("s", "s-0", "FINISHED", study.job_id)
        assert run.params == {"x": "0.0", "y": "1.0"} and run.metrics["loss"].value == 2.5
        assert [point.value for point in client.runs.history(str(run.id), key="loss")] == [3.0, 2.5]
        assert run.tags["aidos.study"] == "s" and run.tags["aidos.trial"] == "0"
        assert run.tags["mlflow.parentRunId"] == str(client.jobs.get(str(study.job_id)).run_id)
        read = client.studies.get("s")
        assert (read.trials, read.spent.trials) == ({"COMPLETE": 1}, 1)

    def test_only_the_studys_own_job_writes_them(self, client: Client, as_job: JobClient) -> None:
        first, second = create(client), create(client, name="t")
        with as_job(second.job_id) as job:
            for attempt in (lambda: begin(job, first), lambda: job.studies.start("s"), lambda: job.studies.finish("s", reason="")):
                with pytest.raises(Forbidden, match="Only the job of study 's'"):
                    attempt()
        with pytest.raises(Forbidden):
            begin(client, first)

    def test_the_pruner_ends_the_bad_ones_and_their_runs(self, client: Client, as_job: JobClient) -> None:
        study = create(client, pruner={"kind": "asha", "reduction": 2, "min_steps": 2})
        with as_job(study.job_id) as job:
            good, bad = begin(job, study), begin(job, study)
            assert [attend(job, study, good).report(step, 1.0) for step in (1, 2, 3)] == [False] * 3
            assert [attend(job, study, bad).report(step, 9.0) for step in (1, 2, 3)] == [False, True, True]
            ended = finish(job, study, bad)
            late = begin(job, study)
            measured = [{"step": step, "values": {"loss": value}} for step, value in ((1, 1.0), (1, 5.0), (2, 9.0))]
            assert job.studies.report_trial("s", str(late.number), attempt=1, measured=measured).stop, "several steps at once"
            assert finish(job, study, late).values == {"loss": 9.0}
        assert (ended.state, ended.reason) == ("PRUNED", "ended by asha at step 2")
        assert client.runs.get(str(ended.run_id)).state == "KILLED"

    def test_nan_survives_and_makes_it_fail(self, client: Client, as_job: JobClient) -> None:
        study = create(client)
        with as_job(study.job_id) as job:
            trial = begin(job, study)
            attend(job, study, trial).report(1, math.nan)
            ended = finish(job, study, trial)
        assert (ended.state, ended.reason, ended.values) == ("FAILED", "its last 'loss' is nan", {})
        assert math.isnan(client.runs.get(str(trial.run_id)).metrics["loss"].value)

    def test_an_end_told_twice_is_one_end(self, client: Client, as_job: JobClient) -> None:
        study = create(client)
        with as_job(study.job_id) as job:
            trial = begin(job, study)
            attend(job, study, trial).report(1, 1.0)
            first = finish(job, study, trial)
            assert finish(job, study, trial, exit_code=1) == first
            with pytest.raises(TrialNotRunning):
                attend(job, study, trial).report(2, 0.0)
        assert client.studies.trial("s", "0").values == {"loss": 1.0}

    def test_parameters_outside_of_the_space_are_refused(self, client: Client, as_job: JobClient) -> None:
        study = create(client, space=CONDITIONAL)
        with as_job(study.job_id) as job, pytest.raises(InvalidPayload, match="'beta' of the trial is wrong: it has no value"):
            begin(job, study, {"optimizer": "adam", "layers": 1})

    def test_outside_of_a_study_a_script_runs_by_itself(self) -> None:
        trial = ActiveTrial(TrialConfig())
        assert trial.params == {} and trial.report(1, 0.5) is False

    def test_is_not_there(self, client: Client) -> None:
        create(client)
        with pytest.raises(NotFound, match="no trial 7"):
            client.studies.trial("s", "7")


class TestBudget:
    def test_no_trial_begins_beyond_it_also_when_many_ask_at_once(self, client: Client, as_job: JobClient, url: str) -> None:
        study = create(client, budget={"trials": 5})
        with as_job(study.job_id) as job:
            token = job.config.api_key

        async def rush() -> list[Any]:
            async with AsyncClient(url, token) as asking:
                asks = [asking.studies.begin_trial("s", params=POINT, space_version=1) for _ in range(12)]
                return await asyncio.gather(*asks, return_exceptions=True)

        found = asyncio.run(rush())
        begun = [each.number for each in found if isinstance(each, TrialRead)]
        assert sorted(begun) == [0, 1, 2, 3, 4]
        assert sum(isinstance(each, BudgetSpent) for each in found) == 7

    def test_no_trial_begins_after_its_time(self, client: Client, as_job: JobClient) -> None:
        study = create(client, budget={"time_s": 1})
        with as_job(study.job_id) as job:
            wait_until(lambda: client.studies.get("s").spent.time_s >= 1, within_s=30)
            with pytest.raises(BudgetSpent, match="it has run for [1-9][0-9]* s of 1"):
                begin(job, study)

    def test_no_trial_begins_once_its_jobs_together_have_cost_as_much(self, client: Client, as_job: JobClient, settings: Settings) -> None:
        study = create(client, budget={"usd": 0.2})
        client.studies.stop("s")
        resumed = client.studies.resume("s")
        with as_job(resumed.job_id) as job:
            begin(job, study)
            for spent, owner in [(0.18, study.job_id), (0.36, resumed.job_id)]:
                asyncio.run(lease(settings, owner))
                assert client.studies.get("s").spent.usd == pytest.approx(spent)
            with pytest.raises(BudgetSpent, match="it has cost 0.36 of 0.2 USD"):
                begin(job, study)

    def test_failed_trials_end_the_search(self, client: Client, as_job: JobClient) -> None:
        study = create(client, budget={"failures": 2})
        with as_job(study.job_id) as job:
            for _ in range(2):
                finish(job, study, begin(job, study), exit_code=1, last_line="ImportError: no module")
            with pytest.raises(BudgetSpent, match="2 trials failed") as refused:
                begin(job, study)
            ended = job.studies.finish("s", reason=refused.value.fields["reason"])
        assert (ended.state, ended.reason) == ("FAILED", "2 trials failed, and the budget is 2")
        assert client.studies.trial("s", "1").reason == "exit code 1; last line: ImportError: no module"

    def test_a_larger_one_lets_it_go_on_where_it_was(self, client: Client, as_job: JobClient) -> None:
        study = create(client, budget={"trials": 2})
        with as_job(study.job_id) as job:
            work(job, study, 2)
            assert job.studies.finish("s", reason="2 of 2 trials have begun").state == "FINISHED"
        with pytest.raises(BudgetSpent):
            client.studies.resume("s")
        client.studies.update("s", budget={"trials": 3})
        resumed = client.studies.resume("s")
        assert resumed.state == "RUNNING" and resumed.job_id != study.job_id
        with as_job(study.job_id) as old, pytest.raises(Forbidden):
            begin(old, study)
        with as_job(resumed.job_id) as job:
            work(job, job.studies.start("s"), 1)
        assert [trial.number for trial in client.studies.trials("s", state="COMPLETE")] == [0, 1, 2]


class TestInterruption:
    def test_a_stopped_study_goes_on_with_what_it_was_doing(self, client: Client, as_job: JobClient) -> None:
        study = create(client)
        with as_job(study.job_id) as job:
            work(job, study, 2)
            under_way = begin(job, study)
            attend(job, study, under_way).report(1, 5.0)
            stopped = client.studies.stop("s")
            assert (stopped.state, stopped.trials) == ("STOPPED", {"COMPLETE": 2, "WAITING": 1})
            assert client.jobs.get(str(study.job_id)).state in {"CANCELLED", "CANCELLING"}
            assert client.runs.get(str(under_way.run_id)).state == "KILLED"
        with pytest.raises(StudyNotRunning):
            client.studies.stop("s")
        resumed = client.studies.resume("s")
        with as_job(resumed.job_id) as job:
            read = job.studies.start("s")
            again = begin(job, read, {}, number=under_way.number)
            assert (again.params, again.run_id, again.attempt, again.step) == (under_way.params, under_way.run_id, 2, None)
            assert client.runs.get(str(again.run_id)).state == "RUNNING"
            with pytest.raises(TrialNotRunning, match="attempt 1 can no longer write"):
                attend(job, study, under_way).report(2, 5.0)
            attend(job, read, again).report(1, 4.0)
            assert finish(job, read, again).values == {"loss": 4.0}
        assert client.studies.get("s").trials == {"COMPLETE": 3}

    def test_a_job_that_begins_anew_finds_what_its_last_attempt_left(self, client: Client, as_job: JobClient) -> None:
        study = create(client)
        with as_job(study.job_id) as job:
            begin(job, study)
            assert job.studies.start("s").trials == {"WAITING": 1}
            assert begin(job, study, {}, number=0).attempt == 2
            with pytest.raises(TrialNotRunning):
                begin(job, study, {}, number=0)


class TestChangingTheSpace:
    def test_the_next_trial_is_chosen_from_it(self, client: Client, as_job: JobClient) -> None:
        study = create(client)
        with as_job(study.job_id) as job:
            work(job, study, 3)
            changed = client.studies.update("s", space={**BRANIN, "x": {"kind": "float", "low": 2, "high": 4}})
            assert changed.space_version == 2
            with pytest.raises(SpaceChanged, match="at version 2, not at 1"):
                begin(job, study)
            work(job, changed, 3)
        assert all(2 <= trial.params["x"] <= 4 for trial in list(client.studies.trials("s"))[3:])

    def test_a_parameter_keeps_its_kind_and_the_sampler_its_needs(self, client: Client) -> None:
        create(client, sampler="cmaes")
        with pytest.raises(InvalidPayload, match="'x' is float and cannot become int"):
            client.studies.update("s", space={**BRANIN, "x": {"kind": "int", "low": 0, "high": 4}})
        with pytest.raises(InvalidPayload, match="use 'tpe'"):
            client.studies.update("s", space={**BRANIN, "o": {"kind": "categorical", "choices": ["a", "b"]}})
        assert client.studies.get("s").space_version == 1


class TestResults:
    def test_best_and_importance_and_deletion(self, client: Client, as_job: JobClient) -> None:
        study = create(client, sampler="random", seed=3)
        with as_job(study.job_id) as job:
            assert list(client.studies.best("s")) == [] and client.studies.importance("s").shares == {}
            work(job, study, 12)
        trials = list(client.studies.trials("s"))
        (best,) = client.studies.best("s")
        assert best.values["loss"] == min(trial.values["loss"] for trial in trials)
        found = client.studies.importance("s", metric="loss")
        assert set(found.shares) == {"x", "y"} and abs(sum(found.shares.values()) - 1) < 1e-6 and found.trials == 12
        with pytest.raises(InvalidPayload, match="'acc' is no objective of study 's'; those are loss"):
            client.studies.importance("s", metric="acc")
        with pytest.raises(Conflict, match="runs: stop it"):
            client.studies.delete("s")
        client.studies.stop("s")
        client.studies.delete("s")
        with pytest.raises(NotFound):
            client.studies.get("s")
        assert client.runs.get(str(best.run_id)).state == "FINISHED"

    def test_the_cost_of_its_jobs_is_shown(self, client: Client) -> None:
        create(client)
        assert client.studies.get("s").spent.usd == 0.0
        assert next(iter(client.studies.list())).spent.usd is None
