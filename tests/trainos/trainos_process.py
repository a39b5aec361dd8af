"""The loops of the actor ``trainos`` in a process that a test can kill: ``python -m tests.trainos.trainos_process``."""

from __future__ import annotations

import asyncio
import sys

import ray

from cluster import ray_head, telemetry
from cluster.db import Database
from cluster.events import Wakeup
from cluster.objects import Objects
from cluster.settings import get_settings
from tune.trainos.queue.reconciler import Admission, admit_for_ever
from tune.trainos.ray_cluster import RayCluster
from tune.trainos.reconciler import JobReconciler, adopt_for_ever


async def main() -> None:
    settings = get_settings()
    telemetry.configure(settings, "trainos")
    ray.init(ray_head.address(settings), namespace="aidos", log_to_driver=False)
    cluster = RayCluster(settings)
    async with Database(settings) as db, Wakeup(db) as wakeup, asyncio.TaskGroup() as tasks:
        tasks.create_task(admit_for_ever(Admission(db, cluster, sys.argv[1]), wakeup))
        tasks.create_task(JobReconciler(db, Objects(settings), settings, cluster).run(sys.argv[1], wakeup))
        tasks.create_task(adopt_for_ever(db, cluster))


if __name__ == "__main__":
    asyncio.run(main())
