"""The embedded Ray head: closed to strangers, on loopback only, and back with its actors after a crash."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import urllib3

from cluster import doctor, embedded, launch, ray_head
from cluster.settings import Settings, inherited_environment, read_settings
from cluster.supervision import NotReady, Supervisor, wait_until
from tests.support.platform import find_free_ports

# A driver is a process of its own: Ray reads its environment when it is imported.
DRIVER = """
import ray
ray.init(namespace="test", log_to_driver=False, configure_logging=False)
class Counter:
    def __init__(self): self.count = 0
    def add(self): self.count += 1; return self.count
options = dict(name="counter", lifetime="detached", get_if_exists=True, max_restarts=-1, max_task_retries=-1, num_cpus=0)
print(ray.get(ray.remote(Counter).options(**options).remote().add.remote(), timeout=60))
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Settings]:
    """A Ray head of this module's own."""
    home, first = Path(tempfile.mkdtemp(prefix="aidos-ray-")), find_free_ports(160)
    ports = {"ray_port": first, "ray_dashboard_port": first + 151, "postgres_port": first + 152, "s3_port": first + 153}
    settings = embedded.start(read_settings(home).model_copy(update={**ports, "ray_cpus": 2}), only={"ray"})
    yield settings
    embedded.stop(settings)
    assert not launch.find_marked(home)
    shutil.rmtree(home)


def drive(settings: Settings) -> int:
    environment = inherited_environment() | ray_head.driver_environment(settings)
    done = subprocess.run([sys.executable, "-c", DRIVER], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.ray
@pytest.mark.timeout(400)
class TestRayHead:
    def test_strangers_are_refused(self, head: Settings) -> None:
        assert ray_head.refuses_strangers(ray_head.address(head))
        with pytest.raises(NotReady, match="UNAUTHENTICATED"):
            ray_head.check(ray_head.address(head), "wrong" * 8)

    def test_the_jobs_api_wants_the_token(self, head: Settings) -> None:
        url, token = f"{ray_head.dashboard_url(head)}/api/jobs/", head.secret("ray_token")
        patient = urllib3.Retry(12, backoff_factor=0.3, backoff_max=5)
        assert urllib3.request("GET", url, headers={"Authorization": f"Bearer {token}"}, retries=patient).status == 200
        assert urllib3.request("GET", url, retries=False).status == 401
        assert urllib3.request("GET", url, headers={"Authorization": "Bearer wrong"}, retries=False).status in (401, 403)

    def test_everything_listens_on_loopback(self, head: Settings) -> None:
        drive(head)
        assert [finding for finding in doctor.check_sockets(head) if not finding.ok] == []
        pids = {process.pid for process in launch.find_marked(head.home)}
        listening = [row.laddr for row in psutil.net_connections("tcp") if row.pid in pids and row.status == psutil.CONN_LISTEN]
        assert head.ray_port in {address.port for address in listening}
        assert len(listening) >= 8

    def test_no_secret_is_in_an_environment(self, head: Settings) -> None:
        hidden = [path.read_text() for path in (head.home / "secrets").glob("aidos_*") if path.name != "aidos_s3_endpoint"]
        environments = [" ".join(process.environ().values()) for process in launch.find_marked(head.home)]
        assert len(environments) > 8
        assert not [secret for secret in hidden for text in environments if secret in text]

    def test_a_killed_gcs_comes_back_with_the_actors(self, head: Settings) -> None:
        drive(head)
        (before,) = [status.pid for status in Supervisor(head.home).status() if status.name == "ray"]
        (gcs,) = [process for process in launch.find_marked(head.home, "ray") if process.name() == "gcs_server"]
        gcs.kill()
        wait_until(lambda: not psutil.pid_exists(before or 0), 60, lambda: "`ray start` outlives its GCS")
        ray_head.wait_ready(head, 120)
        # restarted by itself, so it counts from the beginning; a second actor of that name would too, hence twice
        assert drive(head) == 1
        assert drive(head) == 2

    def test_starts_after_everything_was_killed(self, head: Settings) -> None:
        drive(head)
        for process in launch.find_marked(head.home):
            process.kill()
        embedded.start(head, only={"ray"})
        assert drive(head) == 1
        assert len([process for process in launch.find_marked(head.home) if process.name() == "raylet"]) == 1


# Ray's raylet waits 15 s for the ports of its agents; a machine that is busy enough makes them slower than that.
SLOW_AGENTS = """
import sys, time
if any(word.endswith(("dashboard/agent.py", "runtime_env/agent/main.py")) for word in sys.orig_argv):
    time.sleep(20)
"""


@pytest.fixture
def slow_head(tmp_path: Path) -> Iterator[Settings]:
    """A head that is not supervised, so a start that fails is not tried again; its agents are slow."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_AGENTS)
    home, first = Path(tempfile.mkdtemp(prefix="aidos-ray-")), find_free_ports(160)
    settings = read_settings(home).model_copy(update={"ray_port": first, "ray_dashboard_port": first + 151, "ray_cpus": 2})
    embedded.make_home(home)
    program = ray_head.build_program(embedded.make_secrets(settings), embedded.public_environment(settings))
    assert program.prepare is not None
    program.prepare()
    mark = {launch.MARK: launch.mark("ray", home), "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(program.command, env=inherited_environment() | dict(program.environment) | mark, cwd=home):
        yield settings
        launch.end_leftovers(home)
    shutil.rmtree(home)


@pytest.mark.ray
@pytest.mark.timeout(400)
class TestSlowAgents:
    def test_the_head_starts_in_one_go(self, slow_head: Settings) -> None:
        ray_head.wait_ready(slow_head, 120)
        assert drive(slow_head) == 1
        assert len([process for process in launch.find_marked(slow_head.home) if process.name() == "raylet"]) == 1
