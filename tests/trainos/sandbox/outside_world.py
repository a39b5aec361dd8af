"""What lies outside of a sandbox in the tests: secrets, listening sockets, a process, and the two servers that a job may reach."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
MEMORY_BYTES = 2**31
LOCAL = "127.0.0.1"


class Echo(BaseHTTPRequestHandler):
    """Answers with the request that arrived."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        received = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        content = json.dumps({"path": self.path, "headers": dict(self.headers.items()), "body": received}).encode()
        if self.path == "/package":
            content = self.server.package  # type: ignore[attr-defined]  # of this file's server
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_GET  # noqa: N815 (names that http.server looks for)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@dataclass
class World:
    """A node as an untrusted job would find it, were it not in a sandbox."""

    folder: Path
    gateway: ThreadingHTTPServer
    store: ThreadingHTTPServer
    facts: dict[str, object]
    marker: str = field(repr=False, default="")

    def command(self, *command: str, code: dict[str, str] | None = None, memory_bytes: int = MEMORY_BYTES) -> subprocess.Popen[str]:
        """The process that TrainOS has Ray begin for such a job."""
        files = Path(tempfile.mkdtemp(prefix="aidos-job-", dir=self.folder))
        (files / "token").write_text(self.marker)
        environment = {
            "PATH": os.environ["PATH"],
            "AIDOS_HOME": str(self.folder / "home"),
            "AIDOS_API_KEY": self.marker,
            "AIDOS_URL": f"http://{LOCAL}:{self.gateway.server_port}",
            "AIDOS_SANDBOX_STORE": f"http://{LOCAL}:{self.store.server_port}",
            "AIDOS_SANDBOX_MEMORY_BYTES": str(memory_bytes),
            "AIDOS_TOKEN_FILE": str(files / "token"),
            "AIDOS_JOB_ID": "7",
        }
        if code is not None:
            environment["AIDOS_CODE_COMMIT"] = "0" * 40
            package = files / "package.zip"
            with zipfile.ZipFile(package, "w") as archive:
                for name, text in code.items():
                    archive.writestr(name, text)
            self.store.package = package.read_bytes()  # type: ignore[attr-defined]  # what its answer to /package is
            (files / "code").write_text(f"http://{LOCAL}:{self.store.server_port}/package")
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "tune.trainos.sandboxed", "--", *command],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, code: dict[str, str] | None = None, memory_bytes: int = MEMORY_BYTES) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        process = self.command(*command, code=code, memory_bytes=memory_bytes)
        output, _ = process.communicate(timeout=100)
        return process.returncode, output

    def python(self, script: str, memory_bytes: int = MEMORY_BYTES) -> tuple[int, str]:
        return self.run("python", "main.py", code={"main.py": script}, memory_bytes=memory_bytes)


@contextlib.contextmanager
def build_world() -> Iterator[World]:
    """Everything that the probes look for is really there."""
    marker = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aidos-world-")))
        gateway, store = (stack.enter_context(_serving()) for _ in range(2))
        listeners = [stack.enter_context(each) for each in _listeners(folder, marker)]
        victim = stack.enter_context(_victim(marker))
        secrets_folder = folder / "home" / "secrets"
        secrets_folder.mkdir(parents=True)
        for path in (secrets_folder / "aidos_ray_token", folder / "token", folder / "other-job"):
            path.write_text(marker)
        facts = {
            "marker": marker,
            "folder": str(folder),
            "temporary": str(folder.parent),
            "home": str(folder / "home"),
            "ray_token": str(secrets_folder / "aidos_ray_token"),
            "token_file": str(folder / "token"),
            "other_file": str(folder / "other-job"),
            "source": str(ROOT),
            "port": listeners[0].getsockname()[1],
            "port6": listeners[1].getsockname()[1],
            "address": _address(),
            "unix_socket": str(folder / ".s.PGSQL.5432"),
            "abstract_socket": marker,
            "gateway_port": gateway.server_port,
            "store_port": store.server_port,
            "victim": victim,
            "memory_bytes": MEMORY_BYTES,
        }
        yield World(folder, gateway, store, facts, marker)


@contextlib.contextmanager
def _serving() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer((LOCAL, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _listeners(folder: Path, marker: str) -> Iterator[socket.socket]:
    yield socket.create_server(("", 0))
    yield socket.create_server(("::1", 0), family=socket.AF_INET6)
    for name in (str(folder / ".s.PGSQL.5432"), b"\x00" + marker.encode()):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.listen()
        yield listener


@contextlib.contextmanager
def _victim(marker: str) -> Iterator[int]:
    command = [sys.executable, "-c", "import signal; signal.pause()", marker]
    with subprocess.Popen(command, env={"AIDOS_SECRET": marker}) as process:
        yield process.pid
        process.kill()


def _address() -> str:
    """One of this machine's beside its loopback, where it has one."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family is socket.AF_INET and each.address != LOCAL:
                return each.address
    return "127.0.0.2"
