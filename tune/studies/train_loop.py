"""A study on Ray Tune: which trial comes next, where it runs, and what becomes of one whose worker is lost.

Tune places trials, keeps as many at work as the study may, and begins one again on another node. What to try and what came out is in
PostgreSQL behind the API: Tune's own state of the experiment is never read back.
"""

from __future__ import annotations

import json
import re
import signal
from collections import deque
from typing import Any

from ray import tune as ray_tune
from ray.tune.search import Searcher

from aidos.client import Client
from aidos.schemas.studies import StudyRead, TrialRead
from tune.studies.child import run_command
from tune.studies.errors import BudgetSpent, SearchBroke, SpaceChanged, StudyNotRunning
from tune.studies.search import Search
from tune.trainos.job_environment import build_command_environment

LOST = -1
"""Exit code of a trial whose worker was lost more often than WORKER_RETRIES."""
KILLED = 128 + signal.SIGKILL
WORKER_RETRIES = 3
_GIB = 2**30


class StudySearcher(Searcher):
    """Chooses trials for Tune and remembers how they came out; ``over`` says why it has no more."""

    def __init__(self, client: Client, study: StudyRead) -> None:
        super().__init__()
        self._client, self._id = client, str(study.id)
        self._live: dict[str, int] = {}
        self.over: str | None = None
        self._waiting: deque[TrialRead] = deque()
        self._look(study)
        self._waiting.extend(trial for trial in self._trials if trial.state == "WAITING")

    def _look(self, study: StudyRead) -> None:
        self._study, self._trials = study, list(self._client.studies.trials(self._id))
        self._search = Search(study, self._trials)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, None while enough are at work, FINISHED after the last."""
        if self.over is not None:
            return Searcher.FINISHED
        if len(self._live) >= self._study.parallelism:
            return None
        try:
            begun = self._begin()
        except (BudgetSpent, StudyNotRunning) as ends:
            self.over = str(ends.fields.get("reason") or ends)
            return Searcher.FINISHED
        if begun is None:
            self.over = "every point of the grid was tried"
            return Searcher.FINISHED
        self._live[trial_id] = begun.number
        return {"study": self._id, "number": begun.number, "attempt": begun.attempt}

    def _begin(self) -> TrialRead | None:
        if self._waiting:
            known = self._waiting.popleft()
            return self._client.studies.begin_trial(self._id, number=known.number, space_version=self._study.space_version)
        while (asked := self._search.ask()) is not None:
            params, memory = asked
            try:
                begun = self._client.studies.begin_trial(self._id, params=params, space_version=self._study.space_version)
            except SpaceChanged:
                self._look(self._client.studies.get(self._id))
                continue
            self._search.begin(begun.number, params, memory)
            return begun
        return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune is done with it, by its result or because its worker was lost too often."""
        number = self._live.pop(trial_id)
        if result is not None and "trial" in result:
            trial, exit_code, last_line = TrialRead.model_validate_json(result["trial"]), KILLED, result["last_line"]
        else:
            trial, exit_code, last_line = self._client.studies.trial(self._id, str(number)), LOST, "its worker was lost again and again"
        if trial.state == "RUNNING":
            trial = self._client.studies.finish_trial(
                self._id, str(number), attempt=trial.attempt, exit_code=exit_code, last_line=last_line
            )
        self._search.tell(trial)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial reports to the platform, not to Tune."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing of it is for Tune to keep: a search that goes on reads the study's rows."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing."""


def run_trial(config: dict[str, Any]) -> None:
    """In a worker: one trial to its end."""
    with Client() as client:
        trial, last_line = attend_trial(client, config["study"], config["number"], config["attempt"])
        ray_tune.report({"trial": trial.model_dump_json(), "last_line": last_line})


def attend_trial(client: Client, study_id: str, number: int, attempt: int) -> tuple[TrialRead, str]:
    """Run the study's command with the trial's parameters; how it came out, and its last line.

    What another worker has ended is left as it is. So is the trial of a command that was killed, for the driver to end: when a driver
    dies, Ray kills its workers' children before the workers, and one that was told of the first would call the trial failed.
    """
    study, trial = client.studies.get(study_id), client.studies.trial(study_id, str(number))
    if trial.state != "RUNNING" or trial.attempt != attempt:
        return trial, ""
    code, printed = run_command(build_command(study, trial), build_environment(study, trial))
    last_line = printed[:1000]
    if code == KILLED:
        return trial, last_line
    return client.studies.finish_trial(study_id, str(number), attempt=attempt, exit_code=code, last_line=last_line), last_line


def build_command(study: StudyRead, trial: TrialRead) -> list[str]:
    """The command with ``{name}`` replaced by the parameter's value; a parameter that the trial has not leaves nothing."""
    texts = dict.fromkeys(study.space, "") | {name: to_text(value) for name, value in trial.params.items()}
    names = re.compile("{(" + "|".join(map(re.escape, texts)) + ")}")
    return [names.sub(lambda found: texts[found.group(1)], word) for word in study.command]


def to_text(value: Any) -> str:
    """A parameter on a command line: text as it is, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def build_environment(study: StudyRead, trial: TrialRead) -> dict[str, str]:
    """What the trial's processes find: all that the job's find, the trial's run as theirs, and ``AIDOS_TRIAL``."""
    told = {"study": str(study.id), "number": trial.number, "attempt": trial.attempt, "params": trial.params}
    told["metric"] = study.objectives[0].metric
    return build_command_environment(None) | {"AIDOS_RUN_ID": str(trial.run_id), "AIDOS_TRIAL": json.dumps(told)}


def run_study(client: Client, study: StudyRead, storage: str) -> str:
    """Try until nothing is left to try; why it is over. Raises: SearchBroke."""
    searcher = StudySearcher(client, study)
    resources = {"cpu": study.cpus_per_trial, "gpu": study.gpus_per_trial, "memory": study.memory_gib_per_trial * _GIB}
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(run_trial, resources),
        tune_config=ray_tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True),
        run_config=ray_tune.RunConfig(
            name="study", storage_path=storage, verbose=0, failure_config=ray_tune.FailureConfig(max_failures=WORKER_RETRIES)
        ),
    )
    tuner.fit()
    if searcher.over is None:
        raise SearchBroke(name=study.name)
    return searcher.over
