"""A trial's own program, run so that it does not outlive the worker that watches over it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_PR_SET_PDEATHSIG = 1
_DRAIN_S = 5.0
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
    lines: deque[str] = deque(maxlen=1)
    printing = threading.Thread(target=_print_lines, args=(child, lines), daemon=True)
    printing.start()
    try:
        code = child.wait()
    finally:
        # What it left behind in its group holds the pipe open, which would be read for ever.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        printing.join(_DRAIN_S)
    return (code if code >= 0 else 128 - code), "".join(lines).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _print_lines(child: subprocess.Popen[str], lines: deque[str]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        sys.stdout.write(line)
        if text := line.strip():
            lines.append(text)


def _die_with_parent() -> None:
    """The kernel kills it when the thread that started it is gone: a worker that is killed cannot do so itself."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
