"""Points on their way to the platform: taken at once, sent in batches by a thread, kept until they are stored."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from aidos.errors import AidosError, Conflict
from aidos.schemas.modelhub import PointLog

BATCH_POINTS = 2000
"""About 200 kB of JSON: a tenth of what the gateway reads."""
MOST_POINTS = 500_000
PAUSE_S = 1.0
_RETRY_S = 2.0


class PointBuffer:
    """Sends with ``send``. Where that fails for the platform's reasons (5xx, unreachable), nothing is lost, only late.

    A point is stored once however often it is sent, so a batch whose answer was lost is simply sent again.
    """

    def __init__(self, send: Callable[[Sequence[PointLog]], None]) -> None:
        self._send = send
        self._points: deque[PointLog] = deque()
        self._changed = threading.Condition()
        self._hurried = self._closed = False
        self._refusal: Exception | None = None
        self._outage: AidosError | None = None
        self._failures = 0
        self._thread: threading.Thread | None = None

    def add(self, points: Sequence[PointLog]) -> None:
        """Take the points. Waits while the buffer is full. Raises: what an earlier batch was refused for; Conflict after ``close``."""
        with self._changed:
            self._raise_refusal()
            if self._closed:
                raise Conflict(
                    reason="The run has ended here, and nothing more is stored: log before end(), or go on with aidos.run(resume=…)."
                )
            self._changed.wait_for(lambda: len(self._points) < MOST_POINTS or self._refusal)
            self._points.extend(points)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aidos-metrics", daemon=True)
                self._thread.start()
            if len(self._points) >= BATCH_POINTS:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all are stored. Raises: what a batch was refused for; what the platform failed with when it stays away."""
        with self._changed:
            self._hurried = True
            self._outage, failures = None, self._failures
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._points or self._refusal or self._failures > failures)
            self._hurried = False
            self._raise_refusal()
            if self._points and self._outage:
                raise self._outage

    def close(self) -> None:
        """``flush``, and no more after it."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _raise_refusal(self) -> None:
        if self._refusal:
            refusal, self._refusal = self._refusal, None
            raise refusal

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._hurried or len(self._points) >= BATCH_POINTS, PAUSE_S)
                if self._closed:
                    return
                batch = [self._points[index] for index in range(min(len(self._points), BATCH_POINTS))]
            if batch:
                self._try(batch)

    def _wait_out(self, outage: AidosError) -> None:
        with self._changed:
            self._outage, self._failures = outage, self._failures + 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed, _RETRY_S)

    def _try(self, batch: list[PointLog]) -> None:
        try:
            self._send(batch)
        except Exception as error:
            if isinstance(error, AidosError) and error.status >= 500:
                self._wait_out(error)
                return
            with self._changed:
                self._refusal = error
        with self._changed:
            for _ in batch:
                self._points.popleft()
            self._changed.notify_all()
