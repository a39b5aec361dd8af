"""A trial's own program, run so that it does not outlive the worker that watches over it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune.studies import fork_server

NOT_FOUND, NOT_EXECUTABLE, KILLED = 127, 126, 128 + signal.SIGKILL
_PR_SET_PDEATHSIG = 1
_DRAIN_S = 5.0
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """Runs commands one after the other; those of one Python script are forked from an interpreter that is kept warm for it."""

    def __init__(self) -> None:
        self._script: Path | None = None
        self._server: ForkServer | None = None

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        """Run it to its end, printing what it prints; its exit code and its last line. Signal N is 128 + N."""
        reader, writer = os.pipe()
        lines: deque[str] = deque(maxlen=1)
        printing = threading.Thread(target=_print_lines, args=(reader, lines), daemon=True)
        printing.start()
        try:
            code, failure = self._run(command, environment, writer)
        finally:
            os.close(writer)
            # What has left its group may hold the pipe open, which would be read for ever.
            printing.join(_DRAIN_S)
        return code, (failure or "".join(lines)).replace("\0", "\N{REPLACEMENT CHARACTER}")

    def _run(self, command: Sequence[str], environment: Mapping[str, str], output: int) -> tuple[int, str]:
        if script := find_script(command, environment):
            if script != self._script:
                self.close()
                self._script, self._server = script, ForkServer.start(command[1], environment)
            if self._server is not None:
                code = self._server.run(command[1:], environment, output)
                if code is None:
                    self.close()
                return KILLED if code is None else code, ""
        return _spawn(command, environment, output)

    def close(self) -> None:
        """End the interpreter."""
        if self._server is not None:
            self._server.close()
        self._script, self._server = None, None


def find_script(command: Sequence[str], environment: Mapping[str, str]) -> Path | None:
    """The script of ``python SCRIPT …`` where that python is this one; None for any other command, such as one with options."""
    if sys.platform != "linux" or len(command) < 2 or not command[1].endswith(".py"):
        return None
    found = shutil.which(command[0], path=environment.get("PATH"))
    ours = Path(sys.executable)
    if found is None or not Path(found).samefile(ours) or Path(found).absolute().parent != ours.absolute().parent:
        return None
    script = Path(command[1]).absolute()
    return script if script.is_file() else None


class ForkServer:
    """The worker's end of ``fork_server.py``."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process, self._channel = process, channel

    @classmethod
    def start(cls, script: str, environment: Mapping[str, str]) -> ForkServer | None:
        """None where the script is not to be forked: its own modules hide others, or its imports began threads."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, fork_server.__file__, str(theirs.fileno()), script],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        server = cls(process, ours)
        if ours.recv(1) == fork_server.READY:
            return server
        server.close()
        return None

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], output: int) -> int | None:
        """The exit code of ``python ARGUMENTS``; None when the interpreter itself was killed, and the program with it."""
        request = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
        try:
            socket.send_fds(self._channel, [fork_server.HEAD.pack(len(request))], [output])
            self._channel.sendall(request)
            answer = self._channel.recv(fork_server.HEAD.size)
        except ConnectionError:
            return None
        return fork_server.HEAD.unpack(answer)[0] if answer else None

    def close(self) -> None:
        """It ends when nobody is there to ask it."""
        self._channel.close()
        self._process.wait()


def _spawn(command: Sequence[str], environment: Mapping[str, str], output: int) -> tuple[int, str]:
    """A fresh process; its exit code, and what kept it from beginning."""
    try:
        child = subprocess.Popen(
            command,
            env=dict(environment),
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 — it makes one system call
        )
    except FileNotFoundError:
        return NOT_FOUND, f"there is no command {command[0]!r} in the package or on the path"
    except OSError as error:
        return NOT_EXECUTABLE, f"{command[0]!r} cannot be run: {error.strerror}"
    try:
        code = child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return (code if code >= 0 else 128 - code), ""


def _print_lines(reader: int, lines: deque[str]) -> None:
    with open(reader, errors="replace") as printed:
        for line in printed:
            sys.stdout.write(line)
            if text := line.strip():
                lines.append(text)


def _die_with_parent() -> None:
    """The kernel kills it when the thread that started it is gone: a worker that is killed cannot do so itself."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
