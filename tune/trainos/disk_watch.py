"""Ends a job that fills its node's disk, while there is still room for the others and for the platform."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

MUCH_BYTES = 2**26
_LOOK_S = 1.0


class DiskWatch:
    """Calls ``end`` once less than ``reserve_bytes`` are free and the job itself holds more than ``MUCH_BYTES``.

    What a job holds is what is newer than itself in its ``folders``: what it wrote elsewhere, and what its Ray workers write on other
    nodes, is not seen.
    """

    def __init__(self, folders: Collection[Path], reserve_bytes: int, end: Callable[[], None]) -> None:
        self._folders, self._reserve_bytes, self._end = folders, reserve_bytes, end
        self._began_s = time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="aidos-disk-watch", daemon=True)
        self._filled_bytes = 0

    def start(self) -> None:
        """Look once a second, in a thread."""
        self._thread.start()

    def close(self) -> int:
        """Look no longer; what the job held when it was ended, 0 where it was not. What it wrote is then removed."""
        self._over.set()
        self._thread.join()
        if self._filled_bytes:
            for path, _ in self._written():
                path.unlink(missing_ok=True)
        return self._filled_bytes

    def _keep(self) -> None:
        while not self._over.wait(_LOOK_S):
            if self._free_bytes() < self._reserve_bytes and (held_bytes := self._held_bytes()) > MUCH_BYTES:
                self._filled_bytes = held_bytes
                self._end()
                return

    def _free_bytes(self) -> float:
        """On the fuller of the disks; a folder that the job has removed says nothing."""
        free_bytes = [math.inf]
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError):
                free_bytes.append(shutil.disk_usage(folder).free)
        return min(free_bytes)

    def _held_bytes(self) -> int:
        return sum(size for _, size in self._written())

    def _written(self) -> Iterator[tuple[Path, int]]:
        for folder in self._folders:
            for current, _, names in os.walk(folder):
                yield from self._newer(Path(current), names)

    def _newer(self, folder: Path, names: Iterable[str]) -> Iterator[tuple[Path, int]]:
        for name in names:
            try:
                found = (folder / name).lstat()
            except OSError:  # it has gone since it was listed
                continue
            if found.st_ctime >= self._began_s:
                yield folder / name, found.st_blocks * 512
