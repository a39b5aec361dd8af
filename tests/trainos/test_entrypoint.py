"""The process that runs a job's command, and the file that holds its token. Real processes, no cluster."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from tune.trainos.job_token import JobFiles, NoteFile
from tune.trainos.models import GAVE_WAY

ROOT = Path(__file__).resolve().parents[2]


def start(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIDOS_", "RAY_"))}
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "tune.trainos.entrypoint", "--", *command],
        env=clean | environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*command: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str]:
    process = start(*command, cwd=cwd, **environment)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


class TestEntrypoint:
    def test_gives_the_commands_own_exit_code_and_output(self) -> None:
        assert run("python", "-c", "print('hello'); raise SystemExit(7)") == (7, "hello\n")

    def test_a_killed_command_is_128_and_the_signal(self) -> None:
        assert run("python", "-c", "import os; os.kill(os.getpid(), 9)")[0] == 137

    @pytest.mark.parametrize(("asked", "ended_with", "told"), [(True, 0, GAVE_WAY), (True, 1, 1), (False, 0, 0)])
    def test_a_command_that_hears_it_must_give_way_and_ends_well_has_given_way(
        self, tmp_path: Path, asked: bool, ended_with: int, told: int
    ) -> None:
        if asked:
            (tmp_path / "preempted").write_text("urgent")
        script = f"import aidos; raise SystemExit({ended_with} if aidos.preempted() is {asked} else 99)"
        assert run("python", "-c", script, AIDOS_TOKEN_FILE=str(tmp_path / "token"))[0] == told

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

    def test_what_does_not_stop_is_killed_with_all_that_it_begins_meanwhile(self, tmp_path: Path) -> None:
        """It ignores SIGTERM, and so does each of the processes that it detaches without end."""
        script = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(sys.argv[1], "a") as file:
        print(child.pid, file=file)
    time.sleep(0.02)
"""
        pids = tmp_path / "pids"
        process = start("python", "-c", script, str(pids))
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) > 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 137
        began = [int(pid) for pid in pids.read_text().split()]
        assert [pid for pid in began if psutil.pid_exists(pid)] == []


class TestSecrets:
    """A platform that answers as it is told to; the command runs for real."""

    @pytest.fixture
    def answers(self) -> Iterator[list[tuple[int, object]]]:
        """What is answered, the last of it again and again."""
        answers: list[tuple[int, object]] = []

        class Platform(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/trainos/jobs/job-7/secrets" and self.headers["Authorization"] == "Bearer the-token"
                status, content = answers.pop(0) if len(answers) > 1 else answers[0]
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Platform) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            yield answers
            server.shutdown()

    def job(self, folder: Path) -> dict[str, str]:
        (folder / "token").write_text("the-token")
        return {"AIDOS_JOB_ID": "job-7", "AIDOS_SECRETS": "DB", "AIDOS_URL": self.url, "AIDOS_TOKEN_FILE": str(folder / "token")}

    def run(self, folder: Path, script: str) -> tuple[int, str]:
        return run("python", "-c", script, cwd=ROOT, **self.job(folder))

    def test_are_in_the_commands_environment_and_masked_in_what_it_and_its_children_print(
        self, tmp_path: Path, answers: list[object]
    ) -> None:
        answers.append((200, {"environment": {"DB": "hunter2-horse"}}))
        script = """
import os, subprocess, sys
assert os.environ["DB"] == "hunter" + "2-horse"
print("out", os.environ["DB"], flush=True)
print("err", os.environ["DB"], file=sys.stderr, flush=True)
subprocess.run(["sh", "-c", "echo child $DB; printf hunter; sleep 0.2; echo 2-horse"])
raise SystemExit(3)
"""
        assert self.run(tmp_path, script) == (3, "out ***\nerr ***\nchild ***\n***\n")

    def test_the_last_words_of_a_command_whose_children_hold_its_output_are_shown(self, tmp_path: Path, answers: list[object]) -> None:
        answers.append((200, {"environment": {"DB": "hunter2-horse"}}))
        script = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True); print('hunter', end='')"
        assert self.run(tmp_path, script) == (0, "hunter")

    def test_a_command_whose_log_takes_no_more_ends_as_one_without_secrets_does(self, tmp_path: Path, answers: list[object]) -> None:
        answers.append((200, {"environment": {"DB": "hunter2-horse"}}))
        process = start("sh", "-c", "exec yes", cwd=ROOT, **self.job(tmp_path))
        assert process.stdout is not None and process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(timeout=60) != 0

    def test_one_that_is_gone_ends_the_job_before_its_command_in_one_sentence(self, tmp_path: Path, answers: list[object]) -> None:
        answers.append((404, {"type": "urn:aidos:securityvault:secret-not-found", "detail": "The project has no secret 'prod-db'."}))
        assert self.run(tmp_path, "print('begun')") == (119, "aidos: The project has no secret 'prod-db'.\n")

    def test_a_platform_that_is_away_for_a_moment_is_asked_again(self, tmp_path: Path, answers: list[object]) -> None:
        answers += [(503, {}), (503, {}), (200, {"environment": {"DB": "hunter2-horse"}})]
        assert self.run(tmp_path, "import os; print(len(os.environ['DB']))") == (0, "13\n")


FILLS = """
import os, pathlib, sys, time
for number in range(40):
    for folder in (os.environ["TMPDIR"], "."):
        pathlib.Path(folder, f"junk-{number}").write_bytes(b"x" * 2**22)
    time.sleep(0.1)
print("all of it is written")
"""
TOO_LITTLE = {"AIDOS_FREE_DISK_BYTES": str(2**60)}
WITH_CODE = {"AIDOS_CODE_SHA256": "0" * 64}


class TestFullDisk:
    """No disk has as much free as is asked for here, so it is always too full: who is ended is he who holds much of it."""

    def test_a_job_that_fills_the_disk_is_ended_and_told_and_gives_it_back(self, tmp_path: Path) -> None:
        package, temporary = tmp_path / "package", tmp_path / "tmp"
        package.mkdir()
        temporary.mkdir()
        (package / "main.py").write_text(FILLS)
        code, output = run("python", "main.py", cwd=package, **TOO_LITTLE, **WITH_CODE, TMPDIR=str(temporary))
        assert code == 122 and "the disk was nearly full and the job held" in output.splitlines()[-1]
        assert "all of it" not in output and [path.name for path in tmp_path.rglob("*.*")] == ["main.py"] and not any(temporary.iterdir())

    def test_one_that_has_removed_its_temporary_folder_is_watched_all_the_same(self, tmp_path: Path) -> None:
        here_only = FILLS.replace('(os.environ["TMPDIR"], ".")', '(".",)').replace("2**22", "2**23")
        (tmp_path / "main.py").write_text(f"import os, shutil\nshutil.rmtree(os.environ['TMPDIR'])\n{here_only}")
        assert run("python", "main.py", cwd=tmp_path, **TOO_LITTLE, **WITH_CODE)[0] == 122

    def test_one_that_wrote_little_goes_on(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").write_text(FILLS.replace("2**22", "2**10"))
        assert run("python", "main.py", cwd=tmp_path, **TOO_LITTLE, **WITH_CODE) == (0, "all of it is written\n")

    def test_temporary_files_go_with_every_job(self, tmp_path: Path) -> None:
        script = "import tempfile; print(tempfile.mkdtemp())"
        _, output = run("python", "-c", script, TMPDIR=str(tmp_path))
        assert Path(output.strip()).is_relative_to(tmp_path) and list(tmp_path.iterdir()) == []

    def test_jobs_of_the_same_code_write_beside_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").write_text(
            "import sys\nfor name in sys.argv[1:]: print(open(name).read())\nopen('state', 'w').write('mine')"
        )
        (tmp_path / "rows.csv").write_text("1,2")
        ran = [run("python", "main.py", *names, cwd=tmp_path, **WITH_CODE) for names in (("rows.csv",), ("state",))]
        assert ran[0] == (0, "1,2\n") and ran[1][0] == 1 and "No such file" in ran[1][1]
        assert not (tmp_path / "state").exists()

    def test_one_without_code_touches_no_directory_of_the_platform(self, tmp_path: Path) -> None:
        run("python", "-c", "open('junk', 'w').close()", cwd=tmp_path)
        assert list(tmp_path.iterdir()) == []


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
