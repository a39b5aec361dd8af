"""A trial's own program, run so that it does not outlive the worker that watches over it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def run_command(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run it to its end, printing what it prints; its exit code and its last line. Signal N is 128 + N."""
    try:
        child = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 — it makes one system call
        )
    except FileNotFoundError:
        return NOT_FOUND, f"there is no command {command[0]!r} in the package or on the path"
    except OSError as error:
        return NOT_EXECUTABLE, f"{command[0]!r} cannot be run: {error.strerror}"
    last = ""
    try:
        assert child.stdout is not None
        for line in child.stdout:
            sys.stdout.write(line)
            last = line.strip() or last
        code = child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return (code if code >= 0 else 128 - code), last.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _die_with_parent() -> None:
    """The kernel kills it when the thread that started it is gone: a worker that is killed cannot do so itself."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
