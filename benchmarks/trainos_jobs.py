"""What a job costs above Ray: how soon its first line runs, and how fast it trains while the platform keeps metrics, checkpoints and the log.

``python -m benchmarks.trainos_jobs [--quick]``, on a platform of its own. The peer is the same Ray, asked through its Jobs API with its
token: the same directory as ``working_dir``, and the same training with Ray Train's ``TorchTrainer`` without AI-DOS. Both are asked by
their Python clients. A first line prints the time before anything is imported; a training tells the seconds of its steps, and ours has
uploaded its last checkpoint within them.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import time

import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from aidos.cli.job import read_log, upload_code
from aidos.cli.job_end import wait_for_end
from aidos.client import Client
from benchmarks.harness import Figure, in_turns, parse_arguments, report
from benchmarks.studies import started
from cluster.db import new_id
from tests.support.running import RunningPlatform
from tests.support.waiting import wait_until

FIRST_LINE = 'import time; print("TOLD", time.time(), flush=True)\n'
TRAIN = """
import contextlib, sys, time
import ray.train, torch
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn
import aidos

STEPS, WARM, EVERY = {steps}, 20, {every}
TRACKED = sys.argv[1] == "tracked"

def train(_):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = prepare_model(nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)))
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    inputs, target = torch.randn(256, 512), torch.randint(10, (256,))

    def write(folder):
        torch.save((module.state_dict(), optimizer.state_dict()), folder / "state.pt")

    with contextlib.ExitStack() as stack:
        run = stack.enter_context(aidos.run()) if TRACKED else None
        checkpoints = stack.enter_context(aidos.Checkpointer(keep_last=2)) if TRACKED else None
        for step in range(STEPS):
            if step == WARM:
                began = time.perf_counter()
            loss = nn.functional.cross_entropy(module(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            measured = loss.item()
            if TRACKED:
                run.log_metrics({{"loss": measured}}, step=step)
                if step % 10 == 0:
                    print("step", step, "loss", measured, flush=True)
                if (step + 1) % EVERY == 0:
                    checkpoints.save(write, step=step)
        if TRACKED:
            checkpoints.wait()
        print("TOLD", time.perf_counter() - began, flush=True)

scaling = ray.train.ScalingConfig(num_workers=1, resources_per_worker={{"CPU": 1}})
TorchTrainer(train, train_loop_config={{}}, scaling_config=scaling).fit()
"""


def main() -> int:
    """Measure, print the table and the figures; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0], rounds=7, trainings=3, steps=320)
    rounds, trainings, steps = (1, 1, 60) if arguments.quick else (arguments.rounds, arguments.trainings, arguments.steps)
    with tempfile.TemporaryDirectory(prefix="aidos-jobs-") as directory, started(Path(directory) / "home") as platform:
        asked = Asked(platform, Path(directory))
        began, training = FIRST_LINE, TRAIN.format(steps=steps, every=max(1, (steps - 20) // 2))
        asked.ours(began), asked.peer(began)  # what only the first job of a platform waits for
        first = in_turns({name: partial(until_first_line, of, began) for name, of in asked.both.items()}, rounds)
        took = in_turns(
            {name: partial(of, training, "tracked" if name == "ours" else "bare") for name, of in asked.both.items()}, trainings
        )
    peer, speed = f"ray {ray.__version__}", {name: (steps - 20) / seconds for name, seconds in took.items()}
    bars = (None, None) if arguments.quick else (1.2, 0.97)
    return report(
        [
            Figure("trainos.first_line", first["ours"], "s", peer, first["peer"], bars[0], lower_is_better=True),
            Figure("trainos.training", speed["ours"], "steps/s", f"{peer} TorchTrainer", speed["peer"], bars[1]),
        ]
    )


def until_first_line(run: Callable[[str], float], program: str) -> float:
    """Seconds from the call to the program's first line."""
    began = time()
    return run(program) - began


class Asked:
    """One platform's two doors: TrainOS, and Ray itself."""

    def __init__(self, platform: RunningPlatform, folder: Path) -> None:
        self._folder = folder
        self._client = Client(platform.url, platform.admin_key)
        token = (platform.home / "secrets/aidos_ray_token").read_text()
        dashboard = f"http://127.0.0.1:{platform.environment['AIDOS_RAY_DASHBOARD_PORT']}"
        self._ray = JobSubmissionClient(dashboard, headers={"Authorization": f"Bearer {token}"})
        self.both: dict[str, Callable[..., float]] = {"ours": self.ours, "peer": self.peer}

    def ours(self, program: str, *arguments: str) -> float:
        """What the program told, as a job of TrainOS."""
        code = upload_code(self._client, self._write(program))
        job = self._client.jobs.create(name="benchmark", command=["python", "main.py", *arguments], code_sha256=code)
        wait_for_end(self._client, str(job.id))
        return told(b"".join(read_log(self._client, str(job.id), follow=True)).decode())

    def peer(self, program: str, *arguments: str) -> float:
        """The same as a job of Ray."""
        entrypoint = " ".join([sys.executable, "main.py", *arguments])
        job = self._ray.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(self._write(program))}, entrypoint_num_cpus=1)
        ended = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}
        wait_until(lambda: self._ray.get_job_status(job) in ended, within_s=300, every_s=0.2)
        return told(self._ray.get_job_logs(job))

    def _write(self, program: str) -> Path:
        """A directory of its own, that nothing has seen before."""
        folder = self._folder / str(new_id())
        folder.mkdir()
        (folder / "main.py").write_text(f"# {folder.name}\n{program}")
        return folder


def told(log: str) -> float:
    """The number that a program printed. Raises: RuntimeError with its log where it printed none."""
    found = re.search(r"TOLD ([\d.]+)", log)
    if found is None:
        raise RuntimeError(log[-4000:])
    return float(found[1])


if __name__ == "__main__":
    sys.exit(main())
