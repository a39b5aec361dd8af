"""A run that the platform cannot be told of is kept on this machine, and becomes one run of the platform, whatever happens on the way."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import aidos
from aidos.client import Client
from aidos.errors import Conflict, InvalidPayload, InvalidRequest, Unavailable
from aidos.schemas.modelhub import PointLog, RunCreate
from aidos.tracking.journal import NAME, Begin, Journal, JournalDamaged, JournalInUse
from aidos.tracking.recorder import new_id
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.server import serve
from tests.support.waiting import wait_until

NOBODY = "http://127.0.0.1:9"
COMMAND = [sys.executable, "-c", "from aidos.cli import main; main()"]


def begin(directory: Path) -> Journal:
    return Journal.create(directory, Begin(run=RunCreate(id=new_id(), params={"lr": "0.1"}), made=False, ends=True))


def is_free(path: Path) -> bool:
    """Whether nothing writes the journal."""
    try:
        with (path / NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def journals(directory: Path) -> list[Path]:
    return sorted(path.parent for path in directory.glob(f"*/{NAME}"))


@pytest.mark.plain
class TestJournal:
    def test_a_torn_last_line_is_as_if_it_had_not_been_written(self, tmp_path: Path) -> None:
        journal = begin(tmp_path)
        journal.append_points([PointLog(key="loss", value=1.0, step=3)])
        journal.close()
        file = journal.path / NAME
        whole = file.read_bytes()
        for torn in (b"1", b'00000000 {"at":', whole[-20:-1]):
            file.write_bytes(whole + torn)
            opened = Journal.open(journal.path)
            assert opened is not None and opened.record.next_steps == {"loss": 4}
            opened.append(params={"layers": "3"})
            opened.close()
            again = Journal.open(journal.path)
            assert again is not None and again.record.params == {"layers": "3"}
            again.close()

    def test_damage_in_the_middle_is_told_and_nothing_is_cut_off(self, tmp_path: Path) -> None:
        journal = begin(tmp_path)
        journal.append(params={"a": "1"})
        journal.append(params={"b": "2"})
        journal.close()
        file = journal.path / NAME
        damaged = file.read_bytes().replace(b'"a":"1"', b'"a":"7"')
        file.write_bytes(damaged)
        with pytest.raises(JournalDamaged, match="Line 2"):
            Journal.open(journal.path)
        assert file.read_bytes() == damaged

    def test_one_that_never_got_to_its_first_entry_is_no_run(self, tmp_path: Path) -> None:
        path = tmp_path / str(new_id())
        path.mkdir()
        (path / NAME).write_bytes(b"12")
        assert Journal.open(path) is None and not path.exists()

    def test_only_one_may_write(self, tmp_path: Path) -> None:
        journal = begin(tmp_path)
        with pytest.raises(JournalInUse):
            Journal.open(journal.path)
        journal.close()

    def test_the_same_bytes_lie_there_once_and_are_those_of_their_name(self, tmp_path: Path) -> None:
        journal = begin(tmp_path)
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(b"same")
            journal.append(artifacts=[journal.keep(name, tmp_path / name).model_dump(mode="json")])
        (tmp_path / "a").write_bytes(b"other")
        with pytest.raises(Conflict, match="other bytes"):
            journal.keep("a", tmp_path / "a")
        with pytest.raises(InvalidPayload):
            journal.keep("../a", tmp_path / "a")
        kept = journal.record.artifacts["a"].sha256
        assert journal.file(kept).read_bytes() == b"same" and not list(journal.path.rglob("*.part.*"))
        journal.close()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a platform that is not there, and does not wait for it."""
    monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0.2")
    with Client(NOBODY) as client:
        yield client


def series(client: Client, run_id: object, key: str = "loss") -> list[tuple[int, float, datetime]]:
    return [(point.step, point.value, point.at) for point in client.runs.history(str(run_id), key=key)]


def stored(client: Client, run_id: object) -> dict[str, str]:
    return {artifact.path: artifact.sha256 for artifact in client.runs.artifacts(str(run_id), prefix="out")}


@pytest.mark.postgres
class TestOffline:
    def test_asked_for_it_never_looks_for_the_platform(self, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "3600")
        (tmp_path / "out.txt").write_text("results")
        times = [datetime(2026, 11, 1, second=second, tzinfo=UTC) for second in range(3)]
        with Client(NOBODY) as nobody, aidos.run("far", "away", {"lr": 0.1}, {"who": "ada"}, offline=True, client=nobody) as run:
            run.log_params({"layers": 3})
            for value, at in zip((2.5, math.inf, 0.5), times, strict=True):
                run.log_metric("loss", value, at=at)
            run.log_artifact(tmp_path / "out.txt")
            run.set_tags({"who": None, "note": "good"})
            run.set_tags({"note": "better"})
            with pytest.raises(Conflict, match="'lr' is '0.1'"):
                run.log_params({"lr": 0.2})
            with pytest.raises(InvalidPayload):
                run.set_tags({"": "x"})
            with pytest.raises(Unavailable, match="aidos run sync"):
                run.log_model(tmp_path / "out.txt", name="digits")
        assert not list(client.runs.list())
        (synced,) = aidos.sync_runs()
        assert aidos.sync_runs() == [] and not journals(tmp_path / "offline")
        read = client.runs.get(str(run.id))
        assert synced.run is not None and (synced.run.id, read.name, read.experiment, read.state) == (run.id, "away", "far", "FINISHED")
        assert read.params == {"lr": "0.1", "layers": "3"} and read.tags["note"] == "better" and "who" not in read.tags
        assert series(client, run.id) == [(0, 2.5, times[0]), (1, math.inf, times[1]), (2, 0.5, times[2])]
        assert list(stored(client, run.id)) == ["out.txt"] and len(list(client.runs.list())) == 1
        assert read.ended_at is not None and read.started_at < read.ended_at

    def test_nobody_there_at_the_start_is_no_reason_to_fail(
        self, client: Client, nobody: Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(Unavailable):
            aidos.run(offline=False, client=nobody)
        with aidos.run(client=nobody) as run:
            run.log_metric("loss", 1.0)
        assert "aidos run sync" in capsys.readouterr().err
        aidos.sync_runs()
        assert client.runs.get(str(run.id)).state == "FINISHED" and len(series(client, run.id)) == 1

    def test_a_copy_synced_from_elsewhere_adds_nothing(self, client: Client, nobody: Client, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"x" * 100_000)
        for state in ("FINISHED", "FAILED"):
            run = aidos.run("copied", offline=True, client=nobody)
            for step in range(5000):
                run.log_metric("loss", step / 7)
            run.log_artifact(tmp_path / "out")
            run.end(state)
            shutil.copytree(tmp_path / "offline", tmp_path / state)
            places = [tmp_path / "offline", tmp_path / state]
            threads = [threading.Thread(target=aidos.sync_runs, args=(place,)) for place in places]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for place in places:
                aidos.sync_runs(place)
            read = client.runs.get(str(run.id))
            assert (read.state, len(series(client, run.id)), len(stored(client, run.id))) == (state, 5000, 1)
            assert not journals(places[0]) and not journals(places[1])
        assert len(list(client.runs.list())) == 2

    def test_several_syncs_of_one_directory_share_the_work(self, client: Client, nobody: Client, tmp_path: Path) -> None:
        for number in range(4):
            with aidos.run(f"e{number}", offline=True, client=nobody) as run:
                run.log_metric("loss", number)
        done: list[object] = []
        threads = [
            threading.Thread(target=lambda: done.extend(synced.run.id for synced in aidos.sync_runs() if synced.run)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = [read.id for read in client.runs.list()]
        assert sorted(map(str, done)) == sorted(map(str, made)) and len(made) == 4 and not journals(tmp_path / "offline")

    def test_what_the_platform_refuses_stays_and_says_why(self, client: Client, nobody: Client, tmp_path: Path) -> None:
        runs = [aidos.run(f"e{number}", offline=True, client=nobody) for number in range(2)]
        for run in runs:
            run.log_metric("loss", 1.0)
            run.end()
        client.runs.create(id=runs[0].id, experiment="another")
        refused, good = aidos.sync_runs()
        assert "Id of another run" in refused.reason or "cannot be the id" in refused.reason
        assert good.run is not None and journals(tmp_path / "offline") == [refused.path]

    def test_a_run_that_is_being_written_is_left_alone(self, client: Client, nobody: Client) -> None:
        with aidos.run(offline=True, client=nobody) as run:
            run.log_metric("loss", 1.0)
            (waiting,) = aidos.sync_runs()
            assert waiting.run is None and "Something else" in waiting.reason
        (synced,) = aidos.sync_runs()
        assert synced.run is not None and synced.run.id == run.id


KILLED = """
import aidos, os, signal, sys
run = aidos.run("killed", offline=True)
for step in range(100): run.log_metric("loss", step)
run.flush()
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.postgres
class TestKilled:
    def killed(self, tmp_path: Path) -> str:
        done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        # Of a process that it was just beginning the kernel takes the lock a moment later.
        run_id = done.stdout.strip()
        wait_until(lambda: is_free(tmp_path / "offline" / run_id))
        return run_id

    def test_goes_on_offline_where_it_stood(self, client: Client, nobody: Client, tmp_path: Path) -> None:
        run_id = self.killed(tmp_path)
        for offline, platform in ((True, None), (None, nobody)):
            with pytest.raises(ZeroDivisionError), aidos.run(resume=run_id, offline=offline, client=platform) as resumed:
                resumed.log_metric("loss", 0.0)
                _ = 1 / 0
        aidos.sync_runs()
        assert [step for step, *_ in series(client, run_id)] == list(range(102))
        assert client.runs.get(run_id).state == "FAILED"

    def test_goes_on_with_the_platform_once_that_is_there(self, client: Client, tmp_path: Path) -> None:
        run_id = self.killed(tmp_path)
        with aidos.run(resume=run_id) as run:
            assert not journals(tmp_path / "offline") and client.runs.get(run_id).state == "RUNNING"
            run.log_metric("loss", 0.0)
        assert [step for step, *_ in series(client, run_id)] == list(range(101))
        with aidos.run(offline=True) as finished:
            pass
        with pytest.raises(Conflict, match="FINISHED"):
            aidos.run(resume=finished.id, offline=True)

    def test_was_never_ended_and_is_synced_as_killed(self, client: Client, tmp_path: Path) -> None:
        run_id = self.killed(tmp_path)
        (synced,) = aidos.sync_runs()
        assert synced.run is not None and (str(synced.run.id), synced.run.state) == (run_id, "KILLED")
        assert [step for step, *_ in series(client, run_id)] == list(range(100))

    def test_a_sync_that_is_killed_half_way_is_begun_again(self, client: Client, nobody: Client, tmp_path: Path) -> None:
        with aidos.run("long", offline=True, client=nobody) as run:
            for number in range(30):
                for step in range(2000):
                    run.log_metric(f"m{number}", step / 3, step=step)
                run.flush()
        sync = subprocess.Popen([*COMMAND, "run", "sync"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with contextlib.suppress(ProcessLookupError):
            wait_until(lambda: any(read.metrics for read in client.runs.list()), within_s=60)
            os.kill(sync.pid, signal.SIGKILL)
        sync.communicate()
        assert sync.returncode == -signal.SIGKILL and journals(tmp_path / "offline")
        done = subprocess.run([*COMMAND, "run", "sync", "--json"], capture_output=True, text=True, timeout=100, check=True)
        assert json.loads(done.stdout) == [{"run": str(run.id), "name": run_name(client, run.id), "state": "FINISHED"}]
        for number in (0, 15, 29):
            assert [(step, value) for step, value, _ in series(client, run.id, f"m{number}")] == [(step, step / 3) for step in range(2000)]
        assert len(list(client.runs.list())) == 1


def run_name(client: Client, run_id: object) -> str:
    return client.runs.get(str(run_id)).name


@pytest.mark.postgres
class TestCutNetwork:
    def test_a_run_whose_platform_goes_away_goes_on_here(
        self, settings: Settings, objects: Objects, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        port = find_free_ports(1)
        for name in ("config", "offline"):
            monkeypatch.setenv(f"AIDOS_{name.upper()}_DIR", str(tmp_path / name))
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "1")
        for name in ("out-before", "out-after"):
            (tmp_path / name).write_text(name)
        with Client(f"http://127.0.0.1:{port}", admin_key) as client:
            with serve(settings, port):
                run = aidos.run("cut", params={"a": 1}, client=client)
                run.log_metric("loss", 0.0)
                run.log_artifact(tmp_path / "out-before")
                run.flush()
            for step in range(1, 3000):  # nobody listens now
                run.log_metric("loss", float(step))
            run.log_params({"b": 2})
            run.set_tags({"cut": "yes"})
            run.log_artifact(tmp_path / "out-before")
            run.log_artifact(tmp_path / "out-after")
            run.end()
            assert [path.name for path in journals(tmp_path / "offline")] == [str(run.id)]
            with serve(settings, port):
                assert [synced.run and synced.run.id for synced in aidos.sync_runs(client=client)] == [run.id]
                assert aidos.sync_runs(client=client) == []
                read = client.runs.get(str(run.id))
                assert (read.state, read.params, read.tags["cut"]) == ("FINISHED", {"a": "1", "b": "2"}, "yes")
                assert [(step, value) for step, value, _ in series(client, run.id)] == [(step, float(step)) for step in range(3000)]
                assert list(stored(client, run.id)) == ["out-after", "out-before"] and len(list(client.runs.list())) == 1

    def test_and_is_brought_over_at_its_end_where_the_platform_is_back(
        self, settings: Settings, objects: Objects, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        port = find_free_ports(1)
        for name in ("config", "offline"):
            monkeypatch.setenv(f"AIDOS_{name.upper()}_DIR", str(tmp_path / name))
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "1")
        with Client(f"http://127.0.0.1:{port}", admin_key) as client:
            with serve(settings, port):
                run = aidos.run("back", client=client)
                run.log_metric("loss", 0.0)
                run.flush()
            run.set_tags({"cut": "yes"})
            run.log_metric("loss", 1.0)
            assert journals(tmp_path / "offline")
            with serve(settings, port):
                run.end()
                read = client.runs.get(str(run.id))
                assert (read.state, read.tags["cut"], [step for step, *_ in series(client, run.id)]) == ("FINISHED", "yes", [0, 1])
        assert not journals(tmp_path / "offline")

    def test_of_a_run_that_is_not_known_here_nothing_is_made_up(
        self, nobody: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIDOS_OFFLINE_DIR", str(tmp_path))
        with pytest.raises(Unavailable):
            aidos.run(resume=new_id(), client=nobody)
        with pytest.raises((InvalidPayload, InvalidRequest)):
            aidos.run(resume="mine", client=nobody)
        assert not journals(tmp_path)
