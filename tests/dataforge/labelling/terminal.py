"""A program in a pseudo-terminal, as a person has it: what it shows, and keys for it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Terminal:
    """The keyboard and the screen of one running program."""

    process: subprocess.Popen[bytes]
    fd: int
    screen: str = ""

    def wait_for(self, text: str, *, within_s: float = 40) -> str:
        """What came up to and with ``text``, taken off the screen. Raises: AssertionError when it does not come."""
        deadline = time.monotonic() + within_s
        while text not in self.screen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} was not shown; the screen: {self.screen[-3000:]!r}"
            try:
                read = os.read(self.fd, 65536)
            except OSError:  # the program has ended
                read = b""
            assert read, f"the program ended without {text!r}: {self.screen[-3000:]!r}"
            self.screen += read.decode(errors="replace")
        shown, _, self.screen = self.screen.partition(text)
        return shown + text

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        """Wait for the program's end; its exit code."""
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 65536):
                self.screen += data.decode(errors="replace")
        return self.process.wait(timeout=30)


@contextmanager
def terminal(command: list[str], **environment: str) -> Iterator[Terminal]:
    """Run the command on a terminal of its own."""
    ours, theirs = pty.openpty()
    # The terminal must be the program's controlling one: Ctrl-C is a signal only then.
    command = ["setsid", "--ctty", *command]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environment})
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
