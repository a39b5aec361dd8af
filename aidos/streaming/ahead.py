"""One thing in advance: the next is fetched by a thread while the present one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], fetch: Callable[[T], R]) -> Iterator[R]:
    """``fetch`` of each item, in order. What it raises is raised where its result would have been given."""
    with ThreadPoolExecutor(1, thread_name_prefix="aidos-read-ahead") as pool:
        pending: Future[R] | None = None
        try:
            for item in items:
                coming = pool.submit(fetch, item)
                if pending is not None:
                    yield pending.result()
                pending = coming
            if pending is not None:
                yield pending.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
