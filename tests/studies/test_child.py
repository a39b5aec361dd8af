"""A trial's program: how it ended, its last words, that it is like a fresh one, and that nothing of it is left when its worker is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from tune.studies.child import Child

pytestmark = pytest.mark.plain
ENDINGS = [
    ("print('a'); print('b'); print()", 0, "b"),
    ("raise ValueError('boom')", 1, "ValueError: boom"),
    ("import sys; sys.exit(3)", 3, ""),
    ("import sys; sys.exit('no data')", 1, "no data"),
    ("import os; os.kill(os.getpid(), 9)", 137, ""),
    ("import os; os._exit(4)", 4, ""),
    ("import sys; sys.stdout.buffer.write(b'\\xff\\x00end')", 0, "\ufffd\ufffdend"),
    ("import atexit; atexit.register(print, 'bye'); print('work')", 0, "bye"),
    ("import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()", 0, "late"),
    ("def f(x: int): pass\nprint(f.__annotations__)", 0, "{'x': <class 'int'>}"),
    ("(", 1, "SyntaxError: '(' was never closed"),
]
ENDLESS = "import time, os\nprint(os.getpid(), flush=True)\ntime.sleep(600)"


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


@pytest.fixture(params=["fresh", "forked"])
def run(request: pytest.FixtureRequest, child: Child, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a script: by an interpreter of its own, and forked from the warm one."""

    def ask(script: str, *arguments: str, **environment: str) -> tuple[int, str]:
        path = tmp_path / "script.py"
        path.write_text(script)
        options = ["-u"] if request.param == "fresh" else []
        found = child.run([sys.executable, *options, str(path), *arguments], {**os.environ, **environment})
        assert (child._server is not None) == (request.param == "forked")
        return found

    return ask


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


class TestChild:
    def test_says_how_it_ended_and_its_last_line(self, run) -> None:
        for script, code, last in ENDINGS:
            assert run(script) == (code, last), script

    def test_what_it_prints_is_printed(self, run, capsys: pytest.CaptureFixture[str]) -> None:
        run("print('loss 1'); print('loss 2')")
        assert capsys.readouterr().out == "loss 1\nloss 2\n"

    def test_it_finds_its_arguments_its_environment_its_modules_and_itself(self, run, tmp_path: Path) -> None:
        (tmp_path / "shape.py").write_text("side = 4")
        script = (
            "import json, os, sys, shape, __main__\n"
            "class Own: pass\n"
            "print(json.dumps([__name__, __file__, sys.argv, sys.path[0], os.environ['AIDOS_TRIAL'], shape.side, __main__.Own is Own]))"
        )
        own = str(tmp_path / "script.py")
        assert json.loads(run(script, "--x", "1", AIDOS_TRIAL="7")[1]) == [
            "__main__", own, [own, "--x", "1"], str(tmp_path), "7", 4, True,
        ]  # fmt: skip

    def test_a_traceback_is_the_programs_alone(self, run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        run("def work():\n    raise ValueError('boom')\nwork()")
        lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("File")]
        assert lines == [f'File "{tmp_path}/script.py", line {line}, in {name}' for line, name in [(3, "<module>"), (2, "work")]]

    def test_a_file_that_it_left_open_is_written(self, run, tmp_path: Path) -> None:
        assert run(f"kept = open({str(tmp_path / 'kept')!r}, 'w'); kept.write('all of it')")[0] == 0
        assert (tmp_path / "kept").read_text() == "all of it"

    def test_each_draws_random_numbers_of_its_own(self, run) -> None:
        script = "import random\nimport uuid\nimport numpy\nprint(random.random(), uuid.uuid4(), numpy.random.random())"
        first, second = run(script)[1].split(), run(script)[1].split()
        assert all(a != b for a, b in zip(first, second, strict=True)), (first, second)

    def test_what_one_changed_the_next_does_not_see(self, run) -> None:
        script = "import os, json\nprint(getattr(json, 'mark', None), os.environ.get('MARK'))\njson.mark = os.environ['MARK'] = 'was here'"
        assert [run(script)[1] for _ in range(2)] == ["None None"] * 2

    def test_a_command_that_is_not_there_says_so(self, child: Child) -> None:
        assert child.run(["no-such-command"], {}) == (127, "there is no command 'no-such-command' in the package or on the path")

    def test_its_group_ends_with_it(self, run, tmp_path: Path) -> None:
        mark = tmp_path / "pid"
        left = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
        script = f"import os, subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {left!r}], stdout=subprocess.DEVNULL)\n"
        script += f"while not os.path.exists({str(mark)!r}) or not open({str(mark)!r}).read(): time.sleep(0.01)\n"
        assert run(script)[0] == 0
        wait_until(lambda: is_gone(int(mark.read_text())), within_s=10)

    @pytest.mark.parametrize("options", [["-u"], []], ids=["fresh", "forked"])
    def test_it_dies_with_the_process_that_watches_over_it(self, options: list[str], tmp_path: Path) -> None:
        (tmp_path / "script.py").write_text(ENDLESS)
        command = [sys.executable, *options, str(tmp_path / "script.py")]
        watching = f"import os; from tune.studies.child import Child; Child().run({command!r}, dict(os.environ))"
        parent = subprocess.Popen([sys.executable, "-uc", watching], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: is_gone(pid), within_s=10)


class TestForked:
    def test_imports_ahead_what_the_program_begins_with_and_nothing_behind_its_own(self, child: Child, tmp_path: Path) -> None:
        (tmp_path / "shape.py").write_text("print('loaded')")
        path = tmp_path / "script.py"
        path.write_text('"""Words."""\nimport colorsys\nimport shape\nimport tabnanny')
        assert child.run([sys.executable, str(path)], dict(os.environ)) == (0, "loaded")
        path.write_text("import sys\nprint([name in sys.modules for name in ('colorsys', 'shape', 'tabnanny')])")
        assert child.run([sys.executable, str(path)], dict(os.environ)) == (0, "[True, False, False]")

    def test_a_module_that_hides_one_of_the_platforms_is_found_as_ever(self, child: Child, tmp_path: Path) -> None:
        (tmp_path / "httpx.py").write_text("name = 'mine'")
        (tmp_path / "script.py").write_text("import httpx\nprint(httpx.name)")
        assert child.run([sys.executable, str(tmp_path / "script.py")], dict(os.environ)) == (0, "mine")
        assert child._server is None

    def test_an_interpreter_that_is_killed_takes_its_program_along_and_is_begun_again(self, child: Child, tmp_path: Path) -> None:
        path, mark = tmp_path / "script.py", tmp_path / "pid"
        path.write_text(f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(float(os.environ['PAUSE']))")
        assert child.run([sys.executable, str(path)], {**os.environ, "PAUSE": "0"}) == (0, "")
        assert child._server is not None
        mark.unlink()
        killing = f"import os, time\nwhile not os.path.exists({str(mark)!r}): time.sleep(0.01)\nos.kill({child._server._process.pid}, 9)"
        killer = subprocess.Popen([sys.executable, "-c", killing])
        assert child.run([sys.executable, str(path)], {**os.environ, "PAUSE": "600"})[0] == 137
        killer.wait()
        wait_until(lambda: is_gone(int(mark.read_text() or 0)), within_s=10)
        assert child.run([sys.executable, str(path)], {**os.environ, "PAUSE": "0"}) == (0, "")
