"""The workers of a recipe: as many as the job has, begun again by Ray Train when one of them dies."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray.data
import ray.train
import ray.train.collective
from ray.data import ExecutionOptions

import aidos
from aidos.errors import InvalidRequest
from aidos.schemas.recipes import Gradient, Recipe
from aidos.streaming.consumed import Consumed

_FAILURES = 3
# Reading waits for the store more than it computes, and the job's CPUs are all leased by its workers.
TASK_OPTIONS: dict[str, Any] = {"num_cpus": 0, "compute": ray.data.TaskPoolStrategy(size=2)}


def fit(trainer: type, loop: Callable[[Any], None], recipe: Recipe, workers: int | None = None) -> None:
    """Run ``loop`` with the recipe in each worker of the job, or in so many. Raises: what the loop raises."""
    job = aidos.job()
    said = recipe.model_dump(exclude_none=True)
    given = {f"{group}.{name}": value for group in ("params", "arguments") for name, value in said.pop(group, {}).items()}
    aidos.run(params=said | given).end()
    resources = {"CPU": job.cpus_per_worker} | ({"GPU": job.gpus_per_worker} if job.gpus_per_worker else {})
    scaling = ray.train.ScalingConfig(
        num_workers=workers or max(1, job.workers),
        use_gpu=bool(job.gpus_per_worker),
        resources_per_worker=resources,
        label_selector=dict(job.label_selector) or None,
    )
    with tempfile.TemporaryDirectory() as folder:  # Ray Train's own notes; checkpoints go to the platform
        failures = ray.train.FailureConfig(max_failures=_FAILURES)
        trainer(
            lambda given: loop(given["recipe"]),
            train_loop_config={"recipe": recipe},
            scaling_config=scaling,
            run_config=ray.train.RunConfig(name=recipe.model, storage_path=folder, failure_config=failures),
        ).fit()


def check_batch(recipe: Gradient) -> None:
    """Raises: InvalidRequest where the job's workers cannot share a batch, or cannot compute in its precision."""
    job = aidos.job()
    parts = max(1, job.workers) * recipe.accumulate
    if recipe.batch_size % parts:
        near = math.ceil(recipe.batch_size / parts) * parts
        raise InvalidRequest(
            reason=f"batch_size must be a multiple of workers × accumulate = {parts}, got {recipe.batch_size}: take {near}."
        )
    if recipe.precision == "fp16" and not job.gpus_per_worker:
        raise InvalidRequest(reason="precision fp16 needs GPUs, and the job has none: take bf16, or --gpus-per-worker.")


def place() -> tuple[int, int]:
    """Rank of this worker, and how many there are."""
    context = ray.train.get_context()
    return context.get_world_rank(), context.get_world_size()


class Writer(NamedTuple):
    """What the first worker writes with: the job's run and its checkpoints."""

    run: Any
    checkpoints: aidos.Checkpointer


@contextmanager
def writing(recipe: Recipe) -> Iterator[Writer | None]:
    """None in all workers but the first."""
    with ExitStack() as stack:
        if place()[0] != 0:
            yield None
            return
        run = stack.enter_context(aidos.run())
        best: dict[str, Any] = {"keep_best": recipe.keep_best, "metric": "loss"} if recipe.keep_best else {}
        yield Writer(run, stack.enter_context(aidos.Checkpointer(keep_last=recipe.keep_last, **best)))


class Notice:
    """That the job must give way: heard once, at the step after which its state is saved. The platform stops the job when that is whole.

    ``agree`` makes of what this worker found what all of them go by, where they save together.
    """

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        self._agree, self._heard = agree, False

    def heard(self) -> bool:
        """Whether it is heard now. Workers that agree ask after each step."""
        if self._heard:
            return False
        self._heard = self._agree(aidos.preempted())
        return self._heard


def load_checkpoint(folder: Path) -> int | None:
    """The step that all workers go on from, its files in ``folder``; None: from the beginning."""
    rank, world_size = place()
    step = aidos.load_checkpoint(folder) if rank == 0 else None
    if world_size > 1:
        step = ray.train.collective.broadcast_from_rank_zero(step)
        if rank != 0 and step is not None:
            aidos.load_checkpoint(folder, step)
    return step


def in_order(data: ray.data.Dataset) -> ray.data.Dataset:
    """The dataset, whose rows come in the order in which they were asked for."""
    data.context.execution_options = ExecutionOptions(preserve_order=True)
    data.context.enable_progress_bars = False
    return data


def note_read(consumed: Consumed) -> None:
    """Wait until the platform knows which samples this worker has read."""
    if consumed.recorder is not None:
        consumed.recorder.flush()


def say(text: str) -> None:
    """A line in the job's log."""
    print(text, flush=True)  # noqa: T201  # what the driver and its workers print is the log
