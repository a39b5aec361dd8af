"""A study on Ray Tune: which trial comes next, where it runs, and what becomes of one whose worker is lost.

Tune places trials, keeps as many at work as the study may, and begins one again on another node. What to try and what came out is in
PostgreSQL behind the API: Tune's own state of the experiment is never read back.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import optuna
from ray import tune as ray_tune
from ray.tune.search import Searcher

from aidos.client import Client
from aidos.schemas.studies import PrunerKind, Sampler, StudyRead, TrialRead
from tune.studies.checkpoints import checkpoint_prefix
from tune.studies.child import KILLED
from tune.studies.errors import BudgetSpent, SearchBroke, SpaceChanged, StudyNotRunning, TrialNotRunning
from tune.studies.policy import build_command
from tune.studies.population import Population
from tune.studies.search import Search
from tune.studies.worker import TrialRunner

LOST = -1
"""Exit code of a trial whose worker was lost more often than WORKER_RETRIES."""
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
        self._waiting.extend(trial for trial in self._trials.values() if trial.state == "WAITING")

    def _look(self, study: StudyRead) -> None:
        self._study = study
        self._trials = {trial.number: trial for trial in self._client.studies.trials(self._id)}
        rows = list(self._trials.values())
        self._search = Search(study, rows)
        self._population = Population(study, rows) if study.sampler is Sampler.PBT else None

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
        if begun is None and self._population is not None:
            return None  # all members are at work
        if begun is None:
            self.over = "every point of the grid was tried"
            return Searcher.FINISHED
        self._live[trial_id] = begun.number
        self._note(begun)
        return self._build_config(begun)

    def begin_again(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of another attempt of a trial whose worker was lost, None where it has ended all the same.

        What the lost worker wrote and may still write belongs to the attempt of before.
        """
        known = self._trials[self._live[trial_id]]
        try:
            begun = self._client.studies.begin_trial(
                self._id, number=known.number, lost=known.attempt, space_version=self._study.space_version
            )
        except (StudyNotRunning, TrialNotRunning):
            return None
        self._note(begun)
        return self._build_config(begun)

    def _build_config(self, trial: TrialRead) -> dict[str, Any]:
        return build_config(self._study, trial, None if trial.parent is None else self._trials[trial.parent])

    def _note(self, trial: TrialRead) -> None:
        self._trials[trial.number] = trial
        if self._population is not None:
            self._population.note(trial)

    def _begin(self) -> TrialRead | None:
        if self._waiting:
            known = self._waiting.popleft()
            return self._client.studies.begin_trial(self._id, number=known.number, space_version=self._study.space_version)
        while (asked := self._ask()) is not None:
            params, memory, origin = asked
            try:
                begun = self._client.studies.begin_trial(self._id, params=params, space_version=self._study.space_version, **origin)
            except SpaceChanged:
                self._look(self._client.studies.get(self._id))
                continue
            self._search.begin(begun.number, params, memory)
            return begun
        return None

    def _ask(self) -> tuple[dict[str, Any], optuna.Trial | None, dict[str, int | None]] | None:
        """Parameters, what the search is to be told when the trial begins, and where in a population it stands."""
        if self._population is not None:
            turn = self._population.ask()
            return None if turn is None else (turn.params, None, {"member": turn.member, "parent": turn.parent})
        asked = self._search.ask()
        return None if asked is None else (*asked, {})

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune is done with it, by its result or because its worker was lost too often."""
        number = str(self._live.pop(trial_id))
        lost = {"trial": None, "last_line": "its worker was lost again and again"}
        ended = lost if error or result is None else result
        if ended["trial"] is not None:
            trial = TrialRead.model_validate_json(ended["trial"])
        else:
            trial = self._client.studies.trial(self._id, number)
            code = LOST if ended is lost else KILLED
            if trial.state == "RUNNING":
                trial = self._client.studies.finish_trial(
                    self._id, number, attempt=trial.attempt, exit_code=code, last_line=ended["last_line"]
                )
        if trial.state not in {"RUNNING", "WAITING"}:
            self._search.tell(trial)
            self._note(trial)

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


class WorkerLost(ray_tune.Callback):
    """Tells the searcher of a trial that Tune is about to begin again on another worker."""

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial.config.update(self._searcher.begin_again(trial.trial_id) or {})


def build_config(study: StudyRead, trial: TrialRead, parent: TrialRead | None = None) -> dict[str, Any]:
    """All that a worker needs to know of a trial, and of the one whose checkpoint it begins from."""
    which = {"study": str(study.id), "number": trial.number, "attempt": trial.attempt, "run": str(trial.run_id)}
    which["parent"] = parent and (str(parent.run_id), checkpoint_prefix(parent.attempt))
    return {**which, "command": build_command(study.command, study.space, trial.params), "environment": build_environment(study, trial)}


def build_environment(study: StudyRead, trial: TrialRead) -> dict[str, str]:
    """What the trial's processes find beside what the job's find: the trial's run as theirs, and ``AIDOS_TRIAL``."""
    told = {"study": str(study.id), "number": trial.number, "attempt": trial.attempt, "params": trial.params}
    told |= {"metric": study.objectives[0].metric, "judged": study.pruner.kind is not PrunerKind.NONE}
    return {"AIDOS_RUN_ID": str(trial.run_id), "AIDOS_TRIAL": json.dumps(told)}


def run_study(client: Client, study: StudyRead, storage: str) -> str:
    """Try until nothing is left to try; why it is over. Raises: SearchBroke."""
    searcher = StudySearcher(client, study)
    resources = {"cpu": study.cpus_per_trial, "gpu": study.gpus_per_trial, "memory": study.memory_gib_per_trial * _GIB}
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(TrialRunner, resources),
        tune_config=ray_tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True),
        run_config=ray_tune.RunConfig(
            name="study",
            storage_path=storage,
            verbose=0,
            callbacks=[WorkerLost(searcher)],
            failure_config=ray_tune.FailureConfig(max_failures=WORKER_RETRIES),
            # Unasked, Tune would save what it calls a trial's state when it ends, and there is none.
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
    if searcher.over is None:
        raise SearchBroke(name=study.name)
    return searcher.over
