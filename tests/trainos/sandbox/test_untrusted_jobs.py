"""Untrusted jobs in the queue and at the API, over the real database; the cluster is a list of what was submitted to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from aidos.client import Client
from aidos.errors import Forbidden
from aidos.schemas.checkpoints import CheckpointFileBody
from cluster.db import Database
from tests.trainos.conftest import Submit, take_step, zip_of
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_api import steps
from tune.trainos.errors import SandboxUnfit
from tune.trainos.models import Trust
from tune.trainos.reconciler import JobReconciler

pytestmark = pytest.mark.postgres


class TestWhatItLeases:
    async def test_its_command_is_its_one_worker_and_its_memory_is_bounded(self, submit: Submit) -> None:
        asked = (await submit(trust=Trust.UNTRUSTED, workers=1, cpus_per_worker=1.5)).spec.resources
        assert (asked.cpu, asked.gpu, asked.memory_gib) == (1.5, 0, 2)
        assert (await submit(trust=Trust.UNTRUSTED, workers=1, memory_gib_per_worker=3.0)).spec.resources.memory_gib == 3

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"workers": 4}, "has 4 workers, and a sandbox is one process tree"),
            ({"workers": 1, "gpus_per_worker": 1.0}, "asks for GPUs, and a sandbox has none"),
            ({"workers": 1, "requirements": "requirements.txt"}, "asks for packages"),
        ],
    )
    async def test_what_a_sandbox_has_not_is_refused_in_words(self, submit: Submit, asked: dict[str, object], words: str) -> None:
        with pytest.raises(SandboxUnfit, match=words):
            await submit(trust=Trust.UNTRUSTED, **asked)


class TestItsCode:
    async def test_is_not_unpacked_by_ray_and_is_found_where_the_token_is(
        self,
        database: Database,
        reconciler: JobReconciler,
        cluster: FakeCluster,
        submit: Submit,
        upload_code: Callable[[bytes], Awaitable[str]],
    ) -> None:
        code = await upload_code(zip_of(main_py="print(1)"))
        job = await submit(trust=Trust.UNTRUSTED, workers=1, code_sha256=code)
        await take_step(database, reconciler)
        await take_step(database, reconciler)
        assert list(cluster.packages.values()) == [None]
        url = cluster.notes[f"job-code/{job.id}/1".encode()]
        assert f"{code}.zip" in url and "X-Amz-Signature" in url
        (environment,) = cluster.environments.values()
        assert environment["AIDOS_SANDBOX_MEMORY_BYTES"] == str(2 * 2**30) and url not in environment.values()


class TestItsToken:
    @pytest.fixture
    def job(self, client: Client) -> str:
        return str(client.jobs.create("stranger", command=["true"], trust="untrusted").id)

    @pytest.fixture
    def inside(
        self, client: Client, job: str, url: str, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> Iterator[Client]:
        steps(database, reconciler, 2)
        (token,) = cluster.notes.values()
        with Client(url, token) as opened:
            yield opened

    def test_saves_checkpoints_and_logs_to_its_run(self, client: Client, inside: Client, job: str) -> None:
        file = CheckpointFileBody(path="a", sha256="0" * 64, size_bytes=3)
        assert inside.checkpoints.upload(job, files=[file]).upload_urls[0]
        run = str(client.jobs.get(job).run_id)
        inside.runs.log_params(run, params={"rate": "1"})
        assert client.runs.get(run).params["rate"] == "1"

    def test_begins_nothing_that_would_run_outside_of_a_sandbox(self, inside: Client, job: str) -> None:
        again = {"name": "again", "command": ["id"]}
        for begin in (
            lambda: inside.jobs.create("again", command=["id"]),
            lambda: inside.jobs.create("again", command=["id"], trust="untrusted"),
            lambda: inside.jobs.resume(job),
            lambda: inside.schedules.create("again", cron="* * * * *", job=again),
            lambda: inside.jobs.upload(sha256="0" * 64, size_bytes=7),
        ):
            with pytest.raises(Forbidden):
                begin()


class TestKeysForUntrustedCode:
    def test_a_key_may_be_narrowed_to_it(self, client: Client, url: str) -> None:
        key = client.keys.create("pupil", role="developer", scopes=["trainos:sandbox", "trainos:read"]).key
        with Client(url, key) as pupil:
            assert pupil.jobs.create("mine", command=["true"], trust="untrusted").spec.trust == "untrusted"
            with pytest.raises(Forbidden, match="trainos:write"):
                pupil.jobs.create("mine", command=["true"])
