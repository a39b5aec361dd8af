"""Jobs on a real Ray head with token authentication: how they end, what they print, and what their processes know."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from actors.securityvault.models import Scope
from aidos.transfers.packing import pack
from cluster import embedded, launch, ray_head
from cluster.db import Database
from cluster.objects import Objects
from cluster.settings import Settings
from cluster.supervision import NotReady
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until, wait_until_async
from tests.trainos.conftest import Submit, zip_of
from tests.trainos.test_packages import LITTLE, write_wheel
from tune.trainos import service
from tune.trainos.log_search import LogSearch
from tune.trainos.models import CheckpointFile, CheckpointSpec, Job, JobState

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]
ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sysconfig.get_path("scripts")) / "ray"

WORKERS = """
import os, pathlib, stat, subprocess, sys
import ray
ray.init()
def look():
    path = pathlib.Path(os.environ["AIDOS_TOKEN_FILE"])
    return (path.read_text(), oct(stat.S_IMODE(path.stat().st_mode)), oct(stat.S_IMODE(path.parent.stat().st_mode)),
            str(path), path.read_text() in str(dict(os.environ)), pathlib.Path("main.py").exists())
here, there = look(), ray.get(ray.remote(look).remote())
print("SAME", here[0] == there[0] and here[0].count(".") == 2)
print("MODES", here[1], there[1], here[2], there[2], here[3] != there[3])
print("IN ENVIRONMENT", here[4], there[4])
print("CODE", here[5], there[5])
print("TOKEN", here[0])
"""
ENDLESS = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("PID", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("CHILD", child.pid)
"""
STEADY = """
import time
for number in range(300):
    print("line", number, flush=True)
    time.sleep(0.05)
"""
DIES_WITH_ITS_NODE = """
import os, time
attempt = int(os.environ["AIDOS_JOB_ATTEMPT"])
print("attempt", attempt, flush=True)
time.sleep(600 if attempt == 1 else 0)
"""
GIVES_WAY = """
import os, time
import aidos
if os.environ["AIDOS_JOB_ATTEMPT"] == "2":
    raise SystemExit
while not aidos.preempted():
    time.sleep(0.05)
print("ASKED", flush=True)
time.sleep(600)
"""
PACKAGED = """
import little, ray
ray.init()
print("ANSWERS", little.answer, ray.get(ray.remote(lambda: __import__("little").answer).remote()))
"""
RANKS = """
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
TorchTrainer(lambda: print("the same words"), scaling_config=ScalingConfig(num_workers=2)).fit()
"""
LOUD = """
import sys
line = "x" * 999 + "\\n"
for number in range(100_000):
    sys.stdout.write(line)
print("the last line")
"""


@dataclass
class Platform:
    """A Ray head, and the process in which TrainOS's loops run."""

    settings: Settings
    ray: Settings
    trainos: subprocess.Popen[bytes] | None = None
    lives: int = 0

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIDOS_", "RAY_"))}
        environment |= embedded.public_environment(self.settings) | ray_head.driver_environment(self.ray)
        # A database of the test's own; in life the URL comes from a secret file of the home.
        environment["AIDOS_DATABASE_URL"] = self.settings.database_url.get_secret_value()
        self.lives += 1
        command = [sys.executable, "-m", "tests.trainos.trainos_process", f"life-{self.lives}"]
        self.trainos = subprocess.Popen(command, env=environment, cwd=ROOT)

    def kill(self) -> None:
        assert self.trainos is not None
        self.trainos.kill()
        self.trainos.wait()

    def peak_memory_kib(self) -> int:
        """High-water mark of the resident memory of TrainOS's process."""
        assert self.trainos is not None
        return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.trainos.pid}/status").read_text())[0])

    def ray_answers(self) -> bool:
        """Whether the head is back after its end."""
        with contextlib.suppress(NotReady, httpx.HTTPError):
            ray_head.check(ray_head.address(self.ray), self.ray.secret("ray_token"), self.ray.ray_port + 1)
            return bool(self.ask_ray("/api/version"))
        return False

    def ask_ray(self, path: str) -> str:
        """What Ray's dashboard says to who has the token."""
        headers = {"Authorization": f"Bearer {self.ray.secret('ray_token')}"}
        return httpx.get(ray_head.dashboard_url(self.ray) + path, headers=headers).raise_for_status().text


@pytest.fixture(scope="module")
def platform(settings: Settings) -> Iterator[Platform]:
    """A Ray head beside the test's PostgreSQL and S3, and TrainOS on it."""
    home, ports = Path(tempfile.mkdtemp(prefix="aidos-ray-")), find_free_ports(160)
    ray = settings.model_copy(update={"home": home, "ray_port": ports, "ray_dashboard_port": ports + 155, "ray_cpus": 8})
    embedded.start(ray, only={"ray"})
    made = Platform(settings, ray)
    made.start()
    try:
        yield made
    finally:
        made.kill()
        embedded.stop(ray)
        shutil.rmtree(home, ignore_errors=True)


Run = Callable[..., Awaitable[Job]]


@pytest.fixture
def start(submit: Submit, upload_code, platform: Platform) -> Run:
    """Submit a script."""

    async def begin(script: str, *arguments: str, **fields: object) -> Job:
        code = await upload_code(zip_of(main_py=script))
        return await submit(command=("python", "main.py", *arguments), code_sha256=code, **fields)

    return begin


@pytest.fixture
def finish(reread) -> Callable[[Job], Awaitable[Job]]:
    async def wait(job: Job) -> Job:
        async def ended() -> Job | None:
            found = await reread(job)
            return found if found.state.final else None

        found = await wait_until_async(ended, within_s=120, every_s=0.2)
        assert found is not None
        return found

    return wait


@pytest.fixture
def read_log(database: Database, objects: Objects, scope: Scope) -> Callable[[Job], Awaitable[bytes]]:
    async def read(job: Job) -> bytes:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            chunks = await service.list_chunks(conn, scope, job, 0, 500)
        return b"".join([await objects.get(chunk.key) for chunk in chunks])

    return read


class TestEnd:
    async def test_a_job_that_works_has_code_and_token_in_driver_and_workers(self, start: Run, finish, read_log) -> None:
        job = await start(WORKERS)
        done = await finish(job)
        log = (await read_log(job)).decode()
        assert (done.state, done.exit_code, done.reason) == (JobState.SUCCEEDED, 0, ""), log
        assert "SAME True" in log and "CODE True True" in log and "IN ENVIRONMENT False False" in log, log
        assert "MODES 0o400 0o400 0o700 0o700 True" in log, log

    async def test_the_token_is_in_nothing_that_ray_shows(self, start: Run, finish, read_log, platform: Platform) -> None:
        job = await start(WORKERS)
        done = await finish(job)
        (token,) = re.findall(r"TOKEN (\S+)", (await read_log(job)).decode())
        shown = platform.ask_ray(f"/api/jobs/{done.submission_id}")
        assert str(job.id) in shown and token not in shown

    async def test_one_that_raises_fails_with_its_last_line(self, start: Run, finish, read_log) -> None:
        job = await start("raise ValueError('boom')")
        done = await finish(job)
        assert (done.state, done.exit_code, done.reason) == (JobState.FAILED, 1, "exit code 1; last line: ValueError: boom")
        assert b"Traceback" in await read_log(job)

    async def test_one_that_is_killed_says_137(self, start: Run, finish) -> None:
        done = await finish(await start("import os; os.kill(os.getpid(), 9)"))
        assert (done.state, done.exit_code) == (JobState.FAILED, 137) and "memory" in done.reason

    async def test_a_command_that_does_not_exist_is_named(self, submit: Submit, finish, read_log, platform: Platform) -> None:
        job = await submit(command=("no-such-program",))
        done = await finish(job)
        assert done.exit_code == 127 and b"there is no command 'no-such-program'" in await read_log(job)

    async def test_a_script_that_does_not_exist_is_named(self, start: Run, finish, submit: Submit, upload_code) -> None:
        code = await upload_code(zip_of(main_py=""))
        done = await finish(await submit(command=("python", "no-such-script.py"), code_sha256=code))
        assert (done.state, done.exit_code) == (JobState.FAILED, 2) and "no-such-script.py': [Errno 2] No such file" in done.reason

    async def test_packages_are_in_driver_and_workers_and_one_that_there_is_not_is_told(
        self, upload_code, submit: Submit, finish, read_log, tmp_path: Path
    ) -> None:
        write_wheel(tmp_path / "wheels")
        files = {"main.py": PACKAGED, "good.txt": LITTLE, "bad.txt": "--no-index\nnot-there==9.9\n"}
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        code = await upload_code(pack(tmp_path).content)
        jobs = [await submit(command=("python", "main.py"), code_sha256=code, requirements=name) for name in ("good.txt", "bad.txt")]
        good, bad = [await finish(job) for job in jobs]
        assert b"ANSWERS 42 42" in await read_log(good), good.reason
        assert (bad.state, bad.exit_code) == (JobState.FAILED, 121)
        assert "bad.txt cannot be installed: " in bad.reason and "No matching distribution found for not-there==9.9" in bad.reason

    async def test_children_do_not_outlive_it(self, start: Run, finish, read_log) -> None:
        job = await start(LEAVES_A_CHILD)
        await finish(job)
        (pid,) = re.findall(rb"CHILD (\d+)", await read_log(job))
        assert not Path(f"/proc/{int(pid)}").exists()


class TestCancel:
    async def test_an_endless_one_ends_with_all_its_processes(
        self, start: Run, finish, reread, read_log, database: Database, scope: Scope
    ) -> None:
        job = await start(ENDLESS)

        async def printed() -> bytes:
            return (b"PID" in await read_log(job) and await read_log(job)) or b""

        log = await wait_until_async(printed, within_s=60, every_s=0.2)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await service.cancel_job(conn, scope, str(job.id))).state is JobState.CANCELLING
        done = await finish(job)
        (pids,) = re.findall(rb"PID (\d+) (\d+)", log)
        assert done.state is JobState.CANCELLED and [pid for pid in pids if Path(f"/proc/{int(pid)}").exists()] == []

    async def test_one_over_its_time_is_failed(self, start: Run, finish) -> None:
        done = await finish(await start(ENDLESS, timeout_s=3))
        assert done.state is JobState.FAILED and done.reason == "ran longer than its limit of 3 s and was stopped"


class TestPreemption:
    async def test_one_that_was_asked_and_has_saved_makes_room_and_goes_on_later(
        self, start: Run, finish, reread, read_log, database: Database, scope: Scope
    ) -> None:
        long = await start(GIVES_WAY, workers=7)

        async def runs() -> bool:
            return (await reread(long)).state is JobState.RUNNING

        async def asked() -> bool:
            return b"ASKED" in await read_log(long)

        assert await wait_until_async(runs, within_s=60, every_s=0.2)
        urgent = await start("print('done')", workers=0, priority=10)
        assert await wait_until_async(asked, within_s=60, every_s=0.2)
        assert (await reread(long)).state is JobState.PREEMPTING and (await reread(urgent)).state is JobState.QUEUED
        file = CheckpointFile("state", "0" * 64, 1)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            saved = {service.checkpoint_key(long, file): 1}
            await service.create_checkpoint(conn, scope, await reread(long), CheckpointSpec(1, (file,), {}), saved)
        assert (await finish(urgent)).state is JobState.SUCCEEDED
        done = await finish(long)
        assert (done.state, done.attempt, done.preemptions) == (JobState.SUCCEEDED, 2, 1)


class TestLog:
    async def test_a_hundred_megabytes_are_all_kept_in_little_memory(self, start: Run, finish, read_log, platform: Platform) -> None:
        before = platform.peak_memory_kib()
        job = await start(LOUD)
        done = await finish(job)
        assert done.state is JobState.SUCCEEDED
        grown_kib = platform.peak_memory_kib() - before
        log = await read_log(job)
        assert log.count(b"x" * 999 + b"\n") == 100_000 and log.endswith(b"the last line\n")
        assert grown_kib < 60_000, f"following the job took {grown_kib} KiB"

    async def test_a_line_of_a_training_says_the_rank_of_its_worker(self, start: Run, finish, read_log) -> None:
        job = await start(RANKS, workers=2)
        done = await finish(job)
        log = await read_log(job)
        assert done.state is JobState.SUCCEEDED, log
        assert sorted(line.rank for line in LogSearch("the same words").feed(log) if line.rank is not None) == [0, 1], log

    async def test_no_line_is_lost_or_doubled_when_trainos_is_killed(self, start: Run, finish, read_log, platform: Platform) -> None:
        job = await start(STEADY)

        async def printed() -> bool:
            return b"line 20\n" in await read_log(job)

        await wait_until_async(printed, within_s=60, every_s=0.2)
        platform.kill()
        platform.start()
        done = await finish(job)
        lines = re.findall(rb"^line (\d+)$", await read_log(job), re.M)
        assert done.state is JobState.SUCCEEDED and done.attempt == 1
        assert [int(line) for line in lines] == list(range(300))


class TestOperator:
    def ray_job_submit(self, settings: Settings, **environment: str) -> subprocess.CompletedProcess[str]:
        address = ray_head.dashboard_url(settings)
        command = [str(RAY), "job", "submit", "--address", address, "--submission-id", "byhand", "--", "echo", "from ray"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=60, check=False)

    async def test_a_job_submitted_to_ray_appears_with_its_log(
        self, platform: Platform, database: Database, scope: Scope, finish, read_log
    ) -> None:
        done = await asyncio.to_thread(self.ray_job_submit, platform.ray, **ray_head.driver_environment(platform.ray))
        assert done.returncode == 0, done.stderr

        async def adopted() -> list[Job]:
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                return [job for job in await service.list_jobs(conn, scope, None, None, 50) if job.name == "byhand"]

        (found,) = await wait_until_async(adopted, within_s=30, every_s=0.2)
        assert found.origin == "ray" and (await finish(found)).state is JobState.SUCCEEDED
        assert b"from ray" in await read_log(found)

    async def test_without_the_token_it_is_refused(self, platform: Platform, tmp_path: Path) -> None:
        refused = await asyncio.to_thread(self.ray_job_submit, platform.ray, RAY_AUTH_MODE="disabled", HOME=str(tmp_path))
        assert refused.returncode != 0 and "AuthenticationError" in refused.stdout + refused.stderr


class TestNodeDeath:
    """The last of the module: it takes the head away from under everything."""

    async def test_a_job_whose_node_died_goes_on_as_its_next_attempt(
        self, platform: Platform, start: Run, finish, read_log, reread
    ) -> None:
        job = await start(DIES_WITH_ITS_NODE)

        async def printed() -> bool:
            return b"attempt 1" in await read_log(job)

        await wait_until_async(printed, within_s=60, every_s=0.2)
        (raylet,) = [process for process in launch.find_marked(platform.ray.home, "ray") if process.name() == "raylet"]
        raylet.kill()
        platform.kill()
        await asyncio.to_thread(wait_until, platform.ray_answers, within_s=60, every_s=0.5)
        platform.start()
        done = await finish(job)
        log = await read_log(job)
        assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2), done.reason
        assert log.count(b"attempt 1\n") == 1 and log.count(b"attempt 2\n") == 1
