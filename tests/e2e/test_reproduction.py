"""A training again in one command, on a whole platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
TRAIN = """
import sys
import torch
import aidos
from sklearn.datasets import load_digits
if sys.argv[1] != "none":
    torch.manual_seed(int(sys.argv[1]))
torch.set_num_threads(1)
images, digits = (torch.tensor(part) for part in load_digits(return_X_y=True))
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with aidos.run(params={"seed": sys.argv[1]}) as run:
    for step in range(50):
        batch = torch.randint(len(images), (64,))
        loss = torch.nn.functional.cross_entropy(model(images[batch].float() / 16), digits[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log_metrics({"loss": loss.item()}, step=step)
"""


class TestReproduce:
    @pytest.mark.parametrize(("seed", "code", "verdict"), [("7", 0, "AGREES"), ("none", 1, "DIFFERS")])
    def test_a_seeded_training_agrees_and_one_without_a_seed_does_not(
        self, platform: RunningPlatform, tmp_path: Path, seed: str, code: int, verdict: str
    ) -> None:
        (tmp_path / "train.py").write_text(TRAIN)
        job = platform.ask(
            "job", "submit", "--name", "linear", "--workers", "0", "--directory", str(tmp_path), "--", "python", "train.py", seed
        )
        platform.aidos("job", "wait", job["id"], timeout_s=200, check=True)
        ran = platform.aidos("run", "reproduce", job["run_id"], "--wait", "--json", timeout_s=200)
        assert ran.code == code, ran.err
        assert ran.json["verdict"] == verdict and ran.json["metrics"][0]["metric"] == "loss", ran.json
