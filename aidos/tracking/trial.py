"""``aidos.trial()``: what a training asks of the study that it is a trial of.

trial = aidos.trial()
rate = trial.params.get("lr", 0.1)
for step in range(100):
    if trial.report(step, loss):
        break

Outside of a study it has no parameters and is never to stop, so that the same script runs by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aidos.client import Client
from aidos.config import TrialConfig
from aidos.config import trial as read_trial


def trial(client: Client | None = None) -> ActiveTrial:
    """The trial that this process belongs to."""
    return ActiveTrial(read_trial(), client)


class ActiveTrial:
    """A trial at work. ``params``: its parameters by name; ``number``: which it is of its study, None outside of one."""

    def __init__(self, config: TrialConfig, client: Client | None = None) -> None:
        self.study, self.number, self.params = config.study, config.number, dict(config.params)
        self._config, self._client = config, client

    def report(self, step: int, value: float | Mapping[str, float]) -> bool:
        """Say what was measured at a step: the value of the (first) objective, or values by metric; whether the trial is to end now.

        Its last values are those that the trial is judged by. They become metrics of the trial's run too.
        Raises: TrialNotRunning where the study was stopped or the trial has begun anew elsewhere; InvalidPayload.
        """
        if self.study is None:
            return False
        self._client = self._client or Client()
        values: Any = value if isinstance(value, Mapping) else {self._config.metric: value}
        asked = {name: float(each) for name, each in values.items()}
        return self._client.studies.report_trial(self.study, str(self.number), attempt=self._config.attempt, step=step, values=asked).stop

    def __repr__(self) -> str:
        return f"<trial {self.number} of {self.study}: {self.params}>" if self.study else "<no trial>"
