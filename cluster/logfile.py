"""Where processes that log every request write: a file, not the standard error of a Ray worker.

Ray reads each line of a worker's standard error again and publishes it through the GCS, asked for or not. At a line a request
that costs a third of the gateway's throughput (measured by ``benchmarks/gateway.py`` on two cores).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOST_BYTES = 64 * 2**20
FILES_KEPT = 8


class LogFile:
    """A text stream into ``NAME-PID.log``, moved to ``NAME-PID.log.1`` when it is full; older processes' files are removed."""

    def __init__(self, directory: Path, name: str, most_bytes: int = MOST_BYTES) -> None:
        self.path = directory / f"{name}-{os.getpid()}.log"
        self._most_bytes = most_bytes
        self._remove_old(directory, name)
        self._open()

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "backslashreplace")
        if self._written_bytes + len(data) > self._most_bytes:
            os.close(self._file)
            self.path.replace(f"{self.path}.1")
            self._open()
        self._written_bytes += len(data)
        with contextlib.suppress(OSError):  # a full disk must not fail the request that is logged
            os.write(self._file, data)
        return len(text)

    def flush(self) -> None:
        """Nothing: each line goes to the file at once, so that a killed process leaves all of its lines."""

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._written_bytes = os.fstat(self._file).st_size

    def _remove_old(self, directory: Path, name: str) -> None:
        files = sorted(directory.glob(f"{name}-*.log*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[FILES_KEPT:]:
            with contextlib.suppress(FileNotFoundError):  # another replica that starts now removed it
                path.unlink()


def open_log(home: Path, name: str) -> LogFile | None:
    """The log of process ``name`` under ``home``; None where there is no place for one, as on a node without the directory."""
    directory = home / "logs"
    if not os.access(directory, os.W_OK):
        return None
    return LogFile(directory, name)
