"""How a job's token reaches its processes: through Ray's internal key-value store into a file of mode 0400.

Neither the runtime environment nor any process's environment holds it; whoever can read the store has the cluster's own token
anyway. A worker's setup hook may not call an actor in Ray 2.60 (the worker has no job yet, and submitting a task from it aborts the
process: ``Check failed: value != nullptr`` in shared_lru.h), so the token lies in the store and not behind the actor.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

NAMESPACE = b"aidos.trainos"
REFRESH_S = 60.0

Read = Callable[[], bytes | None]
"""Reads the present token; None when there is none; may raise while Ray's control store is away."""


def token_key(job_id: str, attempt: int) -> bytes:
    """The key of an attempt's token."""
    return f"job-token/{job_id}/{attempt}".encode()


class TokenFile:
    """A private file that follows the token: written now, looked after by a thread, removed at exit."""

    def __init__(self, read: Read, refresh_s: float = REFRESH_S) -> None:
        self._read, self._refresh_s = read, refresh_s
        self._directory = Path(tempfile.mkdtemp(prefix="aidos-job-"))
        self.path = self._directory / "token"
        self._written: bytes | None = None
        self._stop = threading.Event()

    def start(self) -> Path:
        """Write the file and keep it fresh."""
        self.refresh()
        threading.Thread(target=self._keep, name="aidos-job-token", daemon=True).start()
        atexit.register(self.close)
        return self.path

    def refresh(self) -> bool:
        """Write the token where it changed; False where none could be read. What was written stays valid till it expires."""
        try:
            token = self._read()
        except Exception:  # Ray has no common base for what its control store raises, and the next look may succeed
            return False
        if token is None:
            return False
        if token != self._written:
            draft = self._directory / "token.new"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "wb") as file:
                file.write(token)
            draft.replace(self.path)
            self._written = token
        return True

    def close(self) -> None:
        """Remove it."""
        self._stop.set()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _keep(self) -> None:
        while not self._stop.wait(self._refresh_s if self._written else 1.0):
            self.refresh()
