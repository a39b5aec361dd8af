"""Work in a few threads, ended by the first error; and patience with an object store that is coming back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from aidos.errors import AidosError, Unavailable
from aidos.http.conversation import StorageRefused

T = TypeVar("T")
R = TypeVar("R")
_TRIES, _WITHIN_S = 6, 60.0


def each(work: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """``work`` of all items, in their order. The first error ends what has not begun and is raised."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                if error := future.exception():
                    raise error
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Slices of at most ``size``."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))


def patiently(call: Callable[[], R]) -> R:
    """Repeat a transfer that S3 failed with a 5xx of its own; the client itself repeats broken connections, 429 and 503.

    Not after a minute: an object store that is full takes as long as that to say so.
    """
    began = time.monotonic()
    for attempt in range(1, _TRIES + 1):
        try:
            return call()
        except AidosError as error:
            refused = isinstance(error, StorageRefused) and error.fields["status"] < 500
            if error.status < 500 or refused or isinstance(error, Unavailable):
                raise
            if attempt == _TRIES or time.monotonic() - began > _WITHIN_S:
                raise
            time.sleep(random.uniform(0.5, 1.0) * 0.3 * 2**attempt)
    raise AssertionError("unreachable")
