"""A worker of a study: runs trials one after the other. It knows nothing of the search, so that it begins without what searches."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.result import DONE

from actors.modelhub.errors import RunEnded, RunNotFound
from aidos.client import Client
from aidos.schemas.studies import MAX_MEASURED, Measured, TrialRead
from aidos.tracking.trial import read_reports
from tune.studies.checkpoints import fetch_checkpoint, keep_checkpoint
from tune.studies.child import KILLED, Child
from tune.studies.errors import TrialNotRunning
from tune.trainos.job_environment import build_command_environment


class TrialRunner(ray_tune.Trainable):
    """In a worker: one trial after the other, each to its end in one step."""

    def setup(self, config: dict[str, Any]) -> None:
        self._client, self._child = Client(), Child()

    def step(self) -> dict[str, Any]:
        trial, last_line = attend_trial(self._client, self._child, self.config)
        return {"trial": trial and trial.model_dump_json(), "last_line": last_line, DONE: True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial comes to this worker."""
        return True

    def cleanup(self) -> None:
        self._child.close()
        self._client.close()


def attend_trial(client: Client, child: Child, config: Mapping[str, Any]) -> tuple[TrialRead | None, str]:
    """Run the study's command with the trial's parameters; how it came out, and its last line.

    What another worker has ended stays as it is. The trial of a command that was killed is left to the driver, None here: when a driver
    dies, Ray kills its workers' children before the workers, and one that was told of the first would call the trial failed.
    """
    with tempfile.TemporaryDirectory(prefix="aidos-trial-") as folder:
        checkpoint, reports = Path(folder, "checkpoint"), Path(folder, "reports")
        checkpoint.mkdir()
        own = {"AIDOS_TRIAL_CHECKPOINT": str(checkpoint), "AIDOS_TRIAL_LAST_REPORTS": str(reports)}
        environment = build_command_environment() | config["environment"] | own
        fetch_checkpoint(client, config["parent"], checkpoint)
        code, printed = child.run(config["command"], environment)
        last_line = printed[:1000]
        if code == KILLED:
            return None, last_line
        if code == 0:
            try:
                keep_checkpoint(client, config, checkpoint)
            except (RunEnded, RunNotFound) as refused:  # by its user, or by the worker that took the trial over
                code, last_line = 1, str(refused)[:1000]
        return _finish(client, config, code, last_line, read_reports(reports)), last_line


def _finish(client: Client, config: Mapping[str, Any], code: int, last_line: str, measured: Sequence[Measured]) -> TrialRead:
    """Say how it ended, and what it measured last."""
    study, number, attempt = config["study"], str(config["number"]), config["attempt"]
    *earlier, last = [measured[start : start + MAX_MEASURED] for start in range(0, max(1, len(measured)), MAX_MEASURED)]
    try:
        for each in earlier:
            with contextlib.suppress(RunEnded, RunNotFound):  # by its user: its last values count all the same
                client.studies.report_trial(study, number, attempt=attempt, measured=each)
        return client.studies.finish_trial(study, number, attempt=attempt, exit_code=code, last_line=last_line, measured=last)
    except TrialNotRunning:
        return client.studies.trial(study, number)
