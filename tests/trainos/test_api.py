"""Jobs over real HTTP, with the SDK and the command; no cluster."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

import aidos
from actors.securityvault.models import Scope
from aidos.client import Client
from aidos.errors import Forbidden, InvalidPayload, InvalidRequest, NotFound
from aidos.schemas.checkpoints import CheckpointFileBody
from aidos.transfers import checkpoints as checkpoints_module
from cluster.db import Database
from cluster.objects import Objects
from tests.support.waiting import wait_until
from tests.trainos.conftest import take_step, zip_of
from tests.trainos.fake_cluster import FakeCluster
from tune.trainos.errors import CheckpointExists, CheckpointIncomplete, CheckpointNotFound, JobEnded, JobNotEnded, JobNotFound
from tune.trainos.models import RayState
from tune.trainos.reconciler import JobReconciler

pytestmark = pytest.mark.postgres
AIDOS = Path(sysconfig.get_path("scripts")) / "aidos"


def steps(database: Database, reconciler: JobReconciler, count: int) -> None:
    """So many steps of what is due, on an event loop and a pool of their own."""

    async def go() -> None:
        async with Database(database.settings) as db:
            mine = JobReconciler(db, reconciler.objects, reconciler.settings, reconciler.ray)
            for _ in range(count):
                await take_step(db, mine)

    asyncio.run(go())


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(AIDOS), *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, env=dict(os.environ), check=False)


class TestJobs:
    def test_the_same_code_is_uploaded_once(self, client: Client) -> None:
        content = zip_of(main_py="print(1)")
        sha256 = hashlib.sha256(content).hexdigest()
        url = client.jobs.upload(sha256=sha256, size_bytes=len(content)).upload_url
        assert url is not None
        client.put_presigned(url, content)
        assert client.jobs.upload(sha256=sha256, size_bytes=len(content)).upload_url is None
        assert client.jobs.create("digits", command=["python", "main.py"], code_sha256=sha256).state == "QUEUED"

    def test_are_listed_found_by_name_and_cancelled(self, client: Client) -> None:
        made = [client.jobs.create(name, command=["true"]) for name in ("a", "b", "a")]
        assert [job.id for job in client.jobs.list(limit=2)] == [made[2].id, made[1].id]
        assert [job.id for job in client.jobs.list(state="QUEUED")] == [job.id for job in reversed(made)]
        assert client.jobs.get("a").id == made[2].id and client.jobs.get(str(made[0].id)).id == made[0].id
        assert client.jobs.cancel("b").state == "CANCELLED"
        with pytest.raises(JobEnded):
            client.jobs.cancel("b")
        with pytest.raises(JobNotFound):
            client.jobs.get("nobody")

    def test_a_dataset_that_is_not_there_is_refused_at_submit(self, client: Client) -> None:
        with pytest.raises(NotFound, match="nothing-here"):
            client.jobs.create("digits", command=["true"], datasets=["nothing-here@main"])

    def test_a_dataset_is_fixed_to_its_commit_and_the_graph_says_so(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.txt").write_text("1")
        first = aidos.push(tmp_path / "data", "letters").commit.id
        job = client.jobs.create("digits", command=["true"], datasets=["letters@main"])
        (tmp_path / "data" / "a.txt").write_text("2")
        assert aidos.push(tmp_path / "data", "letters").commit.id != first
        (found,) = client.jobs.get(str(job.id)).inputs
        assert (found.reference, found.dataset, str(found.commit_id)) == ("letters@main", "letters", str(first))
        graph = client.lineage.get("run", str(job.run_id))
        edges = {(edge.source.kind, str(edge.source.id), edge.target.kind) for edge in graph.edges}
        assert {("commit", str(first), "run"), ("job", str(job.id), "run")} <= edges

    def test_a_job_has_a_run_that_ends_with_it(self, client: Client) -> None:
        job = client.jobs.create("digits", command=["true"])
        assert client.runs.get(str(job.run_id)).state == "RUNNING"
        client.jobs.cancel(str(job.id))
        assert client.runs.get(str(job.run_id)).state == "KILLED"

    def test_its_states_are_told_as_they_come(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        job = str(client.jobs.create("digits", command=["true"]).id)
        told: list[str] = []

        def listen() -> None:
            for event in client.events.stream(type="trainos.job", subject=job):
                told.append(event.type.rpartition(".")[2])
                if told[-1] == "succeeded":
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        # Whoever listens hears what happens from then on.
        wait_until(lambda: client.jobs.hold(job) and client.jobs.release(job) and told, every_s=0.1)
        steps(database, reconciler, 2)
        name = client.jobs.get(job).submission_id or ""
        for state in (RayState.RUNNING, RayState.SUCCEEDED):
            cluster.become(name, state)
            steps(database, reconciler, 1)
        listener.join(timeout=30)
        assert [state for state in told if state not in ("held", "released")] == ["starting", "running", "succeeded"]
        assert [event.type for event in client.events.list(type="trainos.job", subject=job, limit=1)] == ["aidos.trainos.job.queued"]

    def test_bad_fields_are_422(self, client: Client, url: str, admin_key: str) -> None:
        bad: list[dict[str, object]] = [
            {"command": []},
            {"command": ["a\x00b"]},
            {"workers": -1},
            {"workers": 2**70},
            {"datasets": ["../etc@main"]},
            {"name": ""},
            {"timeout_s": 0},
            {"unknown": 1},
        ]
        headers = {"Authorization": f"Bearer {admin_key}"}
        bodies = [{"name": "x", "command": ["true"], **fields} for fields in bad]
        answers = [httpx.post(f"{url}/v1/trainos/jobs", json=body, headers=headers).status_code for body in bodies]
        assert answers == [422] * len(bad)


class TestLogs:
    @pytest.fixture
    def job(self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster) -> str:
        """A job that has printed something and ended."""
        job = client.jobs.create("digits", command=["true"])
        steps(database, reconciler, 2)
        name = client.jobs.get(str(job.id)).submission_id or ""
        cluster.logs[name] = "first\nzweite Zeile: ä\n".encode()
        cluster.become(name, RayState.RUNNING)
        steps(database, reconciler, 1)
        cluster.logs[name] += b"last\n"
        cluster.become(name, RayState.SUCCEEDED)
        steps(database, reconciler, 1)
        return str(job.id)

    def test_pieces_come_in_order_with_their_end(self, client: Client, job: str) -> None:
        first = client.jobs.chunks(job, limit=1)
        rest = client.jobs.chunks(job, after=first.last_seq, wait="5s")
        assert not first.complete and rest.complete and first.size_bytes == rest.size_bytes
        pieces = [client.get_presigned(chunk.url).content for chunk in [*first.items, *rest.items]]
        assert b"".join(pieces).decode() == "first\nzweite Zeile: ä\nlast\n"

    def test_the_stream_is_the_text_and_ends(self, client: Client, job: str) -> None:
        assert "".join(event.text for event in client.jobs.stream(job)) == "first\nzweite Zeile: ä\nlast\n"

    def test_the_command_prints_the_same_bytes(self, client: Client, job: str, tmp_path: Path) -> None:
        shown = command("job", "logs", "-f", job, cwd=tmp_path)
        assert (shown.returncode, shown.stdout) == (0, "first\nzweite Zeile: ä\nlast\n"), shown.stderr

    def test_the_command_shows_the_lines_with_a_word(self, client: Client, job: str, tmp_path: Path) -> None:
        shown = command("job", "logs", job, "--search", "ZEILE", cwd=tmp_path)
        assert (shown.returncode, shown.stdout) == (0, "2: zweite Zeile: ä\n"), shown.stderr
        as_json = command("job", "logs", job, "--search", "last", "--json", cwd=tmp_path)
        assert json.loads(as_json.stdout) == {"number": 3, "rank": None, "text": "last"}

    def test_a_search_that_broke_off_goes_on_behind_the_line_that_was_seen(self, client: Client, job: str) -> None:
        assert [line.number for line in client.jobs.search(job)] == [1, 2, 3]
        later = client.with_options(headers={"Last-Event-ID": "2"}).jobs.search(job, word="L", follow=True)
        assert [(line.number, line.text) for line in later] == [(3, "last")]

    def test_a_search_reads_what_there_is_and_follows_only_who_asks(
        self, client: Client, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        job = str(client.jobs.create("digits", command=["true"]).id)
        steps(database, reconciler, 2)
        name = client.jobs.get(job).submission_id or ""
        cluster.logs[name] = b"one\ntw"
        cluster.become(name, RayState.RUNNING)
        steps(database, reconciler, 1)
        assert [line.text for line in client.jobs.search(job)] == ["one", "tw"]
        lines = iter(client.jobs.search(job, follow=True))
        assert next(lines).text == "one"
        cluster.logs[name] += b"o\n"
        cluster.become(name, RayState.SUCCEEDED)
        steps(database, reconciler, 1)
        assert [line.text for line in lines] == ["two"]


class TestArrays:
    def test_an_array_is_listed_as_one_job_and_its_jobs_when_they_are_asked_for(self, client: Client) -> None:
        array, other = client.jobs.create("sweep", command=["true"], array="0-3:3%1"), client.jobs.create("other", command=["true"])
        assert array.array is not None and (array.array.size, array.array.at_once, array.array.counts) == (2, 1, {"QUEUED": 2})
        assert array.run_id is None and array.reason == "2 QUEUED" and array.spec.array == "0-3:3%1"
        assert [job.id for job in client.jobs.list()] == [other.id, array.id]
        for asked in ("sweep", str(array.id)):
            assert [(job.name, job.array and job.array.index) for job in client.jobs.list(array=asked)] == [("sweep_3", 3), ("sweep_0", 0)]
        assert not list(client.jobs.list(array="sweep", state="RUNNING")) and not list(client.jobs.list(array="other"))
        assert [job.name for job in client.queues.get().items] == ["sweep_0", "other", "sweep"]
        assert client.jobs.hold("sweep").held_by and client.jobs.get("sweep_3").held_by and not client.jobs.release("sweep").held_by
        assert client.jobs.update("sweep", priority=5).priority == 5 == client.jobs.get("sweep_0").priority
        cancelled = client.jobs.cancel("sweep")
        assert cancelled.array and (cancelled.state, cancelled.array.counts) == ("CANCELLING", {"CANCELLED": 2})

    def test_what_names_no_jobs_or_too_many_is_refused(self, client: Client) -> None:
        for array, name in (("3-1", "sweep"), ("0-10000", "sweep"), ("0-1", "a" * 94)):
            with pytest.raises(InvalidPayload, match="array"):
                client.jobs.create(name, command=["true"], array=array)
        assert not list(client.jobs.list())

    def test_the_outlook_and_its_cost_are_of_all_its_jobs(self, client: Client, tmp_path: Path) -> None:
        one, many = (
            json.loads(command("job", "submit", "--dry-run", "--json", "--name", "sweep", *array, "--", "true", cwd=tmp_path).stdout)
            for array in ([], ["--array", "0-99"])
        )
        assert (one["jobs"], many["jobs"]) == (1, 100) and many["cost"]["an_hour_micro_usd"] == 100 * one["cost"]["an_hour_micro_usd"] > 0

    def test_the_command_submits_lists_and_waits_for_it_as_one(
        self, client: Client, tmp_path: Path, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        made = command("job", "submit", "--name", "sweep", "--array", "0-1", "--workers", "0", "--json", "--", "true", cwd=tmp_path)
        assert json.loads(made.stdout)["array"]["counts"] == {"QUEUED": 2}
        assert re.search(r"sweep +.*QUEUED +2 QUEUED", command("job", "list", cwd=tmp_path).stdout)
        unfolded = command("job", "list", "--array", "sweep", "--json", cwd=tmp_path)
        assert [job["name"] for job in json.loads(unfolded.stdout)] == ["sweep_1", "sweep_0"]
        steps(database, reconciler, 2)
        for job, state in zip(client.jobs.list(array="sweep"), (RayState.SUCCEEDED, RayState.FAILED), strict=True):
            cluster.become(job.submission_id or "", state, exit_code=0)
        steps(database, reconciler, 2)
        waited = command("job", "wait", "sweep", cwd=tmp_path)
        assert waited.returncode == 1 and "of 2 jobs 1 failed" in waited.stdout


class TestCommand:
    def test_submit_packs_the_directory_and_queues_the_command(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text("print(1)")
        made = command(
            "job", "submit", "--name", "digits", "--workers", "2", "--json", "--", "python", "train.py", "--rate", "0.1", cwd=tmp_path
        )
        assert made.returncode == 0, made.stderr
        job = client.jobs.get(json.loads(made.stdout)["id"])
        assert job.spec.command == ["python", "train.py", "--rate", "0.1"] and job.spec.workers == 2 and job.resources.cpu == 3
        assert job.spec.code_sha256 is not None

    def test_following_prints_the_log_and_ends_as_the_job_does(
        self, client: Client, tmp_path: Path, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        (tmp_path / "train.py").write_text("print(1)")
        following = subprocess.Popen(
            [str(AIDOS), "job", "submit", "--name", "followed", "--follow", "--", "python", "train.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        job = wait_until(lambda: next(iter(client.jobs.list()), None), within_s=30)
        steps(database, reconciler, 2)
        name = client.jobs.get(str(job.id)).submission_id or ""
        cluster.logs[name] = b"one\ntwo\n"
        cluster.become(name, RayState.FAILED, exit_code=3, error_type="JOB_ENTRYPOINT_COMMAND_ERROR")
        steps(database, reconciler, 1)
        output, remarks = following.communicate(timeout=60)
        assert (following.returncode, output) == (3, "one\ntwo\n") and "FAILED: exit code 3" in remarks

    def test_wait_says_how_it_ended(self, client: Client, tmp_path: Path) -> None:
        job = client.jobs.create("digits", command=["true"])
        client.jobs.cancel(str(job.id))
        waited = command("job", "wait", str(job.id), cwd=tmp_path)
        assert waited.returncode == 1 and re.search(r"CANCELLED", waited.stdout)


class TestCheckpoints:
    @pytest.fixture
    def job(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> str:
        """This process is in that job."""
        job = client.jobs.create("digits", command=["true"])
        monkeypatch.setenv("AIDOS_JOB_ID", str(job.id))
        return str(job.id)

    def test_the_latest_comes_back_as_it_was_saved(self, client: Client, job: str, tmp_path: Path) -> None:
        (tmp_path / "in" / "deep").mkdir(parents=True)
        (tmp_path / "in" / "deep" / "a").write_bytes(b"1")
        for step in (0, 5):
            (tmp_path / "in" / "b").write_bytes(b"step %d" % step)
            saved = aidos.save_checkpoint(tmp_path / "in", step=step, metrics={"loss": 0.5})
            assert saved is not None and saved.step == step and saved.metrics == {"loss": 0.5}
        assert aidos.load_checkpoint(tmp_path / "out") == 5
        assert (tmp_path / "out" / "b").read_bytes() == b"step 5" and (tmp_path / "out" / "deep" / "a").read_bytes() == b"1"
        assert [found.step for found in client.checkpoints.list(job)] == [5, 0]

    def test_saving_a_step_again_changes_nothing_and_another_content_is_refused(self, client: Client, job: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"1")
        first, again = (aidos.save_checkpoint(tmp_path, step=1) for _ in range(2))
        assert first == again
        (tmp_path / "a").write_bytes(b"2")
        with pytest.raises(CheckpointExists):
            aidos.save_checkpoint(tmp_path, step=1)

    def test_one_that_is_not_whole_is_never_listed(self, client: Client, job: str) -> None:
        file = CheckpointFileBody(path="a", sha256="0" * 64, size_bytes=3)
        (url,) = client.checkpoints.upload(job, files=[file]).upload_urls
        with pytest.raises(CheckpointIncomplete):
            client.checkpoints.create(job, step=1, files=[file])
        client.put_presigned(url or "", b"12")
        with pytest.raises(CheckpointIncomplete):
            client.checkpoints.create(job, step=1, files=[file])
        assert list(client.checkpoints.list(job)) == []

    def test_a_flipped_bit_is_seen_and_the_one_before_is_taken(
        self, client: Client, job: str, tmp_path: Path, objects: Objects, scope: Scope
    ) -> None:
        for step in (1, 2):
            (tmp_path / "a").write_bytes(b"state %d" % step)
            aidos.save_checkpoint(tmp_path, step=step)
        latest = client.checkpoints.get(job, "latest")
        key = f"{scope.project}/checkpoints/{job}/{latest.files[0].sha256}"
        asyncio.run(objects.put(key, b"stQte 2"))
        assert aidos.load_checkpoint(tmp_path / "out") == 1

    def test_a_lost_file_is_seen_and_the_one_before_is_taken(
        self, client: Client, job: str, tmp_path: Path, objects: Objects, scope: Scope
    ) -> None:
        for step in (1, 2):
            (tmp_path / "a").write_bytes(b"state %d" % step)
            aidos.save_checkpoint(tmp_path, step=step)
        latest = client.checkpoints.get(job, "latest")
        asyncio.run(objects.remove([f"{scope.project}/checkpoints/{job}/{latest.files[0].sha256}"]))
        assert aidos.load_checkpoint(tmp_path / "out") == 1 and (tmp_path / "out" / "a").read_bytes() == b"state 1"

    def test_the_loop_goes_on_while_a_checkpoint_is_uploaded(self, client: Client, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
        gate, told = threading.Event(), list[int]()
        store = checkpoints_module.save_checkpoint
        monkeypatch.setattr(checkpoints_module, "save_checkpoint", lambda *given, **named: gate.wait() and store(*given, **named))

        def write(step: int) -> Callable[[Path], None]:
            def put(folder: Path) -> None:
                told.append(step)
                (folder / "a").write_bytes(b"state %d" % step)

            return put

        with aidos.Checkpointer() as checkpoints:
            checkpoints.save(write(1), step=1)
            assert told == [1] and list(client.checkpoints.list(job)) == []
            gate.set()
            checkpoints.save(write(2), step=2)
            assert 1 in [found.step for found in client.checkpoints.list(job)]
        assert [found.step for found in client.checkpoints.list(job)] == [2, 1]

    def test_an_upload_that_failed_is_told_at_the_next_save(self, job: str) -> None:
        checkpoints = aidos.Checkpointer()
        checkpoints.save(lambda folder: None, step=1)
        with pytest.raises(InvalidRequest, match="no file"):
            checkpoints.save(lambda folder: None, step=2)

    def test_the_last_and_the_best_stay_and_the_files_of_the_others_are_gone(
        self, client: Client, job: str, objects: Objects, scope: Scope
    ) -> None:
        with aidos.Checkpointer(keep_last=2, keep_best=1, metric="loss") as checkpoints:
            for step, loss in enumerate((0.5, 0.1, 0.4, 0.3, 0.2)):

                def write(folder: Path, step: int = step) -> None:
                    (folder / "a").write_bytes(b"state %d" % step)
                    (folder / "same").write_bytes(b"the same in all")

                checkpoints.save(write, step=step, metrics={"loss": loss})
        kept = list(client.checkpoints.list(job))
        assert [each.step for each in kept] == [4, 3, 1]
        stored = asyncio.run(objects.list_prefix(f"{scope.project}/checkpoints/{job}/"))
        assert {each.key.rpartition("/")[2] for each in stored} == {file.sha256 for each in kept for file in each.files}

    def test_a_job_that_has_ended_is_resumed_from_where_it_was(
        self, client: Client, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in (3, 7):
            (tmp_path / "a").write_bytes(b"state %d" % step)
            aidos.save_checkpoint(tmp_path, step=step)
        with pytest.raises(JobNotEnded):
            client.jobs.resume(job)
        client.jobs.cancel(job)
        with pytest.raises(CheckpointNotFound):
            client.jobs.resume(job, step=4)
        for asked, found in ((None, 7), (3, 3)):
            resumed = client.jobs.resume(job, step=asked, workers=5)
            assert resumed.state == "QUEUED" and resumed.spec.workers == 5 and resumed.id != UUID(job)
            monkeypatch.setenv("AIDOS_JOB_ID", str(resumed.id))
            monkeypatch.setenv("AIDOS_RESUME_FROM", resumed.spec.resume_from or "")
            assert aidos.load_checkpoint(tmp_path / "out") == found
            assert (tmp_path / "out" / "a").read_bytes() == b"state %d" % found
            aidos.save_checkpoint(tmp_path, step=9)
            assert aidos.load_checkpoint(tmp_path / "out") == 9

    def test_nothing_to_save_is_said(self, job: str, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="no file"):
            aidos.save_checkpoint(tmp_path / "nowhere", step=1)

    def test_outside_of_a_job_nothing_happens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIDOS_JOB_ID", raising=False)
        assert aidos.load_checkpoint(tmp_path) is None and aidos.save_checkpoint(tmp_path, step=1) is None


class TestJobToken:
    """What user code may do with the token that it is given."""

    @pytest.fixture
    def job(self, client: Client) -> str:
        return str(client.jobs.create("digits", command=["true"]).id)

    @pytest.fixture
    def inside(
        self, client: Client, job: str, url: str, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> Iterator[Client]:
        steps(database, reconciler, 2)
        (token,) = cluster.notes.values()
        with Client(url, token) as opened:
            yield opened

    def test_saves_into_its_own_job_only(self, client: Client, inside: Client, job: str) -> None:
        other = str(client.jobs.create("other", command=["true"]).id)
        file = CheckpointFileBody(path="a", sha256="0" * 64, size_bytes=3)
        assert inside.checkpoints.upload(job, files=[file]).upload_urls[0]
        with pytest.raises(JobNotFound):
            inside.checkpoints.upload(other, files=[file])

    def test_neither_deploys_nor_makes_keys(self, inside: Client) -> None:
        with pytest.raises(Forbidden):
            inside.endpoints.create("digits", model="digits@1")

    def test_is_dead_when_the_job_has_ended(
        self, client: Client, inside: Client, job: str, database: Database, reconciler: JobReconciler, cluster: FakeCluster
    ) -> None:
        assert str(inside.jobs.get(job).id) == job
        cluster.become(client.jobs.get(job).submission_id or "", RayState.SUCCEEDED)
        steps(database, reconciler, 1)

        def refused() -> bool:
            answer = httpx.get(f"{client.config.url}/v1/trainos/jobs/{job}", headers={"Authorization": f"Bearer {inside.config.api_key}"})
            return answer.status_code == 401

        wait_until(refused, within_s=5)
