"""What the doctor finds on a machine that is not well, and what ``aidos up`` refuses because of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import grpc
import pytest
from pydantic import SecretStr

from cluster import doctor, embedded, s3_server
from cluster import status as reports
from cluster.doctor import Finding
from cluster.embedded import CannotStart
from cluster.settings import Settings, inherited_environment, read_settings
from tests.support.platform import find_free_ports


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A home with its secrets, where nothing runs."""
    embedded.make_home(tmp_path / "home")
    return embedded.make_secrets(read_settings(tmp_path / "home"))


def problems(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


class TestRefuseUnsafe:
    def test_a_well_machine_is_not_refused(self, home: Settings) -> None:
        doctor.refuse_unsafe(home)

    def test_a_full_disk(self, home: Settings) -> None:
        with pytest.raises(CannotStart, match=r"GiB free under .*: at least .* GiB must be free: make room"):
            doctor.refuse_unsafe(home.model_copy(update={"free_disk_bytes": 2**60}))

    def test_ray_without_its_token(self, home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with pytest.raises(CannotStart, match="RAY_AUTH_MODE=disabled: unset it"):
            doctor.refuse_unsafe(home)

    @pytest.mark.parametrize("name", doctor.UNSAFE_RAY_DATA)
    def test_data_files_that_may_run_code(self, home: Settings, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, "0")
        doctor.refuse_unsafe(home)
        monkeypatch.setenv(name, "1")
        with pytest.raises(CannotStart, match=f"{name}=1: unset it"):
            doctor.refuse_unsafe(home)

    def test_a_token_that_others_can_read(self, home: Settings) -> None:
        home.secret_path("ray_token").chmod(0o644)
        with pytest.raises(CannotStart, match=r"aidos_ray_token has mode 0644.*chmod 600"):
            doctor.refuse_unsafe(home)

    def test_a_guessable_token(self, home: Settings) -> None:
        home.secret_path("ray_token").write_text("short")
        with pytest.raises(CannotStart, match="aidos_ray_token has mode 0600: remove"):
            doctor.refuse_unsafe(home)

    def test_a_clock_behind_the_files(self, home: Settings) -> None:
        later = time.time() + 3600
        os.utime(home.secret_path("ray_token"), (later, later))
        with pytest.raises(CannotStart, match=r"the clock is 3\d\d\d s behind"):
            doctor.refuse_unsafe(home)

    def test_an_outer_database_that_is_not_there(self, home: Settings) -> None:
        port = find_free_ports(1)
        outer = home.model_copy(update={"database_url": SecretStr(f"postgresql://u:p@127.0.0.1:{port}/x")})
        with pytest.raises(CannotStart, match="PostgreSQL cannot be used: .*AIDOS_DATABASE_URL"):
            doctor.refuse_unsafe(outer)

    def test_an_outer_ray_that_is_not_there(self, home: Settings) -> None:
        outer = home.model_copy(update={"ray_address": f"127.0.0.1:{find_free_ports(1)}"})
        with pytest.raises(CannotStart, match=r"Ray cannot be used: .*UNAVAILABLE.*: set RAY_ADDRESS and secrets/aidos_ray_token right"):
            doctor.refuse_unsafe(outer)


class TestClocks:
    @pytest.mark.parametrize(("ahead_s", "ok", "warning"), [(0.0, True, True), (600.0, False, True), (7200.0, False, False)])
    @pytest.mark.parametrize("sign", [1, -1], ids=["ahead", "behind"])
    def test_the_platform_that_the_client_asks_says_whether_this_one_is_wrong(
        self, home: Settings, monkeypatch: pytest.MonkeyPatch, ahead_s: float, ok: bool, warning: bool, sign: int
    ) -> None:
        there = formatdate(time.time() - sign * ahead_s, usegmt=True)
        with answering(f"HTTP/1.1 401 Unauthorized\r\nDate: {there}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as url:
            monkeypatch.setenv("AIDOS_URL", url)
            found = next(finding for finding in doctor.check_running(home) if finding.name == "platform clock")
        assert (found.ok, found.warning, bool(found.remedy)) == (ok, warning, not ok)
        assert ok or f"s {'ahead of' if sign > 0 else 'behind'} the platform's" in found.detail

    def test_nobody_there_is_no_finding(self, home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_URL", f"http://127.0.0.1:{find_free_ports(1)}")
        assert [finding.name for finding in doctor.check_running(home)] == ["running"]


@contextmanager
def answering(answer: str) -> Iterator[str]:
    """A server of one answer; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            opened, _ = server.accept()
            with opened:
                opened.recv(65536)
                opened.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


class TestExamine:
    def test_every_problem_has_a_remedy(self, home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        home.secret_path("s3_secret_key").chmod(0o640)
        first = find_free_ports(2)
        with socket.create_server(("127.0.0.1", first)):
            found = problems(doctor.examine(home.model_copy(update={"postgres_port": first, "free_disk_bytes": 2**60})))
        assert {"disk", "ray auth mode", "secret", "port"} <= {finding.name for finding in found}
        assert all(finding.remedy for finding in found)

    def test_a_busy_port_names_its_holder(self, home: Settings) -> None:
        first = find_free_ports(1)
        with socket.create_server(("127.0.0.1", first)):
            found = list(doctor.check_ports(home.model_copy(update={"postgres_port": first})))
        assert any(f"port {first} (postgres) is taken by process {os.getpid()}" in finding.detail for finding in problems(found))


@pytest.mark.postgres
class TestRunningStorage:
    def test_strangers_are_refused_and_nothing_is_open(self, storage: Settings) -> None:
        found = list(doctor.check_running(storage))
        assert {"s3 refusal", "s3 filer", "s3 grpc", "database clock", "sockets"} <= {finding.name for finding in found}
        assert not problems(found)

    def test_a_grpc_port_that_answers_strangers_is_found(self, storage: Settings, tmp_path: Path) -> None:
        (tmp_path / "config" / "s3").mkdir(parents=True)
        (tmp_path / "config" / "s3" / "grpc.crt").write_bytes((storage.home / "config" / "s3" / "grpc.crt").read_bytes())
        first, server = find_free_ports(9), grpc.server(ThreadPoolExecutor(1))
        server.add_insecure_port(f"127.0.0.1:{first + 6}")
        server.start()
        try:
            assert s3_server.ports_open_to_strangers(storage.model_copy(update={"home": tmp_path, "s3_port": first})) == ["filer_grpc"]
        finally:
            server.stop(None).wait()

    def test_clocks_of_an_outer_database_and_s3_are_compared(self, home: Settings, storage: Settings) -> None:
        names = ("database_url", "s3_endpoint", "s3_access_key", "s3_secret_key")
        found = list(doctor.check_external(home.model_copy(update={name: getattr(storage, name) for name in names})))
        assert {finding.name for finding in found} == {"postgres", "database clock", "s3", "S3 clock"} and not problems(found)

    def test_an_s3_that_does_not_answer_is_a_finding(self, storage: Settings) -> None:
        found = problems(list(doctor.check_running(storage.model_copy(update={"s3_endpoint": "", "s3_port": find_free_ports(9)}))))
        assert [(finding.name, bool(finding.remedy)) for finding in found] == [("s3", True)]

    def test_an_open_socket_is_found(self, storage: Settings) -> None:
        code = "import socket, sys; s = socket.create_server(('0.0.0.0', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
        environment = {**inherited_environment(), "AIDOS_PROGRAM": f"ray@{storage.home}"}
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as stray:
            assert stray.stdout is not None
            port = stray.stdout.readline().strip()
            found = problems(list(doctor.check_sockets(storage)))
            stray.kill()
        assert [finding.name for finding in found] == ["sockets"]
        assert f"{port} on 0.0.0.0" in found[0].detail

    def test_status_says_what_runs(self, storage: Settings) -> None:
        rows = {row.name: row for row in reports.list_reports(storage)}
        assert rows["postgres"].healthy
        assert rows["postgres"].processes > 1
        assert rows["s3"].healthy
        assert rows["s3"].memory_bytes > 10_000_000
        assert not rows["ray"].healthy
        assert rows["ray"].detail == "not running; `aidos up` starts it"


class TestCommands:
    """The real command, with its own home."""

    def run(self, tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        first = find_free_ports(200)
        ports = {"POSTGRES": first, "S3": first + 1, "GATEWAY": first + 10, "RAY_DASHBOARD": first + 11, "RAY": first + 20}
        environment = {**inherited_environment(), **{f"AIDOS_{name}_PORT": str(port) for name, port in ports.items()}}
        environment |= {"AIDOS_HOME": str(tmp_path / "home"), **more}
        command = [str(Path(sys.executable).parent / "aidos"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def test_doctor_finds_nothing_wrong_here(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "doctor", "--json")
        found = json.loads(done.stdout)
        assert found["ok"], [finding for finding in found["findings"] if not finding["ok"]]
        assert done.returncode == 0

    def test_a_refusal_is_one_sentence_and_exit_code_1(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "up", AIDOS_FREE_DISK_BYTES=str(2**60))
        assert done.returncode == 1
        assert re.fullmatch(r"Error: .* GiB free under .*: at least .* GiB must be free: make room, or set AIDOS_HOME\n", done.stderr)
        assert not done.stdout

    def test_an_unknown_program_is_a_usage_error(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "up", "--only", "nothing")
        assert done.returncode == 2
        assert "no program is called nothing" in done.stderr

    def test_status_of_nothing_is_exit_code_1(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "status", "--json")
        assert json.loads(done.stdout)["programs"] == []
        assert done.returncode == 1

    def test_down_twice_is_no_error(self, tmp_path: Path) -> None:
        for _ in range(2):
            assert self.run(tmp_path, "down").returncode == 0
