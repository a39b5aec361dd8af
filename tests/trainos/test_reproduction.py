"""A run again: real trainings, over the real API, database and store; their processes are started here in the place of Ray's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest

import aidos
from actors.securityvault.models import Scope
from aidos.cli.job import upload_code
from aidos.client import Client
from aidos.errors import InvalidPayload, NotFound
from aidos.schemas.modelhub import PointLog
from aidos.schemas.reproductions import ReproductionRead
from aidos.schemas.trainos import JobRead
from cluster.db import Database
from cluster.objects import Objects
from tests.support.waiting import wait_until
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_api import steps
from tune.trainos import service
from tune.trainos.models import RayState
from tune.trainos.reconciler import JobReconciler
from tune.trainos.reproduction.errors import MetricNotMeasured, ReproductionNotFound, RunNotReproducible

AIDOS = Path(sysconfig.get_path("scripts")) / "aidos"
TRAIN = """
import os, sys
import numpy as np
import aidos
seed = None if sys.argv[1] == "none" else int(sys.argv[1])
numbers = np.array([float(line) for line in aidos.dataset("numbers@main").read_bytes("numbers.txt").split()])
weight, generator = 0.0, np.random.default_rng(seed)
inputs = ["numbers@main"]
with aidos.run(experiment="mean", params={"seed": sys.argv[1], "threads": os.environ.get("THREADS", "1")}, inputs=inputs) as run:
    for step in range(200):
        weight -= 0.1 * (weight - generator.choice(numbers))
        run.log_metric("loss", float(((numbers - weight) ** 2).mean()), step=step)
    run.log_metric("weight", weight)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    return folder


Push = Callable[..., str]


@pytest.fixture
def push(client: Client, tmp_path: Path) -> Push:
    """Give the dataset other numbers; the commit."""

    def send(*numbers: float) -> str:
        folder = tmp_path / "numbers"
        folder.mkdir(exist_ok=True)
        (folder / "numbers.txt").write_text("\n".join(map(str, numbers)))
        return str(aidos.push(folder, "numbers", message="numbers", client=client).commit.id)

    return send


Play = Callable[..., JobRead]


@pytest.fixture
def play(client: Client, url: str, database: Database, reconciler: JobReconciler, cluster: FakeCluster, tmp_path: Path) -> Play:
    """Admit the queued job and run its command as Ray would, with its package, environment and token; the job as it ended."""

    def run(job: JobRead, **variables: str) -> JobRead:
        steps(database, reconciler, 2)
        name = str(client.jobs.get(str(job.id)).submission_id)
        token = tmp_path / f"{job.id}.token"
        token.write_text(next(text for key, text in cluster.notes.items() if str(job.id).encode() in key))
        clean = {key: value for key, value in os.environ.items() if key != "AIDOS_API_KEY"}
        told = {**cluster.environments[name], "AIDOS_URL": url, "AIDOS_TOKEN_FILE": str(token), "AIDOS_SYSTEM_METRICS_S": "0"}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(BytesIO(cluster.packages[name] or b"")).extractall(folder)
            done = subprocess.run(job.spec.command, cwd=folder, env={**clean, "PATH": path, **told, **variables}, check=False, timeout=60)
        cluster.become(name, RayState.FAILED if done.returncode else RayState.SUCCEEDED)
        steps(database, reconciler, 2)
        return client.jobs.get(str(job.id))

    return run


@pytest.fixture
def original(client: Client, code: Path, push: Push, play: Play) -> Callable[..., str]:
    """A training that has ended as a job; its run."""

    def train(seed: str = "7") -> str:
        push(1, 2, 3, 4)
        asked = {"command": ["python", "train.py", seed], "code_sha256": upload_code(client, code), "datasets": ["numbers@main"]}
        job = play(client.jobs.create(name="mean", **asked))
        assert job.state == "SUCCEEDED"
        return str(job.run_id)

    return train


def reproduce(client: Client, play: Play, run_id: str, **variables: str) -> str:
    """The run that reproduces it, ended."""
    return str(play(client.runs.reproduce(run_id), **variables).run_id)


def aidos_run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(AIDOS), "--json", "run", *words], capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


def differing(report: ReproductionRead) -> set[str]:
    return {f"{each.section}.{each.name}" for each in report.differs}


@pytest.mark.postgres
class TestJobs:
    def test_a_seeded_training_comes_out_the_same_on_the_commit_that_it_read(
        self, client: Client, original: Callable[..., str], push: Push, play: Play
    ) -> None:
        run = original()
        push(100, 200)
        started = json.loads(aidos_run("reproduce", run).stdout)
        again = str(play(client.jobs.get(started["id"])).run_id)
        report = client.runs.reproduction(again)
        assert (report.verdict, report.reason, report.original_id) == ("AGREES", "", UUID(run))
        assert {each.metric: each.original == each.reproduced for each in report.metrics} == {"loss": True, "weight": True}
        assert differing(report) == set(), "data, code, parameters and packages are the same"
        edges = client.lineage.get("run", again, direction="up", depth=1).edges
        assert (run, "reproduced as") in {(edge.source.id, edge.relation) for edge in edges}
        assert client.runs.get(again).experiment == client.runs.get(run).experiment

    def test_what_has_no_seed_differs_unless_within_the_tolerance_that_is_stated(
        self, client: Client, original: Callable[..., str], play: Play
    ) -> None:
        again = reproduce(client, play, original("none"))
        report = client.runs.reproduction(again)
        assert report.verdict == "DIFFERS" and "loss" in report.reason and "weight" in report.reason
        assert client.runs.reproduction(again, tolerance=10).verdict == "AGREES"
        assert "weight" in client.runs.reproduction(again, metric=["loss=10"]).reason
        assert client.runs.reproduction(again, metric=["loss=10", "weight=inf"]).verdict == "AGREES"

    def test_says_which_parameters_and_packages_are_not_alike(
        self, client: Client, original: Callable[..., str], play: Play, tmp_path: Path
    ) -> None:
        run = original()
        (tmp_path / "other").mkdir()
        loaded = "import types, sys\nsys.modules['newlib'] = types.ModuleType('newlib')\nsys.modules['newlib'].__version__ = '2.0'\n"
        (tmp_path / "other" / "sitecustomize.py").write_text(loaded)
        report = client.runs.reproduction(reproduce(client, play, run, THREADS="2", PYTHONPATH=str(tmp_path / "other")))
        found = {f"{each.section}.{each.name}": (each.original, each.reproduced) for each in report.differs}
        assert found == {"params.threads": ("1", "2"), "environment.newlib": (None, "2.0")}
        assert report.verdict == "AGREES", "the metrics are the same all the same"

    def test_says_which_data_are_not_alike(self, client: Client, code: Path, push: Push, play: Play) -> None:
        """A job that reads what it did not declare: nobody can fix that to a commit, so it is told."""
        (code / "train.py").write_text(
            TRAIN.replace("inputs = [", "for _ in aidos.dataset('numbers@main').to_torch(shuffle=False): pass\ninputs = [")
        )
        before = push(1, 2, 3)
        job = play(client.jobs.create(name="mean", command=["python", "train.py", "7"], code_sha256=upload_code(client, code)))
        after = push(4, 5, 6)
        report = client.runs.reproduction(reproduce(client, play, str(job.run_id)))
        (data,) = [each for each in report.differs if each.section == "data"]
        assert (data.name, data.original, data.reproduced) == ("numbers", before, after) and report.verdict == "DIFFERS"

    def test_a_reproduction_that_fails_is_none(self, client: Client, original: Callable[..., str], play: Play) -> None:
        report = client.runs.reproduction(reproduce(client, play, original(), PYTHONHASHSEED="nonsense"))
        assert report.verdict == "DIFFERS" and report.reason == "It ended FAILED, the original FINISHED."

    def test_the_command_waits_and_its_exit_code_says_whether_they_agree(
        self, client: Client, original: Callable[..., str], play: Play
    ) -> None:
        for seed, code in (("7", 0), ("none", 1)):
            run = original(seed)
            waiting = subprocess.Popen([str(AIDOS), "run", "reproduce", run, "--wait"], stdout=subprocess.PIPE, text=True)
            (queued,) = wait_until(lambda: [job for job in client.jobs.list() if job.state == "QUEUED"], within_s=60)
            play(queued)
            said, _ = waiting.communicate(timeout=60)
            assert waiting.returncode == code and ("AGREES" if code == 0 else "DIFFERS: 2 of 2 metrics") in said


@pytest.mark.postgres
class TestRefusals:
    def test_of_a_run_that_has_not_ended(self, client: Client, code: Path) -> None:
        job = client.jobs.create(name="mean", command=["true"])
        with pytest.raises(RunNotReproducible, match="has not ended"):
            client.runs.reproduce(str(job.run_id))

    def test_of_a_run_beside_its_jobs_own(self, client: Client, code: Path, push: Push, play: Play) -> None:
        (code / "train.py").write_text("import os, aidos\ndel os.environ['AIDOS_RUN_ID']\naidos.run('side').end()\n")
        job = play(client.jobs.create(name="mean", command=["python", "train.py"], code_sha256=upload_code(client, code)))
        (side,) = client.runs.list(experiment="side")
        with pytest.raises(RunNotReproducible, match=f"beside its own run.*{job.run_id}"):
            client.runs.reproduce(str(side.id))

    def test_of_the_search_of_a_study(self, client: Client) -> None:
        space = {"lr": {"kind": "float", "low": 0, "high": 1}}
        study = client.studies.create("search", command=["true"], space=space, objectives=[{"metric": "loss"}])
        client.studies.stop("search")
        job = client.jobs.get(str(study.job_id))
        with pytest.raises(RunNotReproducible, match="study"):
            client.runs.reproduce(str(job.run_id))

    def test_of_data_that_are_gone(self, client: Client, original: Callable[..., str]) -> None:
        run = original()
        client.datasets.delete("numbers")
        with pytest.raises(RunNotReproducible, match="its data 'numbers@main'.*collected or deleted"):
            client.runs.reproduce(run)

    def test_of_code_that_is_gone(self, client: Client, original: Callable[..., str], objects: Objects, scope: Scope) -> None:
        run = original()
        sha256 = client.jobs.get(str(client.runs.get(run).job_id)).spec.code_sha256
        assert sha256 is not None
        asyncio.run(objects.remove([service.code_key(scope.project, sha256)]))
        with pytest.raises(RunNotReproducible, match="code package"):
            client.runs.reproduce(run)

    def test_of_a_local_run_without_its_code_and_of_a_job_with_another(self, client: Client, original: Callable[..., str]) -> None:
        local = client.runs.create(experiment="local")
        client.runs.update(str(local.id), state="FINISHED")
        with pytest.raises(RunNotReproducible, match=f"aidos run reproduce {local.id}"):
            client.runs.reproduce(str(local.id))
        with pytest.raises(RunNotReproducible, match="own code"):
            client.runs.reproduce(original(), command=["true"], code_sha256="0" * 64)
        with pytest.raises(InvalidPayload, match="both"):
            client.runs.reproduce(str(local.id), command=["true"])

    def test_of_questions_that_have_no_answer(self, client: Client, original: Callable[..., str]) -> None:
        run = original()
        with pytest.raises(ReproductionNotFound):
            client.runs.reproduction(run)
        with pytest.raises(NotFound):
            client.runs.reproduction("01890a5d-ac96-774b-bcce-b302099a8057")
        again = str(client.runs.reproduce(run).run_id)
        for metric in ("loss", "loss=", "loss=many", "loss=-1", "loss=nan", "=1"):
            with pytest.raises(InvalidPayload, match="METRIC=NUMBER"):
                client.runs.reproduction(again, metric=[metric])
        with pytest.raises(MetricNotMeasured, match="loss, weight"):
            client.runs.reproduction(again, metric=["acc=1"])
        for metric in ("acc=1", "loss=many", "loss=nan"):
            asked = aidos_run("reproduce", run, "--metric", metric)
            assert asked.returncode != 0 and "loss, weight" in asked.stderr
        assert len(list(client.jobs.list())) == 2, "and no job was begun for it"


def git(*words: str, cwd: Path) -> None:
    subprocess.run(["git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", *words], check=True, capture_output=True, cwd=cwd)


@pytest.fixture
def repository(code: Path, push: Push) -> Path:
    """A clone of a repository, its script in a folder."""
    push(1, 2, 3, 4)
    upstream, clone = code.parent / "upstream", code.parent / "clone"
    (upstream / "src").mkdir(parents=True)
    (upstream / "src" / "train.py").write_text(TRAIN)
    (upstream / ".gitignore").write_text("*.log\n")
    git("init", "-q", "-b", "main", cwd=upstream)
    git("add", ".", cwd=upstream)
    git("commit", "-q", "-m", "first", cwd=upstream)
    git("clone", "-q", upstream.as_uri(), str(clone), cwd=code)
    return clone


def train_locally(folder: Path, *words: str) -> str:
    """Run the script as a person would; its run."""
    done = subprocess.run(
        [sys.executable, *(words or ("train.py", "7"))], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "AIDOS_SYSTEM_METRICS_S": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Client() as client:
        return str(next(iter(client.runs.list(experiment="mean"))).id)


@pytest.mark.postgres
class TestLocalRuns:
    @pytest.mark.parametrize("place", ["clone", "elsewhere"])
    def test_come_out_the_same_from_their_commit_and_changes(
        self, client: Client, repository: Path, push: Push, play: Play, tmp_path: Path, place: str
    ) -> None:
        """In a clone that has the commit, and elsewhere from the remote that the run noted."""
        script = repository / "src" / "train.py"
        script.write_text(TRAIN.replace("range(200)", "range(50)"))
        run = train_locally(repository / "src")
        git("checkout", "-q", ".", cwd=repository)
        push(100, 200)
        (tmp_path / "elsewhere").mkdir()
        asked = aidos_run("reproduce", run, cwd=tmp_path / place)
        assert asked.returncode == 0, asked.stderr
        report = client.runs.reproduction(str(play(client.jobs.get(json.loads(asked.stdout)["id"])).run_id))
        assert report.verdict == "AGREES" and {each.metric for each in report.metrics} == {"loss", "weight"}
        assert not [each for each in differing(report) if each.startswith(("code.", "data.", "params."))], report.differs
        assert client.runs.get(str(report.run_id)).metrics["loss"].step == 49, "with the changes"

    @pytest.mark.parametrize(
        ("change", "words", "says"),
        [
            ("# password = 'S3CRETS3CRET'\n", (), "its changes had a secret"),
            ("", ("train.py", "7", "--api-key", "S3CRETS3CRET"), "its command had a secret"),
            ("", ("-c", "exec(open('train.py').read())", "7"), None),
            ("", ("{folder}/train.py", "7"), "a file of the machine"),
        ],
    )
    def test_that_cannot_be_put_together_again_are_refused_with_the_reason(
        self, client: Client, repository: Path, change: str, words: tuple[str, ...], says: str | None
    ) -> None:
        script = repository / "src" / "train.py"
        if change:
            script.write_text(TRAIN + change)
        run = train_locally(script.parent, *(word.format(folder=script.parent) for word in words))
        asked = aidos_run("reproduce", run, cwd=repository)
        if says is None:
            assert asked.returncode == 0, asked.stderr
        else:
            assert asked.returncode != 0 and says in asked.stderr
            assert not list(client.jobs.list())

    def test_outside_of_any_repository_or_of_another_client_are_refused(self, client: Client, code: Path, push: Push) -> None:
        push(1, 2)
        asked = aidos_run("reproduce", train_locally(code), cwd=code)
        assert asked.returncode != 0 and "not in a git repository" in asked.stderr
        bare = client.runs.create(experiment="bare")
        client.runs.log_metrics(str(bare.id), points=[PointLog(key="loss", value=1.0)])
        client.runs.update(str(bare.id), state="FINISHED")
        asked = aidos_run("reproduce", str(bare.id), cwd=code)
        assert asked.returncode != 0 and "kept no environment.json" in asked.stderr

    def test_of_a_repository_that_is_out_of_reach_say_what_to_name(self, repository: Path, tmp_path: Path) -> None:
        run = train_locally(repository / "src")
        (repository.parent / "upstream").rename(repository.parent / "moved")
        (tmp_path / "elsewhere").mkdir()
        asked = aidos_run("reproduce", run, cwd=tmp_path / "elsewhere")
        assert asked.returncode != 0 and "--repository DIR" in asked.stderr
        assert aidos_run("reproduce", run, "--repository", str(repository), cwd=tmp_path / "elsewhere").returncode == 0
