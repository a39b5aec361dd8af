"""ModelHub against ``mlflow server`` on the same PostgreSQL and S3, both driven by the unmodified ``mlflow`` client, in turns.

``python -m benchmarks.modelhub_mlflow [--quick]``: the gateway's application in a process of its own (uvicorn, without Ray), and MLflow as
its command starts it, each with a database of its own on one server. One client that waits for each answer, then eight at once.

The client's own work is part of both sides and bounds the ratio. So ``…_at_most`` tells what an ``instant_server`` would reach, and
``…_raw`` compares the servers alone: the same requests, built before the clock runs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
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
from benchmarks import instant_server, mlflow_server
from benchmarks.harness import Figure, in_turns, parse_arguments, report
from benchmarks.storage import make_key, own_storage
from cluster import postgres_server, telemetry
from cluster.logfile import open_log
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until

PEER = "mlflow server 3.17"
BATCH, CLIENTS, SEARCHED = 1000, 8, "searched"
PARTS_FROM_MB = 500
"""From here on the client uploads in parts straight to the object store, to both servers' the same way."""
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
Call = Callable[[], Any]
Work = Callable[["Subject"], Call]
"""Prepares one call, off the clock."""


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with own_storage("mlflow") as (settings, directory), servers(settings, directory) as subjects:
        figures = [*measure_calls(subjects, arguments.quick), *measure_searches(subjects, arguments.quick)]
        figures += measure_uploads(subjects, directory, arguments.quick)
    return report(figures)


class Subject:
    """One of the servers, as its clients see it."""

    def __init__(self, url: str, token: str = "", database: Settings | None = None, runs: Sequence[str] = ()) -> None:
        self.url, self.token, self._database, self._runs = url, token, database, runs
        self.numbers = itertools.count()
        self.http = httpx.Client(
            base_url=f"{url}/api/2.0/mlflow/", timeout=60, headers={"Authorization": f"Bearer {token}"} if token else {}
        )
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

    def next_points(self, keys: int) -> list[Metric]:
        """A batch: the next steps of so many metrics."""
        first = next(self.numbers) * (BATCH // keys)
        return [Metric(f"of{keys}-{i % keys}", float(i), MILLISECONDS + i, first + i // keys) for i in range(BATCH)]

    def post(self, path: str, **members: Any) -> Call:
        """The request with these members, as bytes that are ready to be sent."""
        body = json.dumps(members).encode()
        return lambda: self.http.post(path, content=body, headers={"Content-Type": "application/json"}).raise_for_status()

    def fill(self, runs: int) -> str:
        """An experiment with so many runs, and what autovacuum does in its own time; its id."""
        assert self._database is not None
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
                connection.execute(statement.replace("%(runs)s", str(runs)))  # a number of this module's


@contextlib.contextmanager
def servers(settings: Settings, directory: Path) -> Iterator[dict[str, Subject]]:
    """All three, with their clients."""
    settings = settings.model_copy(update={"rate_limit_per_minute": 10**8})
    key, port = make_key(settings), find_free_ports(2)
    ours, least = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    with running(serve, settings, port), running(instant_server.serve, port + 1, directory / "journal"):
        with mlflow_server.serve(settings, "mlflow_peer", directory / "mlflow.log") as (url, theirs):
            wait_until(lambda: answers(ours) and answers(least), within_s=60)
            yield {"ours": Subject(ours, key, settings, OUR_RUNS), "peer": Subject(url, "", theirs, THEIR_RUNS), "least": Subject(least)}


@contextlib.contextmanager
def running(work: Callable[..., None], *values: Any) -> Iterator[None]:
    """``work`` in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=values, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def serve(settings: Settings, port: int) -> None:
    """The gateway's application as a replica serves it."""
    telemetry.configure(settings, "gateway", open_log(settings.home, "gateway"))
    uvicorn.run(build_app(build_edge(settings), open_edge=True), port=port, log_level="warning", access_log=False)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def measure_calls(subjects: Mapping[str, Subject], quick: bool) -> list[Figure]:
    """What a training run sends, by the client and by itself."""
    both, rounds, seconds = two(subjects), *effort(quick)
    works: list[tuple[str, Work, Work, str, float]] = [
        ("log_batch", log_batch, log_batch_raw, "batches/s", 15),
        ("log_metric", log_metric, log_metric_raw, "metrics/s", 10),
        ("create_run", create_run, create_run_raw, "runs/s", 10),
    ]
    found = []
    for name, work, raw, unit, bar in works:
        rates = measure(subjects, work, rounds, seconds)
        found.append(figure(name, rates, unit, bar))
        found.append(figure(f"{name}_at_most", {**rates, "ours": rates["least"]}, unit, None))
        found.append(figure(f"{name}_raw", measure(both, raw, rounds, seconds), unit, None))
    found.append(figure("log_batch_of_series", measure(both, log_series, rounds, seconds), "batches/s", None))
    found.append(figure("log_metric_clients", measure(both, log_metric, rounds, seconds, CLIENTS), "metrics/s", None))
    found.append(figure("create_run_clients", measure(both, create_run, rounds, seconds, CLIENTS), "runs/s", None))
    return found


def log_batch(subject: Subject, keys: int = BATCH) -> Call:
    points = subject.next_points(keys)
    return lambda: subject.client.log_batch(subject.run, points)


def log_series(subject: Subject) -> Call:
    return log_batch(subject, 10)


def log_batch_raw(subject: Subject) -> Call:
    points = subject.next_points(BATCH)
    metrics = [{"key": each.key, "value": each.value, "timestamp": each.timestamp, "step": each.step} for each in points]
    return subject.post("runs/log-batch", run_id=subject.run, metrics=metrics)


def log_metric(subject: Subject) -> Call:
    return lambda: subject.client.log_metric(subject.run, "loss", 0.5, step=next(subject.numbers))


def log_metric_raw(subject: Subject) -> Call:
    return subject.post("runs/log-metric", run_id=subject.run, key="loss", value=0.5, timestamp=MILLISECONDS, step=next(subject.numbers))


def create_run(subject: Subject) -> Call:
    return subject.new_run


def create_run_raw(subject: Subject) -> Call:
    return subject.post("runs/create", experiment_id=subject.experiment, start_time=MILLISECONDS)


def measure_searches(subjects: Mapping[str, Subject], quick: bool) -> list[Figure]:
    """Over 10,000 runs, a tenth of them when quick."""
    both, rounds, seconds = two(subjects), *effort(quick)
    filled = {subject.url: subject.fill(1000 if quick else 10_000) for subject in both.values()}

    def search(subject: Subject, query: str, order: Sequence[str], limit: int) -> None:
        assert subject.client.search_runs([filled[subject.url]], query, order_by=list(order), max_results=limit)

    found = measure(both, lambda s: lambda: search(s, *QUERY), rounds, seconds)
    newest = measure(both, lambda s: lambda: search(s, "", (), 1000), rounds, seconds)
    return [figure("search", found, "searches/s", 5), figure("search_newest", newest, "pages of 1,000/s", None)]


def measure_uploads(subjects: Mapping[str, Subject], directory: Path, quick: bool) -> list[Figure]:
    """A file through the server, and one that the client itself brings to the object store."""
    both, rounds, seconds = two(subjects), *effort(quick)

    def upload(subject: Subject) -> Call:
        run = subject.new_run()
        return lambda: subject.client.log_artifact(run, str(file))

    file = directory / "upload.bin"
    file.write_bytes(os.urandom(2**20) * 64)
    found = [figure("upload", measure(both, upload, rounds, seconds), "files of 64 MiB/s", 1)]
    if not quick:
        file.write_bytes(os.urandom(2**20) * PARTS_FROM_MB)
        found.append(figure("upload_in_parts", measure(both, upload, 1, 0), "files of 500 MiB/s", None))
    return found


def two(subjects: Mapping[str, Subject]) -> dict[str, Subject]:
    """Without the server that keeps nothing."""
    return {name: subjects[name] for name in ("ours", "peer")}


def effort(quick: bool) -> tuple[int, float]:
    """Rounds, and seconds that each subject has in each."""
    return (1, 1.5) if quick else (3, 3.0)


def measure(subjects: Mapping[str, Subject], work: Work, rounds: int, seconds: float, clients: int = 1) -> dict[str, float]:
    """Calls a second of each, in turns, after a while that does not count."""
    if seconds:
        for subject in subjects.values():
            repeat(subject, work, seconds / 3, clients)
    return in_turns({name: lambda s=subject: repeat(s, work, seconds, clients) for name, subject in subjects.items()}, rounds)


def repeat(subject: Subject, work: Work, seconds: float, clients: int) -> float:
    """Calls a second while each client has called for so long, at least once."""

    def one(_client: int) -> float:
        count, spent_s = 0, 0.0
        while not count or spent_s < seconds:
            call = work(subject)
            began = time.perf_counter()
            call()
            count, spent_s = count + 1, spent_s + time.perf_counter() - began
        return count / spent_s

    with subject.speaking(), ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(one, range(clients)))


def figure(name: str, measured: Mapping[str, float], unit: str, bar: float | None) -> Figure:
    return Figure(f"modelhub.mlflow.{name}", measured["ours"], unit, PEER, measured["peer"], bar)


if __name__ == "__main__":
    sys.exit(main())
