"""A study on a whole platform whose driver is killed in the middle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TRIALS, STEPS = 8, 3
TRAIN = """
import sys
import time
import aidos

trial = aidos.trial()
x, witness = float(sys.argv[1]), sys.argv[2]
for step in range({steps}):
    time.sleep(0.3)  # the training
    trial.report(step, (x - 3) ** 2 + 1 / (step + 1))
with open(witness, "a") as ended:
    print(trial.number, file=ended)
"""


class TestDriver:
    def test_that_is_killed_costs_no_trial_that_ended_and_has_none_counted_twice(self, platform: RunningPlatform, tmp_path: Path) -> None:
        witness = tmp_path / "ended"
        witness.touch()
        code = tmp_path / "code"
        code.mkdir()
        (code / "train.py").write_text(TRAIN.format(steps=STEPS))
        words = ("--name", "parabola", "--objective", "minimize:loss", "--param", "x=-5..10.5", "--trials", str(TRIALS),
                 "--cpus-per-trial", "0.5", "--", "python", "train.py", "{x}", str(witness))  # fmt: skip
        study = platform.ask("study", "create", *words, cwd=code)

        wait_until(lambda: len(witness.read_text().split()) >= 3, within_s=120)
        assert platform.kill("tune.studies.run", study["id"])
        before = {trial["number"]: trial for trial in platform.ask("study", "trials", "parabola", "--state", "COMPLETE")}
        assert 0 < len(before) < TRIALS, "it was killed in the middle"

        done = platform.ask("study", "wait", "parabola", timeout_s=120)
        assert (done["state"], done["trials"]) == ("FINISHED", {"COMPLETE": TRIALS}), done["reason"]
        assert done["job_id"] != study["job_id"], "another job went on"
        after = {trial["number"]: trial for trial in platform.ask("study", "trials", "parabola")}
        assert sorted(after) == list(range(TRIALS)) and len({trial["run_id"] for trial in after.values()}) == TRIALS
        assert {number: after[number] for number in before} == before, "what had ended stays as it was"
        ended = Counter(map(int, witness.read_text().split()))
        assert set(ended) == set(after) and {ended[number] for number in before} == {1}, "and was not done again"
        last = max(before)
        for trial in (after[last], after[last + 1]):  # the last that ended, and the one that was at work
            points = platform.ask("run", "history", trial["run_id"], "--key", "loss")
            assert [point["step"] for point in points] == list(range(STEPS))
            assert trial["values"]["loss"] == points[-1]["value"] == pytest.approx((trial["params"]["x"] - 3) ** 2 + 1 / STEPS)
