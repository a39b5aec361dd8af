"""Runs found and set side by side, over HTTP with the SDK: a query among 10,000 runs, and 500 runs compared into a page.

``python -m benchmarks.comparison [--quick]``: on a PostgreSQL and a gateway of its own. Each run has 10 params, 10 metrics, its data,
its packages and a job that cost something; each of the 500 has 200 steps of every metric, a million points in all.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aidos.cli import comparison_page, comparison_picture
from aidos.client import Client
from benchmarks.harness import Figure, parse_arguments, report
from benchmarks.storage import make_key, own_storage
from cluster.db import Database
from cluster.settings import Settings
from tests.support.server import serve

QUERY_MS, COMPARISON_S = 500.0, 3.0
COMPARED, STEPS = 500, 200
QUERY = "metrics.m1 > 0.5 and data.commit = 'commit-3' and params.p2 < 50 and cost_usd < 2"
# Rows as the application writes them; the compared runs are the first ones.
ROWS = (
    """
    INSERT INTO modelhub.experiments (id, project_id, name, created_by) VALUES (%(experiment)s, %(project_id)s, 'compared', 'benchmark')
    """,
    """
    INSERT INTO modelhub.runs (id, project_id, experiment_id, name, state, job_id, created_by, started_at, ended_at)
    SELECT uuidv7(), %(project_id)s, %(experiment)s, 'run-' || n, 'FINISHED', uuidv7(), 'benchmark', now() - interval '1 hour', now()
      FROM generate_series(1, %(runs)s) AS n
    """,
    """
    INSERT INTO modelhub.run_params (project_id, run_id, key, value)
    SELECT r.project_id, r.id, 'p' || i, (substr(r.name, 5)::int * i %% 100)::text FROM modelhub.runs r, generate_series(1, 10) AS i
    """,
    """
    INSERT INTO modelhub.run_tags (project_id, run_id, key, value)
    SELECT r.project_id, r.id, 'aidos.packages', (SELECT string_agg('package' || i || '==' || i || '.' || substr(r.name, 5)::int %% 3, ' ')
      FROM generate_series(1, 40) AS i) FROM modelhub.runs r
    """,
    """
    INSERT INTO modelhub.metrics (project_id, run_id, key, step, at, value)
    SELECT r.project_id, r.id, 'm' || i, %(steps)s - 1, now(), random() FROM modelhub.runs r, generate_series(1, 10) AS i
    """,
    """
    INSERT INTO modelhub.metric_points (project_id, metric_id, step, at, value)
    SELECT m.project_id, m.id, s, m.at - make_interval(secs => %(steps)s - 1 - s), CASE s WHEN %(steps)s - 1 THEN m.value ELSE random() END
      FROM modelhub.metrics m JOIN modelhub.runs r ON r.id = m.run_id, generate_series(0, %(steps)s - 1) AS s
     WHERE substr(r.name, 5)::int <= %(compared)s
    """,
    """
    INSERT INTO modelhub.edges (project_id, source_kind, source_id, target_kind, target_id, relation, source_label, target_label)
    SELECT r.project_id, 'commit', 'commit-' || substr(r.name, 5)::int %% 10, 'run', r.id::text, 'input', 'digits@main', r.name FROM modelhub.runs r
    """,
    """
    INSERT INTO costoptimizer.leases (id, org_id, project_id, owner_kind, owner_id, owner_name, cpu, gpu, gpu_type, memory_gib, started_at, ended_at)
    SELECT uuidv7(), %(org_id)s, r.project_id, 'job', r.job_id::text, r.name, 2, 0, '', 4, r.started_at, r.ended_at FROM modelhub.runs r
    """,
)


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    with own_storage("comparison") as (settings, directory):
        key = make_key(settings)
        with serve(settings) as url, Client(url, key) as client:
            asyncio.run(fill(settings, client, 1000 if arguments.quick else 10_000))
            figures = measure(client, directory)
    return report(figures)


async def fill(settings: Settings, client: Client, runs: int) -> None:
    """Runs of the key's project, and what autovacuum does in its own time."""
    me = client.sessions.whoami()
    values = {"project_id": me.project_id, "org_id": me.organisation_id, "runs": runs, "steps": STEPS, "compared": COMPARED}
    async with Database(settings) as db:
        async with db.platform() as conn:
            for statement in ROWS:
                await conn.execute(statement, values | {"experiment": me.project_id})
        async with db._pool.connection() as conn:
            await conn.execute("VACUUM ANALYZE")


def measure(client: Client, directory: Path) -> list[Figure]:
    """Medians: a first page of a query's runs; one comparison request; the same with its page and picture written."""
    found = [run.id for run in client.runs.list(query="name like 'run-%'", limit=None) if int(run.name[4:]) <= COMPARED]

    def draw() -> None:
        compared = client.runs.compare(runs=found)
        grid = comparison_page.build_grid(compared)
        charts = comparison_page.choose_charts(compared, grid)
        (directory / "runs.html").write_text(comparison_page.to_html("Runs", compared, grid, charts), encoding="utf-8")
        comparison_picture.write_png(directory / "runs.png", "Runs", compared, grid, charts)

    query_ms = _median(lambda: client.runs.list.raw(query=QUERY), 11) * 1000
    return [
        Figure("modelhub.query_runs", query_ms, "ms", bar=QUERY_MS, lower_is_better=True),
        Figure(
            "modelhub.compare_500_request", _median(lambda: client.runs.compare(runs=found), 5), "s", bar=COMPARISON_S, lower_is_better=True
        ),
        Figure("modelhub.compare_500_page", _median(draw, 5), "s", bar=COMPARISON_S, lower_is_better=True),
    ]


def _median(work: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
