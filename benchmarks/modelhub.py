"""ModelHub at size, on a PostgreSQL of its own: metric batches, plots of a long series, lineage among a million edges.

``python -m benchmarks.modelhub [--quick]``: the module's verbs in transactions as the gateway opens them, without HTTP. The
comparison with ``mlflow server`` by its own client comes with the protocol.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.models import Direction, Node, NodeKind, Point, Run, RunFilter, RunSpec
from actors.securityvault.models import Principal, PrincipalKind, Scope
from benchmarks.harness import Figure, parse_arguments, report
from cluster import embedded
from cluster.db import Database, new_id
from cluster.settings import Settings
from tests.support.database import make_database
from tests.support.platform import start_storage

BATCH = 1000
LINEAGE_MS, RUN_LIST_MS = 200.0, 500.0
START = datetime(2026, 11, 1, tzinfo=UTC)
# As the application writes them: commit → run → version → endpoint → prediction, many runs of one commit.
EDGES = """
INSERT INTO modelhub.edges (project_id, source_kind, source_id, target_kind, target_id, relation, source_label, target_label)
SELECT %(project_id)s, kind[1], CASE kind[1] WHEN 'commit' THEN 'commit-' || n %% %(commits)s ELSE kind[1] || '-' || n END,
       kind[2], kind[2] || '-' || n, 'input', kind[1] || ' ' || n, kind[2] || ' ' || n
  FROM generate_series(1, %(chains)s) AS n,
       (VALUES (ARRAY['commit', 'run']), (ARRAY['run', 'model_version']), (ARRAY['model_version', 'endpoint']), (ARRAY['endpoint', 'prediction']))
       AS kinds (kind)
"""


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    with tempfile.TemporaryDirectory(prefix="aidos-modelhub-") as directory:
        storage = start_storage(Path(directory))
        try:
            figures = asyncio.run(measure(make_database(storage, "modelhub_benchmark"), arguments.quick))
        finally:
            embedded.stop(storage)
    return report(figures)


async def measure(settings: Settings, quick: bool) -> list[Figure]:
    """All figures. ``quick``: a tenth of the rows."""
    scope = _scope()
    async with Database(settings) as db:
        bench = Bench(db, scope)
        batches = await bench.log_batches(20 if quick else 200)
        singles = await bench.log_singles(100 if quick else 1000)
        plot_ms = await bench.plot(100_000 if quick else 1_000_000)
        runs_ms = await bench.list_runs(200 if quick else 2000)
        lineage = await bench.walk(25_000 if quick else 250_000)
    return [
        Figure("modelhub.log_batch", batches, f"batches of {BATCH}/s"),
        Figure("modelhub.log_single", singles, "transactions/s"),
        Figure("modelhub.plot_long_series", plot_ms, "ms"),
        Figure("modelhub.list_runs_p95", runs_ms, "ms", bar=RUN_LIST_MS, lower_is_better=True),
        *(Figure(f"modelhub.lineage_{name}_p95", ms, "ms", bar=LINEAGE_MS, lower_is_better=True) for name, ms in lineage.items()),
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

    async def plot(self, count: int) -> float:
        """Median milliseconds for 500 points of a series of ``count``."""
        run = await self._new_run()
        for first in range(0, count, 20_000):
            await self._log(run.id, [Point("loss", float(step % 97), step, START) for step in range(first, first + 20_000)])
        await self._vacuum()
        times = await self._times(lambda conn: service.plot_points(conn, self.scope, run.id, "loss", 500), 5)
        return statistics.median(times)

    async def list_runs(self, count: int) -> float:
        """p95 of a page of 50 runs, each with 10 params and 10 metrics."""
        async with self._tenant() as conn:
            for _ in range(count):
                run = await service.create_run(conn, self.scope, RunSpec("list", params={f"p{i}": "1" for i in range(10)}))
                await service.log_metrics(conn, self.scope, run.id, [Point(f"m{i}", 1.0, 0, START) for i in range(10)])
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
