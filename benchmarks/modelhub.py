"""ModelHub at size, on a PostgreSQL of its own: metric batches, plots of a long series, lineage among a million edges.

``python -m benchmarks.modelhub [--quick] [--points 10000000]``: the module's verbs in transactions as the gateway opens them, without HTTP.
``benchmarks.modelhub_mlflow`` holds the protocol against ``mlflow server``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.lineage import service as lineage
from actors.modelhub.lineage.models import Evidence
from actors.modelhub.models import Direction, Node, NodeKind, Point, Run, RunFilter, RunSpec
from actors.modelhub.series import service as series
from actors.modelhub.series.models import Columns
from actors.securityvault.models import Principal, PrincipalKind, Scope
from api.sink import PointSink
from benchmarks.harness import Figure, parse_arguments, report
from benchmarks.storage import own_storage
from cluster.db import Connection, Database, new_id
from cluster.settings import Settings

BATCH, WRITERS = 1000, 8
LINEAGE_MS, RUN_LIST_MS = 200.0, 500.0
START = datetime(2026, 11, 1, tzinfo=UTC)
STORED = """
SELECT count(*) AS points FROM modelhub.metric_points p JOIN modelhub.metrics m ON m.id = p.metric_id WHERE m.run_id = ANY (%(runs)s)
"""
# As the application writes them: commit → run → version → endpoint → prediction, many runs of one commit, all commits of one folder.
EDGES = """
INSERT INTO modelhub.edges (project_id, source_kind, source_id, target_kind, target_id, relation, source_label, target_label)
SELECT %(project_id)s, kind[1], CASE kind[1] WHEN 'commit' THEN 'commit-' || n %% %(commits)s ELSE kind[1] || '-' || n END,
       kind[2], kind[2] || '-' || n, 'input', kind[1] || ' ' || n, kind[2] || ' ' || n
  FROM generate_series(1, %(chains)s) AS n,
       (VALUES (ARRAY['commit', 'run']), (ARRAY['run', 'model_version']), (ARRAY['model_version', 'endpoint']), (ARRAY['endpoint', 'prediction']))
       AS kinds (kind)
 UNION ALL
SELECT %(project_id)s, 'dataset', 'lake', 'commit', 'commit-' || n, 'imported as', 'lake', 'commit ' || n
  FROM generate_series(0, %(commits)s - 1) AS n
"""


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0], points=1_000_000)
    with own_storage("modelhub") as (settings, _):
        figures = asyncio.run(measure(settings, arguments.quick, arguments.points))
    return report(figures)


async def measure(settings: Settings, quick: bool, points: int) -> list[Figure]:
    """All figures. ``quick``: a tenth of the rows."""
    scope = _scope()
    async with Database(settings) as db:
        bench = Bench(db, scope)
        batches = await bench.log_batches(20 if quick else 200)
        singles = await bench.log_singles(100 if quick else 1000)
        ingested = await bench.ingest(points // 10 if quick else points)
        plot_ms = await bench.plot(100_000 if quick else 1_000_000)
        raw_ms = await bench.read_whole()
        runs_ms = await bench.list_runs(1000 if quick else 10_000)
        chains = 25_000 if quick else 250_000
        lineages = {**await bench.walk(chains), **await bench.find_affected(chains)}
    return [
        Figure("modelhub.log_batch", batches, f"batches of {BATCH}/s"),
        Figure("modelhub.log_single", singles, "transactions/s"),
        Figure("modelhub.ingest", ingested, "points/s"),
        Figure("modelhub.plot_long_series", plot_ms, "ms"),
        Figure("modelhub.read_long_series", raw_ms, "ms"),
        Figure("modelhub.list_runs_p95", runs_ms, "ms", bar=RUN_LIST_MS, lower_is_better=True),
        *(Figure(f"modelhub.lineage_{name}_p95", ms, "ms", bar=LINEAGE_MS, lower_is_better=True) for name, ms in lineages.items()),
    ]


class Bench:
    """One project's work."""

    def __init__(self, db: Database, scope: Scope) -> None:
        self.db, self.scope = db, scope

    async def log_batches(self, count: int) -> float:
        """Batches a second of one writer, each durable when it returns."""
        run = await self._new_run()
        began = time.perf_counter()
        for number in range(count):
            await self._log(run.id, [Point(f"metric{i % 10}", float(i), number * BATCH + i, START) for i in range(BATCH)])
        return count / (time.perf_counter() - began)

    async def log_singles(self, count: int) -> float:
        """Single metrics a second of one writer."""
        run = await self._new_run()
        began = time.perf_counter()
        for step in range(count):
            await self._log(run.id, [Point("loss", float(step), step, START)])
        return count / (time.perf_counter() - began)

    async def ingest(self, count: int) -> float:
        """Points a second of eight writers through the gateway's sink, each batch durable when it is answered, and none of them lost."""
        sink, runs = PointSink(self.db), [(await self._new_run()).id for _ in range(WRITERS)]

        async def write(run_id: UUID) -> None:
            for first in range(0, count // WRITERS, BATCH):
                steps = [first // 10 + n // 10 for n in range(BATCH)]
                await sink.log(self.scope, run_id, Columns([f"m{n % 10}" for n in range(BATCH)], steps, [0] * BATCH, [0.5] * BATCH))

        began = time.perf_counter()
        await asyncio.gather(*(write(run_id) for run_id in runs))
        seconds = time.perf_counter() - began
        async with self._tenant() as conn:
            stored = await (await conn.execute(STORED, {"runs": runs})).fetchone()
        sent = WRITERS * BATCH * -(-(count // WRITERS) // BATCH)
        assert stored["points"] == sent, f"{sent - stored['points']} points are lost"
        return sent / seconds

    async def plot(self, count: int) -> float:
        """Median milliseconds for 500 points of a series of ``count``."""
        self.long = run = await self._new_run()
        for first in range(0, count, 20_000):
            await self._log(run.id, [Point("loss", float(step % 97), step, START) for step in range(first, first + 20_000)])
        await self._vacuum()
        times = await self._times(lambda conn: service.plot_points(conn, self.scope, run.id, "loss", 500), 5)
        return statistics.median(times)

    async def read_whole(self) -> float:
        """Median milliseconds for all of the same series, page by page as the Arrow stream reads it."""

        async def read(conn: Connection) -> bool:
            rows = None
            while rows is None or len(rows.steps):
                rows = await series.read(conn, self.scope, self.long.id, "loss", rows, 100_000)
            return True

        return statistics.median(await self._times(read, 3))

    async def list_runs(self, count: int) -> float:
        """p95 of a page of 50 runs, each with 10 params and 10 metrics."""
        async with self._tenant() as conn:
            params = {f"p{i}": "1" for i in range(10)}
            made = [(await service.create_run(conn, self.scope, RunSpec("list", params=params))).id for _ in range(count)]
            columns = Columns([f"m{i}" for i in range(10)], [0] * 10, [0] * 10, [1.0] * 10)
            for first in range(0, count, 500):
                await series.log(conn, self.scope, [(id, columns) for id in made[first : first + 500]])
        await self._vacuum()
        return _p95(await self._times(lambda conn: service.list_runs(conn, self.scope, RunFilter(), None, 50), 50))

    async def walk(self, chains: int) -> dict[str, float]:
        """p95 of walks among ``4 * chains`` edges, 250 runs of each commit."""
        commits = max(1, chains // 250)
        async with self.db.platform() as conn:
            await conn.execute(EDGES, {"project_id": self.scope.project, "chains": chains, "commits": commits})
        await self._vacuum()
        starts = {
            "up_from_prediction": (NodeKind.PREDICTION, Direction.UP, "prediction-{}", chains),
            "both_from_version": (NodeKind.MODEL_VERSION, Direction.BOTH, "model_version-{}", chains),
            "down_from_commit": (NodeKind.COMMIT, Direction.DOWN, "commit-{}", commits - 1),
        }
        found = {}
        for name, (kind, direction, form, most) in starts.items():
            times = []
            for number in range(60):
                node = Node(kind, form.format(1 + number * 7919 % most))
                times += await self._times(lambda conn: service.trace(conn, self.scope, node, direction, 10), 1)  # noqa: B023 - called at once
            found[name] = _p95(times)
        return found

    async def find_affected(self, chains: int) -> dict[str, float]:
        """p95 of what came of one commit, of the folder that everything came of, and of which of 100 live versions did."""
        commits, versions = max(1, chains // 250), [f"model_version-{1 + n * 7919 % chains}" for n in range(100)]
        folder = Node(NodeKind.DATASET, "lake")

        def everything(node: Node) -> Callable[[Any], Awaitable[Any]]:
            return lambda conn: lineage.list_affected(conn, self.scope, [node], list(NodeKind), Evidence())

        def live(node: Node) -> Callable[[Any], Awaitable[Any]]:
            return lambda conn: lineage.list_descended(conn, self.scope, [node], NodeKind.MODEL_VERSION, versions, Evidence())

        nodes = [Node(NodeKind.COMMIT, f"commit-{number * 7919 % commits}") for number in range(60)]
        return {
            "affected_by_commit": _p95([ms for node in nodes for ms in await self._times(everything(node), 1)]),
            "affected_by_folder": _p95(await self._times(everything(folder), 20)),
            "live_by_commit": _p95([ms for node in nodes for ms in await self._times(live(node), 1)]),
            "live_by_folder": _p95(await self._times(live(folder), 20)),
        }

    async def _times(self, work: Callable[[Any], Awaitable[Any]], count: int) -> list[float]:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            async with self._tenant() as conn:
                assert await work(conn)
            times.append((time.perf_counter() - began) * 1000)
        return times

    async def _new_run(self) -> Run:
        async with self._tenant() as conn:
            return await service.create_run(conn, self.scope, RunSpec("benchmark"))

    async def _log(self, run_id: UUID, points: list[Point]) -> None:
        async with self._tenant() as conn:
            await service.log_metrics(conn, self.scope, run_id, points)

    async def _vacuum(self) -> None:
        """What autovacuum does in its own time."""
        async with self.db._pool.connection() as conn:
            await conn.execute("VACUUM ANALYZE")

    def _tenant(self) -> Any:
        return self.db.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id)


def _scope() -> Scope:
    org_id, project_id = new_id(), new_id()
    return Scope(Principal(PrincipalKind.USER, new_id(), "benchmark", org_id), org_id, project_id)


def _p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


if __name__ == "__main__":
    sys.exit(main())
