"""How far a file is read ahead: not at all where a reader jumps, ever further where it goes straight on.

As kernels do it: a Parquet reader that wants three columns gets those and little else, and a parser that reads from the start gets
large ranges, without either saying which it is.
"""

from __future__ import annotations

from typing import ClassVar

from fsspec.caching import BaseCache, register_cache

_LEAST_BYTES = 64 * 2**10
_FIRST_AHEAD_BYTES = 2**20
_FACTOR = 4


class GrowingReadAhead(BaseCache):
    """Keeps the last range. ``blocksize`` is the most that is read beyond what was asked for."""

    name: ClassVar[str] = "growing"

    def __init__(self, blocksize: int, fetcher, size: int) -> None:  # type: ignore[no-untyped-def]  # fsspec's own signature
        super().__init__(blocksize, fetcher, size)
        self._kept, self._start, self._ahead, self._next = b"", 0, 0, 0

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        first, last = start or 0, self.size if stop is None else min(stop, self.size)
        if first >= last:
            return b""
        kept_end = self._start + len(self._kept)
        straight_on, self._next = first == self._next, last
        if self._start <= first and last <= kept_end:
            return self._kept[first - self._start : last - self._start]
        head = self._kept[first - self._start :] if self._start <= first < kept_end else b""
        self._ahead = min(self.blocksize, max(_FIRST_AHEAD_BYTES, self._ahead * _FACTOR)) if straight_on else 0
        begin = first + len(head)
        end = min(self.size, max(last + self._ahead, begin + _LEAST_BYTES))
        self._kept, self._start = head + self.fetcher(begin, end), first
        return self._kept[: last - first]


register_cache(GrowingReadAhead, clobber=True)
