"""The process that runs a job's command, and the file that holds its token. Real processes, no cluster."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from tune.trainos.job_token import JobFiles, NoteFile

ROOT = Path(__file__).resolve().parents[2]


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIDOS_", "RAY_"))}
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "tune.trainos.entrypoint", "--", *command],
        env=clean | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*command: str, **environment: str) -> tuple[int, str]:
    process = start(*command, **environment)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


class TestEntrypoint:
    def test_gives_the_commands_own_exit_code_and_output(self) -> None:
        assert run("python", "-c", "print('hello'); raise SystemExit(7)") == (7, "hello\n")

    def test_a_killed_command_is_128_and_the_signal(self) -> None:
        assert run("python", "-c", "import os; os.kill(os.getpid(), 9)")[0] == 137

    def test_python_is_the_platforms(self) -> None:
        assert run("python", "-c", "import sys; print(sys.executable)")[1].strip() == str(Path(sys.executable).parent / "python")

    def test_what_cannot_be_run_is_named(self, tmp_path: Path) -> None:
        assert run("no-such-program") == (127, "aidos: there is no command 'no-such-program' in the package or on the path\n")
        assert run(str(tmp_path)) == (126, f"aidos: {str(tmp_path)!r} cannot be run: Permission denied\n")

    def test_the_platforms_home_is_not_passed_on(self) -> None:
        assert run("python", "-c", "import os; print('AIDOS_HOME' in os.environ)", AIDOS_HOME="/secret")[1] == "False\n"

    def test_leaves_no_process_behind(self) -> None:
        script = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
        code, output = run("python", "-c", script)
        assert code == 0 and not psutil.pid_exists(int(output))

    def test_a_crowd_of_children_that_come_and_go_spoils_no_exit_code(self) -> None:
        script = "import subprocess; [subprocess.Popen(['sh', '-c', 'sleep 0.2; sleep 600 & sleep 600']) for _ in range(20)]; raise SystemExit(5)"
        assert run("python", "-c", script)[0] == 5

    def test_passes_a_stop_on(self) -> None:
        process = start("python", "-c", "import signal, sys; print('ready', flush=True); signal.pause()")
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM


class TestNoteFile:
    def test_is_private_and_follows_the_note(self, tmp_path: Path) -> None:
        notes = [b"one"]
        file = NoteFile(tmp_path / "token", lambda: notes[-1], refresh_s=0.01)
        try:
            file.start()
            assert file.path.read_bytes() == b"one" and stat.S_IMODE(file.path.stat().st_mode) == 0o400
            notes.append(b"two")
            wait_until(lambda: file.path.read_bytes() == b"two")
            assert stat.S_IMODE(file.path.stat().st_mode) == 0o400
        finally:
            file.stop()

    def test_keeps_what_it_has_while_the_store_is_away(self, tmp_path: Path) -> None:
        def read() -> bytes | None:
            if away.is_set():
                raise ConnectionError("the store is away")
            return b"one"

        away = threading.Event()
        file = NoteFile(tmp_path / "token", read)
        assert file.refresh()
        away.set()
        assert not file.refresh() and file.path.read_bytes() == b"one"

    def test_no_note_is_no_file(self, tmp_path: Path) -> None:
        file = NoteFile(tmp_path / "token", lambda: None)
        assert not file.refresh() and not file.path.exists()


class TestJobFiles:
    def test_lie_in_a_private_directory_that_goes_with_the_process(self) -> None:
        notes = {b"job-token/7/2": b"secret"}
        files = JobFiles(notes.get, "7", 2)
        try:
            token = files.start()
            assert token.read_bytes() == b"secret" and stat.S_IMODE(token.parent.stat().st_mode) == 0o700
            assert [path.name for path in token.parent.iterdir()] == ["token"]
            notes[b"job-notice/7/2"] = b"train"
            wait_until((token.parent / "preempted").exists)
        finally:
            files.close()
        assert not token.parent.exists()


@pytest.mark.parametrize("module", ["tune.trainos.worker", "tune.trainos.entrypoint"])
def test_a_jobs_processes_load_nothing_that_holds_keys(module: str) -> None:
    """Neither the settings, nor a database driver, nor an S3 client come along into user code's process."""
    heavy = "[name for name in ('cluster.settings', 'psycopg', 'minio', 'fastapi') if name in sys.modules]"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print({heavy})"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert found.stdout.strip() == "[]"
