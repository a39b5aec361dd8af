"""What a trial of a study costs above plain Ray Tune with Optuna: the same work, on the same platform, each as a job of TrainOS, in turns.

The peer is a function in Ray Tune's own warm workers that reports to Tune. Ours is a command by the product's whole way: ``aidos study
create``, the queue, a row and a run for each trial, its reports as metrics. Both work for about ``--work-s`` seconds of processor and
report five times. A trial's time is from its beginning to that of the next one, so that nothing between them is left out.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray

from benchmarks.harness import Figure, in_turns, parse_arguments, report
from cluster.db import new_id
from tests.support.running import RunningPlatform

REPORTS, BAR, UNIT = 5, 1.05, 20_000
# What both do between two reports.
_WORK = """
def work(units):
    total = 0.0
    for each in range(units * {unit}):
        total += each * 1e-9
    return total
"""
_OURS = """
import sys
import aidos
from work import work

trial = aidos.trial()
for step in range({reports}):
    work({units})
    if trial.report(step, trial.params["x"] ** 2):
        break
"""
_PEER = """
import json, os, sys, time
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from work import work

class Search(OptunaSearch):
    begun = []
    def suggest(self, trial_id):
        found = super().suggest(trial_id)
        if isinstance(found, dict):
            self.begun.append(time.time())
        return found

def train(config):
    for step in range({reports}):
        work({units})
        tune.report({{"loss": config["x"] ** 2}})

tuner = tune.Tuner(
    tune.with_resources(train, {{"cpu": 1}}),
    tune_config=tune.TuneConfig(search_alg=Search({{"x": tune.uniform(-5, 5)}}, metric="loss", mode="min"), num_samples={trials},
                                max_concurrent_trials={parallelism}, reuse_actors=True),
    run_config=tune.RunConfig(storage_path=os.path.abspath("results"), verbose=0),
)
tuner.fit()
print(json.dumps({{"begun": Search.begun}}))
"""


def main() -> int:
    """Measure, print the table and the figures; 1 when the bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0], trials=20, work_s=1.0, rounds=3)
    trials, rounds = (6, 1) if arguments.quick else (arguments.trials, arguments.rounds)
    peer, figures = f"ray {ray.__version__} with OptunaSearch", []
    with tempfile.TemporaryDirectory(prefix="aidos-studies-") as directory, started(Path(directory) / "home") as platform:
        units = calibrate(arguments.work_s / REPORTS)
        for parallelism in (1, 2):
            subjects = {
                "ours": partial(run_ours, platform, Path(directory), trials, parallelism, units),
                "peer": partial(run_peer, platform, Path(directory), trials, parallelism, units),
            }
            found = in_turns(subjects, rounds)
            figures += [
                Figure(f"studies.trial_at_{parallelism}", found["ours"], "s", peer, found["peer"], None if arguments.quick else BAR, True),
                Figure(f"studies.overhead_at_{parallelism}", (found["ours"] - found["peer"]) * 1000, "ms a trial"),
            ]
    return report(figures)


@contextmanager
def started(home: Path) -> Iterator[RunningPlatform]:
    """A platform of its own."""
    platform = RunningPlatform.at(home)
    try:
        platform.up()
        yield platform
    finally:
        platform.down()
        shutil.rmtree(home, ignore_errors=True)


def calibrate(seconds: float) -> int:
    """How many units of work take so long on one core of this machine."""
    names: dict[str, Any] = {}
    exec(_WORK.format(unit=UNIT), names)  # noqa: S102 — the program's own text, as the trials run it
    work, took = names["work"], []
    for _ in range(5):
        began = time.process_time()
        work(20)
        took.append((time.process_time() - began) / 20)
    return max(1, round(seconds / statistics.median(took)))


def write(folder: Path, program: str) -> Path:
    """A directory with the program and its work."""
    target = folder / f"code-{new_id()}"
    target.mkdir()
    (target / "work.py").write_text(_WORK.format(unit=UNIT))
    (target / "train.py").write_text(program)
    return target


def run_ours(platform: RunningPlatform, folder: Path, trials: int, parallelism: int, units: int) -> float:
    """Seconds a trial of a study."""
    name = f"bench-{new_id().hex[-8:]}"
    words = ("--name", name, "--objective", "minimize:loss", "--param", "x=-5.0..5.0", "--trials", str(trials),
             "--parallelism", str(parallelism), "--", "python", "train.py")  # fmt: skip
    platform.ask("study", "create", *words, cwd=write(folder, _OURS.format(reports=REPORTS, units=units)))
    platform.ask("study", "wait", name, timeout_s=600)
    begun = [datetime.fromisoformat(trial["started_at"]).timestamp() for trial in platform.ask("study", "trials", name)]
    return period(begun)


def run_peer(platform: RunningPlatform, folder: Path, trials: int, parallelism: int, units: int) -> float:
    """Seconds a trial of Ray Tune."""
    code = write(folder, _PEER.format(reports=REPORTS, units=units, trials=trials, parallelism=parallelism))
    words = ("--name", code.name, "--workers", str(parallelism), "--driver-cpus", "0.25", "--follow", "--", "python", "train.py")
    printed = platform.aidos("job", "submit", *words, cwd=code, timeout_s=600, check=True).out
    return period(next(json.loads(line) for line in printed.splitlines() if line.startswith('{"begun"'))["begun"])


def period(begun: Sequence[float]) -> float:
    """Seconds from one beginning to the next."""
    return (max(begun) - min(begun)) / (len(begun) - 1)


if __name__ == "__main__":
    sys.exit(main())
