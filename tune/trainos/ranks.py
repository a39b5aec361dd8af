"""Names the workers of a training by their rank in its log: ``(rank 3 pid=1234) loss 0.1``. Ray Train loads it by ``RAY_TRAIN_CALLBACKS``."""

from __future__ import annotations

import sys

import ray
from ray._private.ray_constants import LOG_PREFIX_ACTOR_NAME
from ray.train.v2._internal.execution.callback import ReplicaGroupCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group import ExecutionGroup


class Ranks(WorkerGroupCallback, ReplicaGroupCallback):
    """Whenever workers were started or replaced, each is told what it is called from now on."""

    def after_execution_group_start(self, execution_group: ExecutionGroup) -> None:
        contexts = [(worker, worker.distributed_context) for worker in execution_group.get_workers()]
        ray.get([worker.execute_async(_take_name, f"rank {context.world_rank}") for worker, context in contexts if context is not None])


def _take_name(name: str) -> None:
    """Ray's log monitor reads such a line as the actor's name for all that follows, and shows it before each line."""
    for stream in (sys.stdout, sys.stderr):
        print(f"{LOG_PREFIX_ACTOR_NAME}{name}", file=stream, flush=True)  # the protocol of the log monitor
