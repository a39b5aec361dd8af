"""The job's end of its tunnels: commands that run beside its own, and connections to its ports.

The entry point listens on a Unix socket in a directory that only its own user can enter: nothing of it is on the network. What is begun
here are processes of the entry point, as the job's own command is: they end with the job, and each with its tunnel.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from aidos.schemas.tunnel import CONTENT_BYTES, END, ERRORS, INPUT, OUTPUT, SIZE, TAKEN
from tune.trainos.job_environment import find_attempt

NOT_FOUND, NOT_EXECUTABLE = 127, 126
LENGTH = struct.Struct(">I")
_PIECE_BYTES = 4096  # what a pipe that is ready takes without waiting (PIPE_BUF)
_HANG_UP_S = 3
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# A new session has no terminal until its first process takes one; and where the platform was begun in the background, so that it ignores
# them, the terminal's keys would do nothing.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for key in (signal.SIGINT, signal.SIGQUIT):
    signal.signal(key, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""

Outcome = dict[str, Any]
"""What ``END`` says."""


def socket_path(job_id: UUID | str, attempt: int) -> Path:
    """Where an attempt's entry point listens. Raises: OSError where there is no directory that only this user can enter."""
    directory = Path(tempfile.gettempdir()) / f"aidos-tunnels-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} can be entered by others")
    return directory / f"{job_id}-{attempt}"


class Messages:
    """One tunnel: messages over a socket, each behind its length in four bytes, sent by any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, message: bytes) -> None:
        """Raises: OSError where nobody is there any more."""
        with self._sending:
            self.connection.sendall(LENGTH.pack(len(message)) + message)

    def receive(self) -> bytes:
        """The next; nothing at the end."""
        head = self._read(LENGTH.size)
        return self._read(LENGTH.unpack(head)[0]) if head else b""

    def _read(self, count: int) -> bytes:
        found = bytearray()
        with contextlib.suppress(OSError):
            while len(found) < count and (part := self.connection.recv(count - len(found))):
                found += part
        return bytes(found) if len(found) == count else b""


@contextlib.contextmanager
def open_to_tunnels(command: int, directory: Path) -> Iterator[None]:
    """Answer tunnels into this process's job meanwhile; those that are open afterwards end with the process.

    ``command`` is the process of the job's own command, whose environment others are given; they begin in ``directory``.
    """
    attempt = find_attempt()
    if attempt is None:
        yield
        return
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        try:
            path = socket_path(attempt.job_id, attempt.number)
            listener.bind(str(path))
            stack.callback(path.unlink, missing_ok=True)
            listener.listen()
            TunnelEnd(listener, command, directory).start()
        except OSError as error:
            sys.stderr.write(f"aidos: 'aidos job exec' cannot reach the job: {error}\n")
        yield


class TunnelEnd:
    """Answers the tunnels of one attempt, each in a thread of its own."""

    def __init__(self, listener: socket.socket, command: int, directory: Path) -> None:
        self._listener, self._command, self._directory = listener, command, directory

    def start(self) -> None:
        """In a thread that ends with the process."""
        threading.Thread(target=self._accept, name="aidos-tunnels", daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the job's command has ended
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(Messages(connection),), name="aidos-tunnel", daemon=True).start()

    def _answer(self, messages: Messages) -> None:
        with messages.connection, contextlib.suppress(OSError, ValueError):  # who asked has gone
            asked = json.loads(messages.receive())
            try:
                outcome = _forward(messages, asked["port"]) if asked.get("port") else self._run(messages, asked)
            except psutil.Error as error:
                outcome = {"exit_code": NOT_EXECUTABLE, "reason": f"the job's command has ended or cannot be looked at ({error})"}
            except OSError as error:
                outcome = {"exit_code": NOT_EXECUTABLE, "reason": str(error)}
            messages.send(END + json.dumps(outcome).encode())

    def _run(self, messages: Messages, asked: Mapping[str, Any]) -> Outcome:
        command, terminal = asked["command"], asked.get("terminal")
        environment = psutil.Process(self._command).environ()
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            return {"exit_code": NOT_FOUND, "reason": f"there is no command {command[0]!r} in the job"}
        if terminal:
            environment["TERM"] = terminal["kind"]
            return self._run_on_terminal(messages, command, environment, (terminal["columns"], terminal["rows"]))
        child = self._begin(command, environment, subprocess.PIPE)
        assert child.stdin and child.stdout and child.stderr
        given = child.stdin

        def take(kind: bytes, content: bytes) -> None:
            if kind == INPUT and content:
                _write(given.fileno(), content, messages.connection)
            elif kind == INPUT:
                given.close()

        with child.stdout, child.stderr, given:
            return _follow(messages, child, {child.stdout.fileno(): OUTPUT, child.stderr.fileno(): ERRORS}, take)

    def _run_on_terminal(self, messages: Messages, command: list[str], environment: dict[str, str], size: tuple[int, int]) -> Outcome:
        ours, theirs = os.openpty()

        def take(kind: bytes, content: bytes) -> None:
            if kind == SIZE:
                _resize(ours, *json.loads(content))
            else:
                _write(ours, content, messages.connection)

        try:
            _resize(ours, *size)
            try:
                child = self._begin([sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, *command], environment, theirs)
            finally:
                os.close(theirs)
            return _follow(messages, child, {ours: OUTPUT}, take)
        finally:
            os.close(ours)

    def _begin(self, command: list[str], environment: dict[str, str], stream: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=environment, cwd=self._directory, stdin=stream, stdout=stream, stderr=stream, start_new_session=True
        )


Take = Callable[[bytes, bytes], None]
"""What is done with a message: its letter and its content."""


@contextlib.contextmanager
def _listening(messages: Messages, take: Take, end: Callable[[], None]) -> Iterator[None]:
    """Take what comes meanwhile; ``end`` what goes on here once nobody is there any more."""
    listener = threading.Thread(target=_listen, args=(messages, take, end), daemon=True)
    listener.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            messages.connection.shutdown(socket.SHUT_RD)
        listener.join()


def _listen(messages: Messages, take: Take, end: Callable[[], None]) -> None:
    while message := messages.receive():
        # A command that reads no more, and a message that is none, do not end the tunnel.
        with contextlib.suppress(OSError, ValueError, TypeError, struct.error):
            take(message[:1], message[1:])
        if message[:1] == INPUT:
            with contextlib.suppress(OSError):
                messages.send(TAKEN)
    end()


def _follow(messages: Messages, child: subprocess.Popen[bytes], outputs: Mapping[int, bytes], take: Take) -> Outcome:
    """Pass on what comes both ways until the outputs are at their end."""
    with _listening(messages, take, lambda: _hang_up(child)):
        readers = [threading.Thread(target=_read, args=(messages, *output), daemon=True) for output in outputs.items()]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        code = child.wait()
    return {"exit_code": code if code >= 0 else 128 - code}


def _read(messages: Messages, output: int, kind: bytes) -> None:
    # A terminal whose last process has gone is an error to read from; who listened may have gone too.
    with contextlib.suppress(OSError):
        while content := os.read(output, CONTENT_BYTES):
            messages.send(kind + content)


def _write(into: int, content: bytes, tunnel: socket.socket) -> None:
    """Write it all, unless the tunnel's end comes while the reader takes its time. Raises: OSError."""
    for start in range(0, len(content), _PIECE_BYTES):
        waiting = select.poll()
        waiting.register(into, select.POLLOUT)
        waiting.register(tunnel, select.POLLRDHUP)
        if any(found == tunnel.fileno() for found, _ in waiting.poll()):
            raise BrokenPipeError
        os.write(into, content[start : start + _PIECE_BYTES])


def _hang_up(child: subprocess.Popen[bytes]) -> None:
    """As a terminal that is closed does; what does not end by it is killed."""
    for number in (signal.SIGHUP, signal.SIGKILL):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_HANG_UP_S)


def _resize(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _forward(messages: Messages, port: int) -> Outcome:
    address = _find_listener(port)
    if address is None:
        return {"reason": f"no process of the job's command listens on port {port}"}
    with socket.create_connection((address, port)) as connection:

        def take(kind: bytes, content: bytes) -> None:
            if kind == INPUT and content:
                _write(connection.fileno(), content, messages.connection)
            elif kind == INPUT:
                connection.shutdown(socket.SHUT_WR)

        def end() -> None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        with _listening(messages, take, end):
            _read(messages, connection.fileno(), OUTPUT)
    return {}


def _find_listener(port: int) -> str | None:
    """The address at which a process of the job listens on this port; other ports of the node are none of its user's business."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            for found in process.net_connections("tcp"):
                if found.status == psutil.CONN_LISTEN and found.laddr.port == port:
                    return _ANYWHERE.get(found.laddr.ip, found.laddr.ip)
    return None
