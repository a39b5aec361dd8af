"""A trial's program: how it ended, its last words, and that nothing of it is left when its worker is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from tune.studies.child import run_command

pytestmark = pytest.mark.plain
ENDLESS = "import time, os; print(os.getpid(), flush=True); time.sleep(600)"


def run(script: str) -> tuple[int, str]:
    return run_command([sys.executable, "-c", script], dict(os.environ))


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


class TestRunCommand:
    @pytest.mark.parametrize(
        ("script", "code", "last"),
        [
            ("print('a'); print('b'); print()", 0, "b"),
            ("raise ValueError('boom')", 1, "ValueError: boom"),
            ("import os; os.kill(os.getpid(), 9)", 137, ""),
            ("import sys; sys.stdout.buffer.write(b'\\xff\\x00end')", 0, "\ufffd\ufffdend"),
        ],
    )
    def test_says_how_it_ended_and_its_last_line(self, script: str, code: int, last: str) -> None:
        assert run(script) == (code, last)

    def test_what_it_prints_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        run("print('loss 1'); print('loss 2')")
        assert capsys.readouterr().out == "loss 1\nloss 2\n"

    def test_a_command_that_is_not_there_says_so(self) -> None:
        assert run_command(["no-such-command"], {}) == (127, "there is no command 'no-such-command' in the package or on the path")

    def test_its_group_ends_with_it(self, tmp_path: Path) -> None:
        mark = tmp_path / "pid"
        child = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
        script = f"import os, subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.DEVNULL)\n"
        script += f"while not os.path.exists({str(mark)!r}) or not open({str(mark)!r}).read(): time.sleep(0.01)\n"
        assert run(script)[0] == 0
        wait_until(lambda: is_gone(int(mark.read_text())), within_s=10)

    def test_it_dies_with_the_process_that_watches_over_it(self) -> None:
        watching = f"import os, sys; from tune.studies.child import run_command; run_command([sys.executable, '-c', {ENDLESS!r}], dict(os.environ))"
        parent = subprocess.Popen([sys.executable, "-uc", watching], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: is_gone(pid), within_s=10)
