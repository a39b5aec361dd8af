"""Begins a sandbox and holds its other end: its process, its output, the socket of its proxy, and what it holds of the memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from cluster.sandbox.inside import FAILED, LISTENING, READY, UNSHARED, USER

_FIRST_USER, _NOBODY = 0x7000_0000, 65534
_ENOUGH = 2**16


class Refused(Exception):
    """This node cannot make a sandbox; the text says what the kernel refused."""


@dataclass(frozen=True)
class Plan:
    """What is to run, and in which bounds. ``memory_bytes`` bounds each process, all files together, and both together (``Sandbox.held_bytes``)."""

    command: Sequence[str]
    environment: Mapping[str, str]
    memory_bytes: int
    shown: Mapping[str, str] = field(default_factory=dict)
    """Host paths beside the system's and Python's, and where they are seen, read-only."""
    package: str | None = None
    """A zip file, unpacked where the command starts."""
    processes: int = 1024
    open_files: int = 4096


@dataclass(frozen=True)
class Sandbox:
    """One that runs. Its first process ends last: then none of its processes is left."""

    process: subprocess.Popen[bytes]
    listener: socket.socket
    """Listens where the sandbox finds its proxy (``inside.PROXY``)."""
    exchange: int
    """The folder ``root.EXCHANGE`` in it, open. What lies there may be hostile."""

    def held_bytes(self) -> int:
        """Memory of its processes, shared pages by their part, and its files."""
        files = os.fstatvfs(self.exchange)
        held = (files.f_blocks - files.f_bfree) * files.f_frsize
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    held += process.memory_full_info().pss
        return held

    def has(self, name: str) -> bool:
        """Whether something of this name was left in the folder of exchange."""
        return name in os.listdir(self.exchange)

    def put(self, name: str) -> None:
        """Leave an empty file there; what is there already stays, and no link is followed. Where the sandbox has no room for it, it is not left."""
        with contextlib.suppress(OSError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self.exchange))

    def close(self) -> None:
        """Kill what is left, and let go of it."""
        self.process.kill()
        self.process.wait()
        self.listener.close()
        os.close(self.exchange)


def start(plan: Plan, place: Path) -> Sandbox:
    """Begin it; ``place`` is an empty folder of this user's. Its output comes through ``process.stdout``. Raises: Refused."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    user = _choose_user()
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-I", "-m", "cluster.sandbox.inside", str(theirs.fileno())],
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
        try:
            _receive(ours, UNSHARED)
            _map_users(child.pid, user)
            assert child.stdin is not None
            with child.stdin:
                child.stdin.write(
                    json.dumps({**asdict(plan), "shown": _shown(plan), "place": str(place), "leave_groups": user is not None}).encode()
                )
            listener = socket.socket(fileno=_receive(ours, LISTENING))
            return Sandbox(child, listener, _receive(ours, READY))
        except OSError as error:
            child.kill()
            child.wait()
            raise Refused(f"the kernel does not take the sandbox's user ({error.strerror})") from error
        except Refused:
            child.wait()
            raise


def find_refusal() -> str | None:
    """Why this node cannot make a sandbox; None where it can."""
    with tempfile.TemporaryDirectory(prefix="aidos-sandbox-") as place:
        try:
            sandbox = start(Plan(["true"], {"PATH": os.defpath}, 2**26), Path(place))
        except Refused as refused:
            return str(refused)
        code = sandbox.process.wait()
        sandbox.close()
    return f"a command in it ended with exit code {code}" if code else None


def _receive(ours: socket.socket, wanted: bytes) -> int:
    """The message, and the descriptor that came along (-1 without one). Raises: Refused."""
    message, descriptors, _, _ = socket.recv_fds(ours, _ENOUGH, 1)
    if message == wanted:
        return descriptors[0] if descriptors else -1
    raise Refused(message.removeprefix(FAILED).decode(errors="replace") or "the sandbox ended before it was made")


def _choose_user() -> int | None:
    """Root gives each sandbox a user of its own, which is nobody's; None: whoever is not root can give none but itself."""
    if os.geteuid() != 0:
        return None
    wanted = _FIRST_USER + os.getpid()
    ranges = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return wanted if any(inner <= wanted < inner + count for inner, _, count in ranges) else _NOBODY


def _map_users(process: int, user: int | None) -> None:
    """Which users of the machine those of the sandbox are (user_namespaces(7))."""
    folder = Path("/proc", str(process))
    if user is None:
        (folder / "setgroups").write_text("deny")
    for name, own in (("uid_map", os.geteuid()), ("gid_map", os.getegid())):
        # Root's place in the map lets process 1 reach the folders that it shows, and is given up with all its rights.
        (folder / name).write_text(f"{USER} {own} 1" if user is None else f"0 0 1\n{USER} {user} 1")


def _shown(plan: Plan) -> dict[str, str]:
    python = {str(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix)} | {sys.prefix, sys.base_prefix}
    return {path: path for path in python} | dict(plan.shown)
