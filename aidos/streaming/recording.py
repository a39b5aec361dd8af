"""Which rows a run has read: noted at once, sent by a thread, as ranges of ordinals. Training never waits for it.

What could not be sent is kept and sent later; the platform joins ranges, so sending twice changes nothing. Only a process that is
killed loses what it noted in its last seconds.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from aidos.client import Client
from aidos.errors import AidosError
from aidos.schemas.dataforge.reads import FILES_AT_ONCE, RANGES_AT_ONCE, ReadFileSet
from aidos.streaming.order import Interval
from aidos.streaming.source import Files, Source

_PAUSE_S = 5.0
_LAST_WAIT_S = 20.0
_log = logging.getLogger(__name__)


class Recorder:
    """Records what one run reads of one source. Safe in a forked or spawned process: each sends what it noted itself."""

    def __init__(self, connect: Callable[[], Client], run_id: str | UUID, source: Source) -> None:
        self._connect, self._run_id, self._source = connect, str(run_id), source
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._noted = array("q")
        self._unsent: list[Interval] = []
        self._changed = threading.Condition()
        self._hurried = self._closed = self._described = False
        self._thread: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_connect": self._connect, "_run_id": self._run_id, "_source": self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def add(self, ordinals: Iterable[int]) -> None:
        """Note what was given out. Returns at once."""
        if self._process != os.getpid():
            self._begin()
        with self._changed:
            self._noted.extend(ordinals)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aidos-reads", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def hurry(self) -> None:
        """Send soon what is noted: a checkpoint is being written. Does not wait."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def flush(self, timeout_s: float = _LAST_WAIT_S) -> bool:
        """Wait until all is sent; False where the platform did not take it in time."""
        self.hurry()
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None or not (self._noted or self._unsent), timeout_s)

    def close(self) -> None:
        """``flush``, and the end of the thread."""
        if self._process == os.getpid() and self._thread is not None:
            self.flush()
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _run(self) -> None:
        client = self._connect()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._hurried or self._closed, _PAUSE_S)
                if self._closed:
                    return
                self._hurried = False
                noted, self._noted = self._noted, array("q")
                self._unsent = ranges_of(noted, self._unsent)
            if self._unsent and not self._try(client):
                return
            with self._changed:
                self._changed.notify_all()

    def _try(self, client: Client) -> bool:
        """Whether it makes sense to go on."""
        try:
            self._send(client)
        except AidosError as error:
            if error.status >= 500:
                return True
            _log.warning("what run %s reads is not recorded: %s", self._run_id, error)
            with self._changed:
                self._unsent, self._closed = [], True
                self._changed.notify_all()
            return False
        return True

    def _send(self, client: Client) -> None:
        source = self._source
        if not self._described:
            describe(client, source)
            self._described = True
        while self._unsent:
            batch = self._unsent[:RANGES_AT_ONCE]
            client.reads.record(
                run=self._run_id,
                source=source.fingerprint,
                dataset=source.dataset,
                commit=source.commit_id,
                ranges=[list(each) for each in batch],
            )
            self._unsent = self._unsent[len(batch) :]


def describe(client: Client, source: Source) -> None:
    """Tell the platform which ordinals are whose, once for all runs that read the same."""
    unit = "file" if isinstance(source, Files) else "row"
    rows, first = iter(zip(source.files, source.rows, strict=True)), 0
    while batch := list(islice(rows, FILES_AT_ONCE)):
        files = [ReadFileSet(path=file.path, sha256=file.sha256, rows=count) for file, count in batch]
        if client.reads.describe(source.fingerprint, unit=unit, size=source.size, first=first, files=files).complete:
            return
        first += sum(file.rows for file in files)


def ranges_of(ordinals: Sequence[int], also: Iterable[Interval] = ()) -> list[Interval]:
    """The fewest ranges that hold exactly these ordinals and those of ``also``."""
    return list(_joined(sorted([*((ordinal, ordinal + 1) for ordinal in ordinals), *also])))


def _joined(intervals: Iterable[Interval]) -> Iterator[Interval]:
    start = end = -1
    for first, last in intervals:
        if first > end:
            if end > start:
                yield start, end
            start, end = first, last
        end = max(end, last)
    if end > start:
        yield start, end
