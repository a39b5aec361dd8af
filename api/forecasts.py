"""Jobs with what the queue foretells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors.securityvault.models import Scope
from aidos.schemas.job_arrays import parse_array
from aidos.schemas.trainos import ForecastRead, JobOutlook, JobRead, ResourcesRead
from cluster.db import Connection, Database
from tune.trainos import service
from tune.trainos.models import Job, JobSpec
from tune.trainos.queue import forecasts
from tune.trainos.queue.prediction import RunTime, predict


async def foretell(db: Database, scope: Scope, spec: JobSpec) -> JobOutlook:
    """What the job would do if it were submitted now. Raises: JobTooLarge.

    Others' jobs decide it, so it is read as the platform; the answer says of them no more than when this one starts.
    """
    async with db.platform() as conn:
        workload, snapshot, run_times = await forecasts.read_outlook_with(conn, scope, spec)
    run_time = run_times.get(workload.id) or RunTime.unknown(workload.limit_s)
    forecast = (await asyncio.to_thread(predict, snapshot, run_times)).get(workload.id)
    return JobOutlook(
        resources=ResourcesRead.model_validate(spec.resources),
        jobs=1 if spec.array is None else len(parse_array(spec.array).indices),
        run_s=run_time.median_s,
        run_at_least_s=run_time.low_s,
        run_at_most_s=run_time.high_s,
        forecast=ForecastRead.model_validate(forecast) if forecast else None,
    )


async def read_jobs(conn: Connection, scope: Scope, jobs: Sequence[Job]) -> list[JobRead]:
    """The jobs: arrays with how many of theirs are in which state, those that wait and are among the first with when they start and end."""
    made, counts = await forecasts.list_forecasts(conn, scope, jobs), await service.count_members(conn, scope, jobs)
    reads = [JobRead.model_validate(job) for job in jobs]
    for read in reads:
        if read.array is not None and read.id in counts:
            read.array.counts = counts[read.id]
            read.reason = read.reason or ", ".join(f"{jobs} {state}" for state, jobs in sorted(counts[read.id].items()))
        if (forecast := made.get(read.id)) is not None:
            read.starts_at, read.forecast = forecast.starts_at, ForecastRead.model_validate(forecast)
    return reads
