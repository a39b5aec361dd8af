"""Code from git: real repositories behind a real git server, the real database and store, a cluster in the test's hand."""

from __future__ import annotations

import http.server
import io
import json
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aidos.client import Client
from aidos.errors import InvalidPayload
from cluster.db import Database
from cluster.settings import networks
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until
from tests.trainos.fake_cluster import FakeCluster
from tests.trainos.test_api import command, steps
from tune.trainos.code_package import BadPackage
from tune.trainos.git_code import fetch_commit
from tune.trainos.reconciler import JobReconciler

pytestmark = pytest.mark.postgres
NOWHERE = "0" * 39 + "1"
HERE = networks("127.0.0.1")


@dataclass
class Repository:
    """One with a server."""

    folder: Path
    url: str
    server: subprocess.Popen[bytes]

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        return subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, text: str) -> str:
        """Its id."""
        (self.folder / "main.py").write_text(text)
        self.git("add", "main.py")
        self.git("commit", "--quiet", "--message", text)
        return self.git("rev-parse", "HEAD")

    def answers(self) -> bool:
        return subprocess.run(["git", "ls-remote", self.url], capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        self.server.terminate()
        self.server.wait()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    folder, port = tmp_path / "served" / "code", find_free_ports(1)
    folder.mkdir(parents=True)
    options = ["--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder.parent}"]
    made = Repository(folder, f"git://127.0.0.1:{port}/code", subprocess.Popen(["git", "daemon", *options]))
    made.git("init", "--quiet", "--initial-branch=main")
    wait_until(made.answers)
    yield made
    made.close()


@pytest.fixture
def reconciler(reconciler: JobReconciler) -> JobReconciler:
    """Of an operator whose git server is on this machine."""
    reconciler.settings = reconciler.settings.model_copy(update={"git_networks": "127.0.0.1"})
    return reconciler


class TestGitCode:
    def test_a_branch_is_the_commit_of_the_submit_and_outlives_its_repository(
        self, client: Client, repository: Repository, database: Database, reconciler: JobReconciler, cluster: FakeCluster, tmp_path: Path
    ) -> None:
        first = repository.commit("print(1)")
        asked = ("job", "submit", "--name", "digits", "--git", repository.url, "--commit", "main", "--json", "--", "python", "main.py")
        made = command(*asked, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        job = client.jobs.get(json.loads(made.stdout)["id"])
        assert job.spec.code is not None and (job.spec.code.git, job.spec.code.commit) == (repository.url, first)
        assert repository.commit("print(2)") != first
        steps(database, reconciler, 2)
        repository.close()
        again = client.jobs.create("again", command=["python", "main.py"], code=job.spec.code.model_dump())
        steps(database, reconciler, 2)
        for each in (job, again):
            package = cluster.packages[client.jobs.get(str(each.id)).submission_id or ""]
            assert package is not None and zipfile.ZipFile(io.BytesIO(package)).read("main.py") == b"print(1)"

    def test_a_commit_that_is_not_there_fails_the_job_in_gits_words(
        self, client: Client, repository: Repository, database: Database, reconciler: JobReconciler
    ) -> None:
        job = client.jobs.create("digits", command=["true"], code={"git": repository.url, "commit": NOWHERE})
        steps(database, reconciler, 2)
        found = client.jobs.get(str(job.id))
        assert found.state == "FAILED" and found.reason.startswith(f"commit {NOWHERE} of {repository.url} cannot be fetched: fatal: ")

    def test_a_branch_that_is_not_there_is_refused_before_anything_is_queued(
        self, client: Client, repository: Repository, tmp_path: Path
    ) -> None:
        asked = ("job", "submit", "--name", "digits", "--git", repository.url, "--commit", "typo", "--", "true")
        refused = command(*asked, cwd=tmp_path)
        assert refused.returncode == 2 and "has no branch or tag 'typo'" in refused.stderr and list(client.jobs.list()) == []

    @pytest.mark.parametrize(
        "address", ["https://ada:token@example.org/code", "ssh://git@example.org/code", "file:///etc", "ext::sh -c id"]
    )
    def test_a_credential_in_the_url_and_what_needs_one_are_refused(self, client: Client, address: str) -> None:
        with pytest.raises(InvalidPayload, match="anyone may read"):
            client.jobs.create("digits", command=["true"], code={"git": address, "commit": NOWHERE})


class TestCredentials:
    def test_a_repository_that_asks_for_a_password_is_given_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither what the machine's user has in his netrc, nor in git's configuration, nor a prompt."""
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password secret\n")
        (tmp_path / ".gitconfig").write_text('[http]\n\textraHeader = "Authorization: Basic c2VjcmV0"\n')
        monkeypatch.setenv("HOME", str(tmp_path))
        given: list[str | None] = []

        class Asks(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given.append(self.headers["Authorization"])
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="code"')
                self.end_headers()

        with http.server.HTTPServer(("127.0.0.1", 0), Asks) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with pytest.raises(BadPackage, match="could not read Username"):
                fetch_commit(f"http://127.0.0.1:{server.server_port}/code", NOWHERE, tmp_path / "code.zip", HERE)
            server.shutdown()
        assert given and set(given) == {None}


class TestInnerAddresses:
    """The platform fetches what a user names: nothing that only the platform can reach."""

    @pytest.fixture
    def inside(self) -> Iterator[tuple[int, list[str]]]:
        """A server of this machine, and what it was asked; it sends whoever asks to itself, under another name."""
        asked: list[str] = []

        class Canary(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/elsewhere{self.path}")
                self.end_headers()

        with http.server.HTTPServer(("127.0.0.1", 0), Canary) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_port, asked
            server.shutdown()

    @pytest.mark.parametrize("scheme", ["http", "https", "git"])
    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]",
         "[::ffff:7f00:1]", "[::]", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "224.0.0.1"],
    )  # fmt: skip
    def test_are_not_asked(self, inside: tuple[int, list[str]], scheme: str, host: str, tmp_path: Path) -> None:
        port, asked = inside
        with pytest.raises(BadPackage, match="not on the Internet|cannot be fetched"):
            fetch_commit(f"{scheme}://{host}:{port}/code", NOWHERE, tmp_path / "code.zip")
        assert asked == []

    def test_a_repository_may_not_send_on_to_them(self, inside: tuple[int, list[str]], tmp_path: Path) -> None:
        port, asked = inside
        with pytest.raises(BadPackage):
            fetch_commit(f"http://127.0.0.1:{port}/code", NOWHERE, tmp_path / "code.zip", HERE)
        assert asked and not any(path.startswith("/elsewhere") for path in asked)

    def test_a_name_means_what_it_meant_when_it_was_looked_at(
        self, inside: tuple[int, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The name server says one address to who looks and another to who connects: the first is connected to."""
        port, asked = inside
        before = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: before)
        with pytest.raises(BadPackage):
            fetch_commit(f"http://elsewhere.invalid:{port}/code", NOWHERE, tmp_path / "code.zip", HERE)
        assert asked, "git asked the address, though no name server knows the name"
