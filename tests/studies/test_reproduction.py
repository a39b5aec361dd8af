"""A trial again, outside of its study: its command with its parameters as a job. The job's process is started here in the place of Ray's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aidos.client import Client
from aidos.schemas.studies import TrialRead
from tests.studies.examples import ask_for
from tests.support.tenant import JobClient
from tune.studies.child import Child
from tune.studies.train_loop import StudySearcher
from tune.studies.worker import attend_trial
from tune.trainos.reproduction.errors import RunNotReproducible

pytestmark = pytest.mark.postgres

TRAIN = """
import random, sys
import aidos

trial = aidos.trial()
assert sys.argv[1] == trial.params["optimizer"]
noise = random.Random(trial.params["layers"])
for step in range(3):
    trial.report(step, {"loss": noise.random() / (step + 1), "acc": step})
"""
SPACE = {"layers": {"kind": "int", "low": 1, "high": 9}, "optimizer": {"kind": "categorical", "choices": ["adam", "it's {layers}"]}}
PARAMS = {"layers": 7, "optimizer": "adam"}


@pytest.fixture
def train(client: Client, as_job: JobClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrialRead]:
    """A trial of a new study, run as the study's worker runs it."""
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.delenv("AIDOS_API_KEY")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)

    def run(**fields: Any) -> TrialRead:
        study = client.studies.create(ask_for(space=SPACE, command=["python", "train.py", "{optimizer}"], seed=1, **fields))
        with as_job(study.job_id) as job, closing(Child()) as child:
            monkeypatch.setenv("AIDOS_TOKEN_FILE", keep_token(job, tmp_path))
            trial, _ = attend_trial(job, child, StudySearcher(job, job.studies.start("s")).suggest("a"))
        assert trial is not None and trial.state == "COMPLETE", trial
        return trial

    return run


def keep_token(job: Client, folder: Path) -> str:
    token = folder / "token"
    token.write_text(str(job.config.api_key))
    return str(token)


class TestReproduce:
    def test_a_trial_comes_out_the_same_as_a_job_with_its_parameters(
        self, client: Client, as_job: JobClient, train: Callable[..., TrialRead], tmp_path: Path
    ) -> None:
        trial = train(cpus_per_trial=2)
        job = client.runs.reproduce(str(trial.run_id))
        assert (job.name, job.spec.driver_cpus, job.spec.workers) == ("s-0", 2, 0)
        own = {"AIDOS_JOB_ID": str(job.id), "AIDOS_RUN_ID": str(job.run_id), "AIDOS_TOKEN_FILE": keep_token(as_job(job.id), tmp_path)}
        subprocess.run(job.spec.command, env={**os.environ, **own}, check=True, timeout=60)
        client.runs.update(str(job.run_id), state="FINISHED")
        report = client.runs.reproduction(str(job.run_id))
        assert (report.verdict, report.reason) == ("AGREES", "")
        assert {each.metric: each.original for each in report.metrics} == trial.values
        assert [point.step for point in client.runs.history(str(job.run_id), key="loss")] == [0, 1, 2]
        assert client.runs.get(str(job.run_id)).params == client.runs.get(str(trial.run_id)).params
        assert "params" not in {each.section for each in report.differs}

    @pytest.mark.parametrize(
        ("fields", "told", "said"),
        [
            ({"gpus_per_trial": 1}, {}, "which had a GPU.*aidos study trial s 1"),
            ({"sampler": "pbt"}, {"member": 0, "parent": 0}, "which went on from another trial's checkpoint"),
            ({}, None, "which is RUNNING and did not come to its own end"),
        ],
    )
    def test_is_refused_where_a_job_could_not_do_the_same(
        self, client: Client, as_job: JobClient, fields: dict[str, Any], told: dict[str, Any] | None, said: str
    ) -> None:
        study = client.studies.create(ask_for(space=SPACE, **fields))
        with as_job(study.job_id) as job:
            for origin in ({}, told or {}):
                trial = job.studies.begin_trial("s", params=PARAMS, space_version=1, **origin)
            if told is not None:
                job.studies.finish_trial("s", "1", attempt=1, exit_code=1)
        with pytest.raises(RunNotReproducible, match=f"trial 1 of study 's', {said}"):
            client.runs.reproduce(str(trial.run_id))
