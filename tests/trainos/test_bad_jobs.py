"""What is bad about a job is said clearly, to who submitted it, and harms nobody else. What takes a cluster to see is in ``test_on_ray``."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import aidos
from aidos.client import Client
from aidos.errors import InvalidPayload, NotFound
from cluster.db import Database
from cluster.settings import Settings
from tests.support.server import serve
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_api import steps
from tune.trainos.errors import JobNotFound
from tune.trainos.models import RayState
from tune.trainos.reconciler import JobReconciler

pytestmark = pytest.mark.postgres
MILLION = 1_000_000


class TestMillionGpus:
    def test_for_one_worker_are_refused_at_submit_and_the_field_is_named(self, client: Client) -> None:
        with pytest.raises(InvalidPayload, match="gpus_per_worker"):
            client.jobs.create("greedy", command=["true"], gpus_per_worker=MILLION)

    def test_for_many_workers_end_the_job_with_what_there_is_and_not_the_queue(
        self, client: Client, database: Database, reconciler: JobReconciler
    ) -> None:
        greedy = client.jobs.create("greedy", command=["true"], workers=100, gpus_per_worker=MILLION / 100)
        modest = client.jobs.create("modest", command=["true"])
        steps(database, reconciler, 1)
        found = client.jobs.get(str(greedy.id))
        assert (found.state, found.reason) == ("FAILED", "can never start: needs 1000000 GPU, 0 and 101 CPU, 8 in the whole cluster")
        assert client.jobs.get(str(modest.id)).state == "STARTING"


class TestCycleOfDependencies:
    def test_nobody_waits_for_himself(self, client: Client) -> None:
        with pytest.raises(JobNotFound):
            client.jobs.create("snake", command=["true"], after=["snake"])

    def test_a_name_means_the_job_that_there_was_so_a_circle_of_names_is_a_line_of_jobs(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        first = client.jobs.create("a", command=["true"])
        line = [first, client.jobs.create("b", command=["true"], after=["a"]), client.jobs.create("a", command=["true"], after=["b"])]
        for number, job in enumerate(line):
            steps(database, reconciler, 1)
            assert [client.jobs.get(str(each.id)).state for each in line[number:]] == ["STARTING"] + ["QUEUED"] * (len(line) - number - 1)
            steps(database, reconciler, 1)
            cluster.become(client.jobs.get(str(job.id)).submission_id or "", RayState.SUCCEEDED)
            steps(database, reconciler, 1)
        assert {client.jobs.get(str(job.id)).state for job in line} == {"SUCCEEDED"}


class TestDatasetThatGoes:
    @pytest.fixture
    def letters(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.txt").write_text("as it was")
        aidos.push(tmp_path / "data", "letters")
        client.datasets.set_ref("letters", "wip", commit="main")

    def start(self, database: Database, reconciler: JobReconciler, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """The job that was submitted begins, and this process is in it."""
        steps(database, reconciler, 2)
        (environment,) = cluster.environments.values()
        for name in ("AIDOS_JOB_ID", "AIDOS_DATASETS"):
            monkeypatch.setenv(name, environment[name])

    @pytest.mark.usefixtures("letters")
    def test_a_ref_that_is_deleted_before_the_start_still_means_the_commit_of_the_submit(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.jobs.create("digits", command=["true"], datasets=["letters@wip"])
        client.datasets.delete_ref("letters", "wip")
        self.start(database, reconciler, cluster, monkeypatch)
        assert (aidos.dataset("letters@wip").to_local() / "a.txt").read_text() == "as it was"

    @pytest.mark.usefixtures("letters")
    def test_a_dataset_that_is_deleted_is_named_in_the_job(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.jobs.create("digits", command=["true"], datasets=["letters@wip"])
        client.datasets.delete("letters")
        self.start(database, reconciler, cluster, monkeypatch)
        with pytest.raises(NotFound, match="letters"):
            aidos.dataset("letters@wip").to_local()


class TestFlood:
    @pytest.fixture
    def flooded(self, settings: Settings, admin_key: str) -> Iterator[str]:
        """An API where a key may submit a hundred jobs a minute."""
        with serve(settings.model_copy(update={"submit_limit_per_minute": 100})) as address:
            yield address

    async def test_what_is_over_the_limit_is_429_with_the_time_to_wait_and_leaves_nothing(self, flooded: str, admin_key: str) -> None:
        async with httpx.AsyncClient(base_url=flooded, headers={"Authorization": f"Bearer {admin_key}"}, timeout=60) as http:
            answers = await asyncio.gather(
                *(http.post("/v1/trainos/jobs", json={"name": "flood", "command": ["true"]}) for _ in range(250))
            )
            listed = (await http.get("/v1/trainos/jobs", params={"limit": 500})).raise_for_status().json()["items"]
        counts = Counter(answer.status_code for answer in answers)
        windows = 2  # a minute may end in between
        assert set(counts) == {201, 429} and 100 <= counts[201] <= 100 * windows and len(listed) == counts[201]
        refusal = next(answer for answer in answers if answer.status_code == 429)
        wanted = r"The limit of 100 requests a minute of this key for create_job is used up\. Try again in \d+ s\."
        assert re.fullmatch(wanted, refusal.json()["detail"]) and 1 <= int(refusal.headers["Retry-After"]) <= 61
