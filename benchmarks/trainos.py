"""The queue at size: the real admission loop over a PostgreSQL of its own, with simulated nodes and run times.

``python -m benchmarks.trainos [--quick] [--workloads 50000] [--projects 1000]``. The workloads are of the classes of Kueue's own scheduler
test (small, medium and large as 70 : 20 : 10, asking 1, 5 and 20 CPUs for 0.2, 0.5 and 1 s), which publishes 50,000 in 1,179 s: about 42 a
second. That is not like for like: its figure has the Kubernetes API in it, ours PostgreSQL; neither starts a process.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg.types.json import Jsonb

from benchmarks.harness import Figure, parse_arguments, report
from benchmarks.storage import own_storage
from cluster.db import Database, new_id
from cluster.settings import Settings
from tune.trainos.models import JobSpec, Resources
from tune.trainos.policy import decayed_use
from tune.trainos.queue.models import Node, Quota
from tune.trainos.queue.reconciler import Admission

KUEUE_A_SECOND = 50_000 / 1179
CLASSES = ((1.0, 0.2), (5.0, 0.5), (20.0, 1.0))
"""CPUs and seconds of small, medium and large."""
MIX = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)
INSERT = """
INSERT INTO trainos.jobs (id, org_id, project_id, project_name, name, origin, spec, state, cpu, gpu, memory_gib, created_by, submitter)
VALUES (%s, %s, %s, 'p', 'benchmark', 'aidos', %s, 'QUEUED', %s, 0, 0, 'ada', %s)
"""
END = """
WITH ended AS (
    UPDATE trainos.jobs SET state = 'SUCCEEDED', lease_id = NULL, finished_at = now(), updated_at = now()
     WHERE id = ANY (%(ids)s) RETURNING id)
INSERT INTO trainos.usage AS known (project_id, cpu_s, gpu_s, memory_gib_s, measured_at)
SELECT project_id, cpu_s, 0, 0, now() FROM unnest(%(projects)s::uuid[], %(used)s::float8[]) AS charged (project_id, cpu_s)
ON CONFLICT (project_id) DO UPDATE
   SET cpu_s = EXCLUDED.cpu_s + known.cpu_s * trainos.decay(EXCLUDED.measured_at - known.measured_at), measured_at = EXCLUDED.measured_at
"""
QUOTA = "INSERT INTO trainos.quotas (project_id, org_id, nominal, limits, user_limits, weight, updated_by) VALUES (%s, %s, %s, '{}', '{}', %s, '')"


@dataclass
class Nodes:
    """A cluster that is only counted: what ``Admission`` asks of Ray."""

    count: int
    cpus: float

    async def nodes(self) -> list[Node]:
        return [Node(f"node-{number:04}", Resources(self.cpus), Resources(self.cpus)) for number in range(self.count)]


@dataclass(frozen=True)
class Queued:
    """A workload of the benchmark."""

    id: UUID
    project: UUID
    cpus: float
    seconds: float


@dataclass(order=True, frozen=True)
class Lease:
    """A workload that runs, by when it will have ended."""

    ends_s: float
    began_s: float
    item: Queued = field(compare=False)

    def charge(self, used: dict[UUID, float]) -> float:
        """Add what it leased until now to its project's; the seconds of it."""
        held_s = time.monotonic() - self.began_s
        used[self.item.project] = used.get(self.item.project, 0.0) + self.item.cpus * held_s
        return held_s


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0], workloads=50_000, projects=1000)
    share = 10 if arguments.quick else 1
    with own_storage("trainos") as (settings, _):
        speed = asyncio.run(measure_admissions(settings, arguments.workloads // share, arguments.projects // share))
        unfairness = asyncio.run(measure_shares(settings, seconds=10.0 if arguments.quick else 60.0))
    return report(
        [
            Figure("trainos.admissions", speed, "admissions/s", "Kueue, published", KUEUE_A_SECOND),
            Figure("trainos.admissions_bar", speed, "admissions/s", bar=100.0),
            Figure("trainos.unfair_share", unfairness, "largest deviation from its share, %", bar=5.0, lower_is_better=True),
        ]
    )


async def measure_admissions(settings: Settings, workloads: int, projects: int) -> float:
    """All workloads from queue to end on a cluster that is large enough; admissions a second."""
    ids = [new_id() for _ in range(projects)]
    queued = [Queued(new_id(), ids[number % projects], *CLASSES[MIX[number // projects % len(MIX)]]) for number in range(workloads)]
    async with Database(settings) as db:
        await submit(db, queued)
        began = time.perf_counter()
        used = await run(db, Nodes(250, 80), queued)
        took_s = time.perf_counter() - began
    assert len(used) == projects, "a project was left out"
    return workloads / took_s


async def measure_shares(settings: Settings, seconds: float) -> float:
    """Twenty projects of two weights and two kinds of workloads want more than there is; the worst deviation from its share in per cent."""
    weights = {new_id(): 1.0 + number % 2 for number in range(20)}
    cpus, kinds = 1000.0, ((1.0, 2.0), (4.0, 5.0))
    queued = [
        Queued(new_id(), project, *kinds[number // 10])
        for number, project in enumerate(weights)
        for _ in range(int(seconds * cpus / 10 / math.prod(kinds[number // 10])))
    ]
    async with Database(settings) as db:
        await submit(db, queued, weights)
        used = await run(db, Nodes(10, cpus / 10), queued, seconds)
    due = {project: sum(used.values()) * weight / sum(weights.values()) for project, weight in weights.items()}
    return max(abs(used[project] / due[project] - 1) for project in weights) * 100


async def submit(db: Database, queued: Sequence[Queued], weights: Mapping[UUID, float] | None = None) -> None:
    """Put them into the queue, as they stand there after ``POST /v1/trainos/jobs``."""
    org, submitter = new_id(), Jsonb({"role": "developer", "scopes": None, "account_id": None})
    async with db.platform() as conn:
        async with conn.cursor() as cursor:
            specs = {item.cpus: Jsonb(JobSpec("benchmark", ("true",), workers=0, driver_cpus=item.cpus).to_json()) for item in queued}
            await cursor.executemany(INSERT, [(item.id, org, item.project, specs[item.cpus], item.cpus, submitter) for item in queued])
        for project, weight in (weights or {}).items():
            await conn.execute(QUOTA, (project, org, Jsonb(Quota().nominal.__dict__), weight))
    async with db.platform() as conn:
        await conn.execute("ANALYZE trainos.jobs")


async def run(db: Database, nodes: Nodes, queued: Sequence[Queued], seconds: float = 3600.0) -> dict[UUID, float]:
    """Admit and end them on the clock until none is left or the time is over; CPU seconds that each project's leases were by then."""
    admission, known = Admission(db, nodes, "benchmark"), {item.id: item for item in queued}
    running: list[Lease] = []
    used: dict[UUID, float] = {}
    began, left = time.monotonic(), len(known)
    while left and time.monotonic() - began < seconds:
        decision = await admission.look()
        now = time.monotonic()
        for item in decision.admitted:
            heapq.heappush(running, Lease(now + known[item.id].seconds, now, known[item.id]))
        ended: list[Lease] = []
        while running and running[0].ends_s <= now:
            ended.append(heapq.heappop(running))
        if ended:
            left -= len(ended)
            await end(db, ended, used)
        elif not decision.admitted and running:
            await asyncio.sleep(running[0].ends_s - now)
    for lease in running:
        lease.charge(used)
    return used


async def end(db: Database, ended: Sequence[Lease], used: dict[UUID, float]) -> None:
    """Their time is over: the jobs end, and what they leased is charged."""
    charged: dict[UUID, float] = {}
    for lease in ended:
        held_s = lease.charge(used)
        charged[lease.item.project] = charged.get(lease.item.project, 0.0) + decayed_use(Resources(lease.item.cpus), held_s).cpu
    async with db.platform() as conn:
        await conn.execute(END, {"ids": [lease.item.id for lease in ended], "projects": list(charged), "used": list(charged.values())})


if __name__ == "__main__":
    sys.exit(main())
