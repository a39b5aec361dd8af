"""How a job's token, and the notice that it must give way, reach its processes: through Ray's internal key-value store into files of mode 0400.

Neither the runtime environment nor any process's environment holds it; whoever can read the store has the cluster's own token
anyway. A worker's setup hook may not call an actor in Ray 2.60 (the worker has no job yet, and submitting a task from it aborts the
process: ``Check failed: value != nullptr`` in shared_lru.h), so the token lies in the store and not behind the actor.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

NAMESPACE = b"aidos.trainos"
REFRESH_S, _UNTIL_FIRST_S = 60.0, 1.0

Read = Callable[[], bytes | None]
"""Reads the present note; None when there is none; may raise while Ray's control store is away."""


def token_key(job_id: str, attempt: int) -> bytes:
    """The key of an attempt's token."""
    return f"job-token/{job_id}/{attempt}".encode()


def code_key(job_id: str, attempt: int) -> bytes:
    """The key of the presigned URL of an untrusted attempt's code package, which Ray may not unpack: it would run parts of it."""
    return f"job-code/{job_id}/{attempt}".encode()


def notice_key(job_id: str, attempt: int) -> bytes:
    """The key under which an attempt is asked to save and give way."""
    return f"job-notice/{job_id}/{attempt}".encode()


class NoteFile:
    """A private file that follows a note: written when there is one, looked after by a thread."""

    def __init__(self, path: Path, read: Read, refresh_s: float = REFRESH_S) -> None:
        self.path, self._read, self._refresh_s = path, read, refresh_s
        self._written: bytes | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Write the file and keep it fresh."""
        self.refresh()
        threading.Thread(target=self._keep, name=f"aidos-job-{self.path.name}", daemon=True).start()

    def refresh(self) -> bool:
        """Write the note where it changed; False where none could be read. What was written stays valid till it expires."""
        try:
            note = self._read()
        except Exception:  # Ray has no common base for what its control store raises, and the next look may succeed
            return False
        if note is None:
            return False
        if note != self._written:
            draft = self.path.with_suffix(".new")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "wb") as file:
                file.write(note)
            draft.replace(self.path)
            self._written = note
        return True

    def stop(self) -> None:
        """Look after it no longer."""
        self._stop.set()

    def _keep(self) -> None:
        while not self._stop.wait(self._refresh_s if self._written else _UNTIL_FIRST_S):
            self.refresh()


class JobFiles:
    """What the platform tells a process of a job, in a directory of its own: ``token``, ``preempted`` once it must give way, and of an
    untrusted job with ``code`` where that is to be had."""

    def __init__(self, read: Callable[[bytes], bytes | None], job_id: str, attempt: int, code: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="aidos-job-"))
        keys = {"token": token_key(job_id, attempt), "preempted": notice_key(job_id, attempt)}
        if code:
            keys["code"] = code_key(job_id, attempt)
        self._files = [NoteFile(self._directory / name, functools.partial(read, key)) for name, key in keys.items()]

    def start(self) -> Path:
        """Follow both; where the token is."""
        for file in self._files:
            file.start()
        atexit.register(self.close)
        return self._files[0].path

    def close(self) -> None:
        """Remove them."""
        for file in self._files:
            file.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
