"""Into a running job with the real command: its own commands and ports, through a gateway and the job's real entry point. No Ray."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from aidos.client import Client
from aidos.errors import Conflict, Forbidden, NotFound, Unauthenticated
from aidos.schemas.tunnel import END, INPUT, OUTPUT, WINDOW
from aidos.transfers.tunnel import JobTunnel, TunnelCut
from cluster.db import Database
from cluster.objects import Objects
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.server import serve
from tests.support.waiting import wait_until
from tests.trainos.conftest import Submit
from tests.trainos.test_entrypoint import start
from tune.trainos.models import Job
from tune.trainos.tunnel import NodeTunnel, open_node_tunnel
from tune.trainos.tunnel_end import Messages

pytestmark = [pytest.mark.postgres]
AIDOS = [sys.executable, "-c", "from aidos.cli import main; main()"]
SERVES = """
import http.server, os, sys
os.environ["MADE_BY_THE_COMMAND"] = "1"
print(os.getpid(), flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, bind="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.fixture
def url(settings: Settings, admin_key: str, objects: Objects) -> Iterator[str]:
    """A gateway on the jobs' own node."""
    with serve(settings, open_tunnel=open_node_tunnel) as address:
        yield address


@pytest.fixture
async def job(submit: Submit, database: Database) -> Job:
    """One that runs, by what is written of it."""
    job = await submit()
    async with database.platform() as conn:
        await conn.execute("UPDATE trainos.jobs SET state = 'RUNNING', attempt = 1 WHERE id = %s", [job.id])
    return job


@pytest.fixture
def port() -> int:
    return find_free_ports(1)


@pytest.fixture
def command(job: Job, port: int, tmp_path: Path) -> Iterator[psutil.Process]:
    """The job's own command, a web server, begun by the real entry point in ``tmp_path``."""
    (tmp_path / "main.py").write_text(SERVES)
    environment = {"AIDOS_JOB_ID": str(job.id), "AIDOS_JOB_ATTEMPT": "1", "AIDOS_CODE_SHA256": "0" * 64}
    entry = start("python", "-u", "main.py", str(port), cwd=tmp_path, **environment)
    assert entry.stdout is not None
    yield psutil.Process(int(entry.stdout.readline()))
    entry.terminate()
    entry.communicate(timeout=30)


def run(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*AIDOS, *words], input=input, capture_output=True, timeout=60, check=False)


async def test_what_the_job_says_last_is_read_although_it_takes_no_more_input() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    tunnel, job = NodeTunnel(ours), Messages(theirs)
    await tunnel.send(INPUT + b"not looked at")
    theirs.shutdown(socket.SHUT_RD)
    await tunnel.send(INPUT + b"refused")
    job.send(END + b"{}")
    theirs.close()
    assert [await tunnel.receive(), await tunnel.receive()] == [END + b"{}", b""]
    await tunnel.close()


class TestExec:
    def test_runs_in_the_jobs_environment_and_directory(self, client: Client, job: Job, command: psutil.Process) -> None:
        script = "import os; print(os.getcwd(), os.environ['AIDOS_JOB_ID'], os.environ['TMPDIR'], 'AIDOS_API_KEY' in os.environ)"
        done = run("job", "exec", job.name, "--", "python", "-c", script)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().split() == [command.cwd(), str(job.id), command.environ()["TMPDIR"], "False"]

    def test_passes_input_both_outputs_and_the_exit_code(self, client: Client, job: Job, command: psutil.Process) -> None:
        done = run("job", "exec", job.name, "--", "sh", "-c", "wc -c; echo wrong >&2; exit 7", input=b"x" * 3_000_000)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (7, b"3000000", b"wrong\n")

    def test_takes_as_much_output_as_there_is(self, client: Client, job: Job, command: psutil.Process) -> None:
        done = run("job", "exec", job.name, "--", "head", "-c", "5000000", "/dev/zero")
        assert done.returncode == 0 and done.stdout == b"\0" * 5_000_000

    def test_says_what_cannot_be_run(self, client: Client, job: Job, command: psutil.Process) -> None:
        done = run("job", "exec", job.name, "--", "no-such-program")
        assert done.returncode == 127 and b"there is no command 'no-such-program' in the job" in done.stderr

    def test_as_json_says_which_stream_and_how_it_ended(self, client: Client, job: Job, command: psutil.Process) -> None:
        done = run("job", "exec", job.name, "--json", "--", "sh", "-c", "echo out; exit 3")
        first, last = done.stdout.decode().split("\n", 1)
        assert json.loads(first) == {"stream": "stdout", "text": "out\n"} and json.loads(last) == {"exit_code": 3}
        assert done.returncode == 3

    def test_gives_a_terminal_to_who_has_one(self, client: Client, job: Job, command: psutil.Process) -> None:
        """Its size, its echo, and Ctrl-C, which ends what runs in it and not the user's command."""
        ours, theirs = pty.openpty()
        words = ["job", "exec", job.name, "--", "sh", "-c", "stty size; echo READY; sleep 600; echo no; exit 5"]
        shell = subprocess.Popen([*AIDOS, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "COLUMNS": "91", "LINES": "33"})  # fmt: skip
        os.close(theirs)
        seen = b""
        while b"READY" not in seen:
            seen += os.read(ours, 1000)
        assert b"33 91" in seen
        os.write(ours, b"\x03")
        assert shell.wait(30) == 128 + signal.SIGINT
        os.close(ours)

    def test_ends_when_its_user_leaves(self, client: Client, job: Job, command: psutil.Process) -> None:
        with JobTunnel(client, job.name, {"command": ["sh", "-c", "trap '' HUP; echo $$; sleep 600; sleep 600"]}) as tunnel:
            kind, content = next(iter(tunnel))
        assert kind == OUTPUT
        wait_until(lambda: not psutil.pid_exists(int(content)), within_s=30)
        assert command.is_running()

    def test_ends_with_the_job(self, client: Client, job: Job, command: psutil.Process) -> None:
        with JobTunnel(client, job.name, {"command": ["sh", "-c", "setsid sleep 600 & echo $!; wait"]}) as tunnel:
            messages = iter(tunnel)
            _, content = next(messages)
            command.kill()
            with pytest.raises((TunnelCut, StopIteration)):
                next(messages)
        wait_until(lambda: not psutil.pid_exists(int(content)), within_s=30)

    def test_a_reader_that_takes_its_time_holds_its_writer_back(self, client: Client, job: Job, command: psutil.Process) -> None:
        """No piece between keeps what is not read; and its user may leave all the same."""
        sent: list[int] = []
        with JobTunnel(client, job.name, {"command": ["sh", "-c", "echo $$; sleep 600"]}) as tunnel:
            messages = iter(tunnel)
            _, content = next(messages)

            def feed() -> None:
                for number in range(1000):
                    tunnel.send(INPUT, b"x" * 65_536)
                    sent.append(number)

            threading.Thread(target=feed, daemon=True).start()
            wait_until(lambda: len(sent) >= WINDOW, within_s=30)
        assert len(sent) < 3 * WINDOW
        wait_until(lambda: not psutil.pid_exists(int(content)), within_s=30)

    def test_who_sends_far_ahead_is_shown_out(self, client: Client, job: Job, command: psutil.Process) -> None:
        with JobTunnel(client, job.name, {"command": ["sleep", "600"]}) as tunnel, pytest.raises(TunnelCut, match="went ahead"):
            tunnel._ahead.release(1000)
            for _ in range(200):
                tunnel.send(INPUT, b"x" * 65_536)
            list(tunnel)


class TestPortForward:
    def test_reaches_a_port_of_the_command(self, client: Client, job: Job, command: psutil.Process, port: int) -> None:
        Path(command.cwd(), "big").write_bytes(b"z" * 2_000_000)
        local = find_free_ports(1)
        forwarding = subprocess.Popen([*AIDOS, "job", "port-forward", job.name, f"{port}:{local}"], stderr=subprocess.PIPE)
        try:
            assert forwarding.stderr is not None
            assert f"http://127.0.0.1:{local} is port {port}".encode() in forwarding.stderr.readline()
            for _ in range(3):
                assert httpx.get(f"http://127.0.0.1:{local}/big").content == b"z" * 2_000_000
        finally:
            forwarding.send_signal(signal.SIGINT)
            assert forwarding.wait(30) == 0

    def test_reaches_no_port_of_anybody_else(self, client: Client, job: Job, command: psutil.Process) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, JobTunnel(client, job.name, {"port": other.getsockname()[1]}) as tunnel:
            assert list(tunnel) == []
            assert re.match("no process of the job's command listens on port", tunnel.outcome["reason"])


class TestWhoMayEnter:
    def test_only_a_running_job_can_be_entered(self, client: Client, job: Job) -> None:
        client.jobs.cancel(str(job.id))
        with pytest.raises(Conflict, match="CANCELLING: only a job whose command runs"):
            JobTunnel(client, str(job.id), {"port": 80})

    async def test_nobody_enters_a_sandbox(self, client: Client, job: Job, database: Database) -> None:
        async with database.platform() as conn:
            await conn.execute("""UPDATE trainos.jobs SET spec = spec || '{"trust": "untrusted", "workers": 1}' WHERE id = %s""", [job.id])
        with pytest.raises(Conflict, match="runs in a sandbox, and nobody enters one"):
            JobTunnel(client, str(job.id), {"port": 80})

    def test_who_is_not_known_or_only_reads_enters_nothing(self, client: Client, url: str, job: Job) -> None:
        reader = client.keys.create("reader", role="viewer").key
        for key, refusal in ((reader, Forbidden), ("nobody", Unauthenticated)):
            with Client(url, key) as other, pytest.raises(refusal):
                JobTunnel(other, str(job.id), {"port": 80})

    def test_a_job_enters_no_other(self, as_job: Callable[[Any], Client], job: Job) -> None:
        with as_job("0198a000-0000-7000-8000-000000000000") as other, pytest.raises(NotFound):
            JobTunnel(other, str(job.id), {"port": 80})

    def test_a_key_of_few_scopes_enters_no_job_that_may_more(self, client: Client, url: str, job: Job) -> None:
        narrow = client.keys.create("narrow", role="developer", scopes=["trainos:write"]).key
        with Client(url, narrow) as other, pytest.raises(Forbidden):
            JobTunnel(other, str(job.id), {"port": 80})

    def test_a_revoked_key_is_shown_out(
        self, client: Client, url: str, job: Job, command: psutil.Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.tunnels._LOOK_S", 0.1)
        made = client.keys.create("leaving", role="developer")
        with Client(url, made.key) as other, JobTunnel(other, str(job.id), {"command": ["sleep", "600"]}) as tunnel:
            client.keys.revoke(str(made.id))
            with pytest.raises(TunnelCut):
                list(tunnel)

    def test_who_entered_and_for_what_is_on_the_record(self, client: Client, job: Job, command: psutil.Process) -> None:
        assert run("job", "exec", job.name, "--", "echo", "a b").returncode == 0
        entry = next(record for record in client.audit.list() if record.action == "enter_job")
        assert entry.resource == f"/v1/trainos/jobs/{job.id}" and entry.data == {"command": "echo 'a b'"}

    def test_what_is_no_question_is_refused(self, client: Client, job: Job) -> None:
        asks: list[dict[str, Any]] = [
            {},
            {"command": ["true"], "port": 80},
            {"port": 0},
            {"command": "true"},
            {"command": ["true"], "x": 1},
        ]
        for asked in asks:
            with JobTunnel(client, str(job.id), asked) as tunnel, pytest.raises(TunnelCut):
                list(tunnel)
