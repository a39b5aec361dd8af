"""Down and up again, and up after the machine lost everything at once."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def own() -> Iterator[RunningPlatform]:
    """A platform of this module's own, because it is killed."""
    home = Path(tempfile.mkdtemp(prefix="aidos-life-"))
    running = RunningPlatform.at(home)
    running.up()
    yield running
    running.down()
    shutil.rmtree(home, ignore_errors=True)


class TestLifecycle:
    def test_the_first_start_shows_one_key_and_later_ones_none(self, own: RunningPlatform) -> None:
        assert own.admin_key.startswith("aidos_live_")
        assert own.aidos("whoami", check=True).code == 0
        assert own.up()["admin_key"] is None, "a second `up` of a running platform finds it running"

    def test_down_ends_every_process_and_up_finds_everything(self, own: RunningPlatform) -> None:
        own.aidos("project", "create", "kept", check=True)
        assert own.down().code == 0
        assert own.processes() == []
        own.up()
        assert "kept" in [project["name"] for project in own.ask("project", "list")]

    def test_after_kill_nine_of_everything_it_comes_back(self, own: RunningPlatform) -> None:
        own.aidos("project", "create", "survivor", check=True)
        for process in own.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        own.up()
        assert "survivor" in [project["name"] for project in own.ask("project", "list")]

    def test_no_secret_is_in_the_environment_of_a_worker(self, own: RunningPlatform) -> None:
        kept = [path for path in (own.home / "secrets").iterdir() if path.name != "aidos_s3_endpoint"]
        secrets = [path.read_text().strip() for path in kept]
        assert len(secrets) >= 5
        for process in own.processes("ray::"):
            environment = json.dumps(process.environ())
            assert not [secret for secret in secrets if secret in environment], process.cmdline()
