"""Untrusted code in its sandbox: it computes, and does not get out. Real processes, real namespaces; the battery runs in one sandbox."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.sandbox import outside
from tests.support.waiting import wait_until
from tests.trainos.sandbox import probes
from tests.trainos.sandbox.outside_world import ROOT, World, build_world

pytestmark = [
    pytest.mark.plain,
    pytest.mark.skipif(outside.find_refusal() is not None, reason="this machine's kernel gives no namespaces: `aidos doctor` says why"),
]
BATTERY = Path(probes.__file__)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with build_world() as built:
        yield built


@pytest.fixture(scope="module")
def tried(world: World) -> dict[str, str]:
    """What came of every try inside."""
    code = {"probes.py": BATTERY.read_text(), "facts.json": json.dumps(world.facts)}
    exit_code, output = world.run("python", "probes.py", "facts.json", code=code)
    assert exit_code == 0, output
    return dict(json.loads(output.splitlines()[-1]))


@pytest.fixture(scope="module")
def tried_outside(world: World) -> dict[str, str]:
    """What came of them without a sandbox."""
    (world.folder / "facts.json").write_text(json.dumps(world.facts))
    command = [sys.executable, str(BATTERY), str(world.folder / "facts.json"), *probes.OUTSIDE]
    environment = {"PATH": os.environ["PATH"], "AIDOS_API_KEY": world.marker}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(done.stdout))


class TestEscapes:
    def test_there_are_enough_of_them(self) -> None:
        assert len(probes.PROBES) >= 40 and len(probes.OUTSIDE) >= 25

    @pytest.mark.parametrize("words", list(probes.PROBES))
    def test_untrusted_code_never(self, tried: dict[str, str], words: str) -> None:
        assert tried[words] != "OUT"

    @pytest.mark.skipif(os.geteuid() != 0, reason="what only root may do outside shows nothing for others")
    @pytest.mark.parametrize("words", sorted(probes.OUTSIDE))
    def test_without_a_sandbox_any_code(self, tried_outside: dict[str, str], words: str) -> None:
        assert tried_outside[words] == "OUT"


class TestWhatItMay:
    def test_its_output_and_exit_code_are_the_jobs(self, world: World) -> None:
        assert world.python("print('hello'); raise SystemExit(7)") == (7, "hello\n")

    def test_a_killed_command_is_128_and_the_signal(self, world: World) -> None:
        assert world.python("import os; os.kill(os.getpid(), 9)")[0] == 137

    def test_what_cannot_be_run_is_named(self, world: World) -> None:
        assert world.run("no-such-program") == (127, "aidos: there is no command 'no-such-program' in the package or on the path\n")

    def test_it_finds_its_code_where_it_starts_and_may_write_there(self, world: World) -> None:
        script = "import own, pathlib; pathlib.Path('made').write_text('x'); print(own.word, pathlib.Path.cwd())"
        assert world.run("python", "main.py", code={"main.py": script, "own.py": "word = 'own'"}) == (0, "own /job\n")

    def test_code_that_hides_modules_of_python_or_the_platform_hides_them_from_itself_only(self, world: World) -> None:
        evil = "import os; os._exit(99)"
        names = ("sitecustomize.py", "json.py", "psutil.py", "aidos.py", "cluster/__init__.py", "tune_.py")
        assert world.run("sh", "-c", "echo whole", code=dict.fromkeys(names, evil)) == (0, "whole\n")

    def test_the_client_speaks_to_the_platform_with_the_jobs_token(self, world: World) -> None:
        script = (
            "import json, os, urllib.request\n"
            "answer = json.load(urllib.request.urlopen(os.environ['AIDOS_URL'] + '/v1/me'))\n"
            "print(answer['path'], answer['headers']['Authorization'], answer['headers']['Host'])"
        )
        port = world.facts["gateway_port"]
        assert world.python(script) == (0, f"/v1/me Bearer {world.marker} 127.0.0.1:{port}\n")

    def test_it_moves_bytes_to_and_from_the_object_store(self, world: World) -> None:
        script = (
            "import json, urllib.request\n"
            f"request = urllib.request.Request('http://127.0.0.1:{world.facts['store_port']}/bucket/key?X-Amz-Signature=1', data=b'x' * 10**6, method='PUT')\n"
            "answer = json.load(urllib.request.urlopen(request))\n"
            "print(answer['path'], len(answer['body']))"
        )
        assert world.python(script) == (0, "/bucket/key?X-Amz-Signature=1 1000000\n")

    @pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
    def test_processes_of_one_training_work_together(self, world: World, kind: str) -> None:
        script = (
            "import multiprocessing\nif __name__ == '__main__':\n"
            f"  with multiprocessing.get_context('{kind}').Pool(2) as pool: print(sum(pool.map(abs, [-1, -2])))"
        )
        assert world.python(script) == (0, "3\n")

    def test_torch_trains_and_reduces_over_its_own_loopback(self, world: World) -> None:
        script = (
            "import torch, torch.distributed\n"
            "torch.distributed.init_process_group('gloo', 'tcp://127.0.0.1:29500', rank=0, world_size=1)\n"
            "weight = torch.ones(2, requires_grad=True)\n(weight**2).sum().backward()\n"
            "torch.distributed.all_reduce(weight.grad)\nprint(weight.grad.tolist())"
        )
        code, output = world.python(script)
        assert code == 0 and output.endswith("[2.0, 2.0]\n")

    def test_a_stop_reaches_the_command(self, world: World) -> None:
        process = world.command("python", "-c", "import signal; print('ready', flush=True); signal.pause()")
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM

    def test_it_hears_that_it_must_give_way_and_gives_way(self, world: World) -> None:
        script = "import aidos, time\nprint('ready', flush=True)\nwhile not aidos.preempted(): time.sleep(0.05)\n"
        process = world.command("python", "main.py", code={"main.py": script})
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        (notes,) = (path.parent for path in world.folder.glob("aidos-job-*/code") if belongs_to(process, path.parent))
        (notes / "preempted").write_text("another")
        assert process.wait(timeout=30) == 75


def belongs_to(process: subprocess.Popen[str], notes: Path) -> bool:
    """Whether these are that process's notes."""
    return psutil.Process(process.pid).environ()["AIDOS_TOKEN_FILE"] == str(notes / "token")


class TestItsEnd:
    def test_leaves_no_process_behind(self, world: World) -> None:
        detached = "import subprocess, sys; subprocess.Popen(['sleep', '4711'], start_new_session=True); print('begun')"
        assert world.python(detached) == (0, "begun\n")
        assert not sleeping("4711")

    def test_what_does_not_stop_is_killed_with_all_that_it_begins(self, world: World) -> None:
        script = (
            "import signal, subprocess, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "for _ in range(20): subprocess.Popen(['sleep', '4712'], start_new_session=True)\nprint('ready', flush=True)\ntime.sleep(600)"
        )
        process = world.command("python", "main.py", code={"main.py": script})
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert len(sleeping("4712")) == 20
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 137 and not sleeping("4712")

    def test_the_platforms_process_killed_takes_all_of_it_along(self, world: World) -> None:
        process = world.command("sh", "-c", "sleep 4713 & echo ready; wait")
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert sleeping("4713")
        process.kill()
        wait_until(lambda: not sleeping("4713"))


def sleeping(seconds: str) -> list[psutil.Process]:
    """Processes of this machine that sleep so long."""
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", seconds]]


class TestBounds:
    def test_files_and_memory_are_bounded_together_and_it_is_told(self, world: World) -> None:
        script = "held = b'x' * 200_000_000\nopen('file', 'wb').write(held)\nprint('both', flush=True)\nimport time; time.sleep(60)"
        code, output = world.python(script, memory_bytes=350_000_000)
        assert code == 123
        assert re.search(r"the job held 0\.\d\d GiB in memory and files together, 0\.33 GiB is its bound: it was ended", output)

    def test_a_disk_is_never_filled(self, world: World) -> None:
        script = (
            "import os\nwritten = 0\ntry:\n"
            "  for number in range(10_000):\n    with open(f'/tmp/{number}', 'wb') as file: written += file.write(b'x' * 2**20)\n"
            "except OSError as error: print(error.strerror, flush=True)\nprint(written // 2**20 <= 128)"
        )
        code, output = world.python(script, memory_bytes=2**27)
        assert (code, output) == (0, "No space left on device\nTrue\n") or code == 123

    def test_nor_with_empty_files(self, world: World) -> None:
        script = (
            "made = 0\ntry:\n  while made < 10**6:\n    open(f'/dev/shm/{made}', 'x').close()\n    made += 1\n"
            "except OSError as error: print(error.strerror, made < 8192)"
        )
        assert world.python(script, memory_bytes=2**27) == (0, "No space left on device True\n")

    def test_many_processes_hold_no_more_than_one(self, world: World) -> None:
        script = (
            "import subprocess, sys\n"
            "hog = 'held = b\"x\" * 80_000_000; print(1, flush=True); import time; time.sleep(60)'\n"
            "children = [subprocess.Popen([sys.executable, '-c', hog]) for _ in range(6)]\n[child.wait() for child in children]"
        )
        assert world.python(script, memory_bytes=300_000_000)[0] == 123


class TestWhatThePlatformReads:
    def test_a_link_that_the_job_left_is_not_followed(self, world: World, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.write_text("whole")
        plan = outside.Plan(["sh", "-c", f"ln -s {target} /run/exchange/preempted; echo ready; sleep 60"], {"PATH": os.defpath}, 2**27)
        place = tmp_path / "root"
        place.mkdir()
        sandbox = outside.start(plan, place)
        try:
            assert sandbox.process.stdout is not None and sandbox.process.stdout.readline() == b"ready\n"
            sandbox.put("preempted")
            assert target.read_text() == "whole" and sandbox.has("preempted") and not sandbox.has("heard")
        finally:
            sandbox.close()

    def test_a_package_that_is_not_the_announced_one_is_not_run(self, world: World) -> None:
        process = world.command("python", "main.py", code={"../main.py": "print('out')"})
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 120 and "outside of its directory" in output


class TestNodeThatCannot:
    def test_is_told_in_one_sentence(self, tmp_path: Path) -> None:
        """A sandbox is such a node: its kernel gives no further namespaces."""
        script = "from cluster.sandbox.outside import find_refusal; print(find_refusal())"
        source = str(ROOT / "cluster")
        plan = outside.Plan([sys.executable, "-c", script], {"PATH": os.defpath}, 2**28, {source: source})
        sandbox = outside.start(plan, tmp_path)
        try:
            assert sandbox.process.stdout is not None
            output = sandbox.process.stdout.read()
        finally:
            sandbox.close()
        assert output.decode() == "the kernel gives this user no namespaces of its own (unshare: Operation not permitted)\n"
