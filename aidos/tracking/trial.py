"""``aidos.trial()``: what a training asks of the study that it is a trial of.

trial = aidos.trial()
rate = trial.params.get("lr", 0.1)
for step in range(100):
    if trial.report(step, loss):
        break

Outside of a study it has no parameters and is never to stop, so that the same script runs by itself. A job that reproduces a trial has its
parameters, and what it reports becomes metrics of the job's run.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from aidos.client import Client
from aidos.config import TrialConfig
from aidos.config import job as read_job
from aidos.config import trial as read_trial
from aidos.http.operation import checked
from aidos.http.wire import Reply
from aidos.schemas.modelhub import PointLog
from aidos.schemas.studies import MAX_MEASURED, Measured
from aidos.tracking.point_buffer import BATCH_POINTS

PAUSE_S = 1.0
"""Between two requests of a trial that no pruner judges."""


def trial(client: Client | None = None) -> ActiveTrial:
    """The trial that this process belongs to."""
    return ActiveTrial(read_trial(), client)


def prepare() -> None:
    """Load all that a report needs, in an interpreter that trials are to be forked from. Nothing is sent."""
    for name in ("encodings.idna", "h11", "httpcore"):  # what httpx loads with its first request
        importlib.import_module(name)
    with Client() as client:
        operation = client.studies.report_trial.operation
        operation.build(("study", "0"), {"attempt": 1, "measured": [Measured(step=0, values={"loss": 0.0})]})
        operation.read(Reply(200, {}, b'{"stop": false}'))


def leave_reports(file: Path, measured: list[Measured]) -> None:
    """For whoever waits for the program's end; in one write, since other processes of the trial may do so too."""
    lines = [json.dumps(each.model_dump()) + "\n" for each in measured]
    with file.open("ab", buffering=0) as kept:
        kept.write("".join(lines).encode())


def read_reports(file: Path) -> list[Measured]:
    """What the trial's processes left, but for a line that was never finished."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [Measured(**json.loads(line)) for line in lines if line.endswith("\n")]


class ActiveTrial:
    """A trial at work. ``params``: its parameters by name; ``number``: which it is of its study, None outside of one."""

    def __init__(self, config: TrialConfig, client: Client | None = None) -> None:
        self.study, self.number, self.params = config.study, config.number, dict(config.params)
        self._config, self._client = config, client
        self._unsent: list[Measured] = []
        self._refusal: Exception | None = None
        self._lock, self._turn = threading.Lock(), threading.Lock()

    @cached_property
    def checkpoint(self) -> Path:
        """A folder: what is in it at the beginning is the state to go on from, what is in it at the end the next trial goes on from.

        With the sampler ``pbt`` a trial is one stretch of the training of one member of the population. Elsewhere it begins empty.
        """
        return Path(self._config.checkpoint or tempfile.mkdtemp(prefix="aidos-trial-"))

    def report(self, step: int, value: float | Mapping[str, float]) -> bool:
        """Say what was measured at a step: the value of the (first) objective, or values by metric; whether the trial is to end now.

        Its last values are those that the trial is judged by. They become metrics of the trial's run too. In a study without a pruner
        nothing is to be decided, and the trial goes on: reports are sent once a second, the last with the word that the program has
        ended. What they are refused for is raised by a later one.
        Raises: TrialNotRunning where the study was stopped or the trial has begun anew elsewhere; InvalidPayload.
        """
        if not self._config.metric:
            return False
        values: Any = value if isinstance(value, Mapping) else {self._config.metric: value}
        measured = checked(Measured, {"step": step, "values": {name: float(each) for name, each in values.items()}})
        if self._config.judged:
            return self._send([measured])
        with self._lock:
            if self._refusal:
                refusal, self._refusal = self._refusal, None
                raise refusal
            self._unsent.append(measured)
            first = len(self._unsent) == 1
        if first:
            # Not a daemon: the interpreter does not end before it.
            threading.Thread(target=self._send_unsent, name="aidos-reports").start()
        return False

    def _send_unsent(self) -> None:
        threading.main_thread().join(PAUSE_S)  # no longer than the program has something to do
        with self._turn:
            with self._lock:
                measured, self._unsent = self._unsent, []
            try:
                if self._config.last_reports and not threading.main_thread().is_alive():
                    return leave_reports(Path(self._config.last_reports), measured)
                for start in range(0, len(measured), MAX_MEASURED):
                    self._send(measured[start : start + MAX_MEASURED])
            except Exception as error:
                self._refusal = error
                atexit.register(self._fail)

    def _send(self, measured: list[Measured]) -> bool:
        self._client = self._client or Client()
        if self.study is None:
            points = [PointLog(key=name, value=value, step=each.step) for each in measured for name, value in each.values.items()]
            for start in range(0, len(points), BATCH_POINTS):
                self._client.runs.log_metrics(str(read_job().run_id), points=points[start : start + BATCH_POINTS])
            return False
        return self._client.studies.report_trial(str(self.study), str(self.number), attempt=self._config.attempt, measured=measured).stop

    def _fail(self) -> None:
        """A program whose last report was refused has failed, though it has come to its end."""
        if error := self._refusal:
            sys.excepthook(type(error), error, error.__traceback__)
            sys.stderr.flush()
            os._exit(1)

    def __repr__(self) -> str:
        return f"<trial {self.number} of {self.study}: {self.params}>" if self.study else "<no trial>"
