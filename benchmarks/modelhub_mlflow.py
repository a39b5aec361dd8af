"""ModelHub against ``mlflow server`` on the same PostgreSQL and S3, both driven by the unmodified ``mlflow`` client, in turns.

``python -m benchmarks.modelhub_mlflow [--quick]``: the gateway's application in a process of its own (uvicorn, without Ray), and MLflow as
its command starts it, each with a database of its own on one server. One client that waits for each answer, then eight at once.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import uvicorn
from mlflow import MlflowClient
from mlflow.entities import Metric

from api.app import build_app, build_edge
from benchmarks import mlflow_server
from benchmarks.harness import Figure, in_turns, parse_arguments, report
from benchmarks.storage import make_key, own_storage
from cluster import postgres_server, telemetry
from cluster.logfile import open_log
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until

PEER = "mlflow server 3.17"
BATCH, CLIENTS, SEARCHED = 1000, 8, "searched"
QUERY = ("metrics.m1 > 0.5 and params.p3 = '7'", ["metrics.m3 DESC"], 100)
MILLISECONDS = 1_790_000_000_000
# As each server writes them: a run with 10 params and 10 metrics of one point.
OUR_RUNS = (
    """
    INSERT INTO modelhub.runs (id, project_id, experiment_id, name, state, created_by, started_at, ended_at)
    SELECT uuidv7(), e.project_id, e.id, 'run-' || n, 'FINISHED', 'benchmark', now() - n * interval '1 second', now()
      FROM modelhub.experiments e, generate_series(1, %(runs)s) AS n WHERE e.name = 'searched'
    """,
    """
    INSERT INTO modelhub.run_params (project_id, run_id, key, value)
    SELECT r.project_id, r.id, 'p' || i, (substr(r.name, 5)::int * i % 100)::text FROM modelhub.runs r, generate_series(1, 10) AS i
    """,
    """
    INSERT INTO modelhub.metrics (project_id, run_id, key, step, at, value)
    SELECT r.project_id, r.id, 'm' || i, 0, now(), substr(r.name, 5)::int * i % 101 / 101.0 FROM modelhub.runs r, generate_series(1, 10) AS i
    """,
    """
    INSERT INTO modelhub.metric_points (project_id, metric_id, step, at, value) SELECT project_id, id, step, at, value FROM modelhub.metrics
    """,
)
THEIR_RUNS = (
    """
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, source_version,
                      lifecycle_stage, artifact_uri, experiment_id)
    SELECT replace(uuidv7()::text, '-', ''), 'run-' || n, 'UNKNOWN', '', '', 'benchmark', 'FINISHED', 1790000000000 - n * 1000, 1790000000000,
           '', 'active', 'mlflow-artifacts:/' || n, e.experiment_id
      FROM experiments e, generate_series(1, %(runs)s) AS n WHERE e.name = 'searched'
    """,
    "INSERT INTO tags (key, value, run_uuid) SELECT 'mlflow.runName', name, run_uuid FROM runs",
    """
    INSERT INTO params (key, value, run_uuid)
    SELECT 'p' || i, (substr(r.name, 5)::int * i % 100)::text, r.run_uuid FROM runs r, generate_series(1, 10) AS i
    """,
    """
    INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
    SELECT 'm' || i, substr(r.name, 5)::int * i % 101 / 101.0, 1790000000000, 0, false, r.run_uuid FROM runs r, generate_series(1, 10) AS i
    """,
    "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) SELECT key, value, timestamp, step, is_nan, run_uuid FROM latest_metrics",
)
Work = Callable[["Subject"], Callable[[], Any]]


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with own_storage("mlflow") as (settings, directory), servers(settings, directory) as subjects:
        figures = measure(subjects, directory, arguments.quick)
    return report(figures)


class Subject:
    """One of the two servers, as its clients see it."""

    def __init__(self, url: str, database: Settings, runs: Sequence[str], token: str = "") -> None:
        self.url, self.token, self._database, self._runs = url, token, database, runs
        self.numbers = itertools.count()
        with self.speaking():
            self.client = MlflowClient(url)
            self.experiment = self.client.create_experiment("measured")
            self.run = self.new_run()

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """The client reads the token from the environment, at each request."""
        os.environ["MLFLOW_TRACKING_TOKEN"] = self.token
        try:
            yield
        finally:
            del os.environ["MLFLOW_TRACKING_TOKEN"]

    def new_run(self) -> str:
        return str(self.client.create_run(self.experiment).info.run_id)

    def log(self, keys: int) -> None:
        """A batch: the next steps of so many metrics."""
        first = next(self.numbers) * (BATCH // keys)
        points = [Metric(f"of{keys}-{i % keys}", float(i), MILLISECONDS + i, first + i // keys) for i in range(BATCH)]
        self.client.log_batch(self.run, points)

    def fill(self, runs: int) -> str:
        """An experiment with so many runs, and what autovacuum does in its own time; its id."""
        with self.speaking():
            id = str(self.client.create_experiment(SEARCHED))
        name = self._database.database_url.get_secret_value().rsplit("/", 1)[1]
        with postgres_server.connect_superuser(self._database, name) as connection:
            self._insert(connection, runs)
            connection.execute("VACUUM ANALYZE")
        return id

    def _insert(self, connection: psycopg.Connection[Any], runs: int) -> None:
        with connection.transaction():
            if self.token:
                connection.execute("DELETE FROM modelhub.runs")
            else:
                connection.execute("TRUNCATE runs CASCADE")
            for statement in self._runs:
                connection.execute(statement.replace("%(runs)s", str(runs)))  # type: ignore[arg-type]  # a number of this module's


@contextlib.contextmanager
def servers(settings: Settings, directory: Path) -> Iterator[dict[str, Subject]]:
    """Both, with their clients."""
    settings = settings.model_copy(update={"rate_limit_per_minute": 10**8})
    key, port = make_key(settings), find_free_ports(1)
    gateway = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, port), daemon=True)
    gateway.start()
    try:
        with mlflow_server.serve(settings, "mlflow_peer", directory / "mlflow.log") as (url, theirs):
            ours = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(ours), within_s=60)
            yield {"ours": Subject(ours, settings, OUR_RUNS, key), "peer": Subject(url, theirs, THEIR_RUNS)}
    finally:
        gateway.terminate()
        gateway.join()


def serve(settings: Settings, port: int) -> None:
    """The gateway's application as a replica serves it."""
    telemetry.configure(settings, "gateway", open_log(settings.home, "gateway"))
    uvicorn.run(build_app(build_edge(settings), open_edge=True), port=port, log_level="warning", access_log=False)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def measure(subjects: Mapping[str, Subject], directory: Path, quick: bool) -> list[Figure]:
    """All figures; the client's own work is part of each."""
    rounds, scale = (1, 1) if quick else (3, 4)
    file = directory / "upload.bin"
    file.write_bytes(os.urandom(2**20) * (64 if quick else 1024))

    def rate(times: int, work: Callable[[Subject], Any], clients: int = 1) -> dict[str, float]:
        return in_turns({name: lambda s=subject: repeat(s, times, work, clients) for name, subject in subjects.items()}, rounds)

    found = [
        figure("log_batch", rate(4 * scale, lambda s: s.log(BATCH)), "batches/s", 15),
        figure("log_batch_of_series", rate(4 * scale, lambda s: s.log(10)), "batches/s", None),
        figure("log_metric", rate(20 * scale, log_one), "metrics/s", 10),
        figure("log_metric_clients", rate(20 * scale, log_one, CLIENTS), "metrics/s", None),
        figure("create_run", rate(10 * scale, lambda s: s.new_run()), "runs/s", 10),
        figure("create_run_clients", rate(10 * scale, lambda s: s.new_run(), CLIENTS), "runs/s", None),
    ]
    filled = {name: subject.fill(1000 if quick else 10_000) for name, subject in subjects.items()}

    def search(subject: Subject, query: str, order: Sequence[str], limit: int) -> None:
        of = filled["ours" if subject is subjects["ours"] else "peer"]
        assert subject.client.search_runs([of], query, order_by=list(order), max_results=limit)

    found.append(figure("search", rate(2 * scale, lambda s: search(s, *QUERY)), "searches/s", 5))
    found.append(figure("search_newest", rate(2 * scale, lambda s: search(s, "", (), 1000)), "pages of 1,000/s", None))
    found.append(figure("upload", rate(1, lambda s: s.client.log_artifact(s.new_run(), str(file))), "files/s", 1))
    return found


def log_one(subject: Subject) -> None:
    subject.client.log_metric(subject.run, "loss", 0.5, step=next(subject.numbers))


def repeat(subject: Subject, times: int, work: Callable[[Subject], Any], clients: int) -> float:
    """Times a second, of many after one that does not count."""
    with subject.speaking(), ThreadPoolExecutor(clients) as pool:
        if times > 1:
            work(subject)
        began = time.perf_counter()
        for _ in pool.map(lambda _: work(subject), range(times)):
            pass
        return times / (time.perf_counter() - began)


def figure(name: str, measured: Mapping[str, float], unit: str, bar: float | None) -> Figure:
    return Figure(f"modelhub.mlflow.{name}", measured["ours"], unit, PEER, measured["peer"], bar)


if __name__ == "__main__":
    sys.exit(main())
