"""Ends a job that fills its node's disk, while there is still room for the others and for the platform."""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

MUCH_BYTES = 2**26
_LOOK_S = 1.0


class DiskWatch:
    """Calls ``end`` once less than ``reserve_bytes`` are free and the job itself holds more than ``MUCH_BYTES``.

    What a job holds is what lies in its own ``folder``: what it wrote elsewhere, and what its Ray workers write on other nodes, is not seen.
    """

    def __init__(self, folder: Path, reserve_bytes: int, end: Callable[[], None]) -> None:
        self._folder, self._reserve_bytes, self._end = folder, reserve_bytes, end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="aidos-disk-watch", daemon=True)
        self._filled_bytes = 0

    def start(self) -> None:
        """Look once a second, in a thread."""
        self._thread.start()

    def close(self) -> int:
        """Look no longer; what the job held when it was ended, 0 where it was not."""
        self._over.set()
        self._thread.join()
        return self._filled_bytes

    def _keep(self) -> None:
        while not self._over.wait(_LOOK_S):
            if self._free_bytes() < self._reserve_bytes and (held_bytes := self._held_bytes()) > MUCH_BYTES:
                self._filled_bytes = held_bytes
                self._end()
                return

    def _free_bytes(self) -> float:
        """Of a folder that the job has removed nothing is known."""
        try:
            return shutil.disk_usage(self._folder).free
        except FileNotFoundError:
            return math.inf

    def _held_bytes(self) -> int:
        return sum(_size(Path(folder, name)) for folder, _, names in os.walk(self._folder) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:  # it has gone since it was listed
        return 0
