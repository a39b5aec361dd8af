"""``aidos.trial()``: what a training asks of the study that it is a trial of.

trial = aidos.trial()
rate = trial.params.get("lr", 0.1)
for step in range(100):
    if trial.report(step, loss):
        break

Outside of a study it has no parameters and is never to stop, so that the same script runs by itself.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from aidos.client import Client
from aidos.config import TrialConfig
from aidos.config import trial as read_trial
from aidos.http.wire import Reply


def trial(client: Client | None = None) -> ActiveTrial:
    """The trial that this process belongs to."""
    return ActiveTrial(read_trial(), client)


def prepare() -> None:
    """Load all that a report needs, in an interpreter that trials are to be forked from. Nothing is sent."""
    for name in ("encodings.idna", "h11", "httpcore"):  # what httpx loads with its first request
        importlib.import_module(name)
    with Client() as client:
        operation = client.studies.report_trial.operation
        operation.build(("study", "0"), {"attempt": 1, "step": 0, "values": {"loss": 0.0}})
        operation.read(Reply(200, {}, b'{"stop": false}'))


class ActiveTrial:
    """A trial at work. ``params``: its parameters by name; ``number``: which it is of its study, None outside of one."""

    def __init__(self, config: TrialConfig, client: Client | None = None) -> None:
        self.study, self.number, self.params = config.study, config.number, dict(config.params)
        self._config, self._client = config, client
        self._sending: Future[bool] | None = None

    @cached_property
    def checkpoint(self) -> Path:
        """A folder: what is in it at the beginning is the state to go on from, what is in it at the end the next trial goes on from.

        With the sampler ``pbt`` a trial is one stretch of the training of one member of the population. Elsewhere it begins empty.
        """
        return Path(self._config.checkpoint or tempfile.mkdtemp(prefix="aidos-trial-"))

    def report(self, step: int, value: float | Mapping[str, float]) -> bool:
        """Say what was measured at a step: the value of the (first) objective, or values by metric; whether the trial is to end now.

        Its last values are those that the trial is judged by. They become metrics of the trial's run too. In a study without a pruner
        nothing is to be decided, and the trial goes on while the report is sent; what it is refused for is raised by the next one.
        Raises: TrialNotRunning where the study was stopped or the trial has begun anew elsewhere; InvalidPayload.
        """
        if self.study is None:
            return False
        values: Any = value if isinstance(value, Mapping) else {self._config.metric: value}
        asked = {name: float(each) for name, each in values.items()}
        if self._config.judged:
            return self._send(step, asked)
        if self._sending is None:
            self._sender = ThreadPoolExecutor(1, "aidos-reports")
            atexit.register(self._await_last)
        else:
            self._sending.result()
        self._sending = self._sender.submit(self._send, step, asked)
        return False

    def _send(self, step: int, values: dict[str, float]) -> bool:
        self._client = self._client or Client()
        return self._client.studies.report_trial(
            str(self.study), str(self.number), attempt=self._config.attempt, step=step, values=values
        ).stop

    def _await_last(self) -> None:
        """A program whose last report was refused has failed, though it has come to its end."""
        assert self._sending is not None
        if error := self._sending.exception():
            sys.excepthook(type(error), error, error.__traceback__)
            sys.stderr.flush()
            os._exit(1)

    def __repr__(self) -> str:
        return f"<trial {self.number} of {self.study}: {self.params}>" if self.study else "<no trial>"
