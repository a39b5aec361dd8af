"""The one order of an epoch: from a position to the ordinal of what is read there, for any number of readers alike.

An ordinal counts what there is as it lies (files by path, rows as they stand). Blocks (row groups, stretches of lines) are shuffled,
then rows within windows of neighbouring blocks, so that a reader holds one window and no more. What can be fetched one by one
(files) is a single window: a full shuffle.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, overload

from aidos import optional
from aidos.streaming.permutation import Permutation

Interval = tuple[int, int]
"""From a first position to before a second."""


class Part(NamedTuple):
    """Neighbouring positions of one window, and the ordinals that stand there. ``single``: each can be fetched by itself."""

    start: int
    ordinals: Ordinals
    single: bool


class Order:
    """Positions ``0`` to ``size`` of one epoch.

    ``blocks`` are the rows of each block, None where every ordinal can be fetched by itself; ``seed`` is None for things as they lie;
    a window ends with the block that fills it to ``window`` rows.
    """

    def __init__(self, size: int, blocks: Sequence[int] | None, seed: int | None, epoch: int, window: int) -> None:
        self.size, self._seed, self._epoch = size, seed, epoch
        self._block_starts = [0, *accumulate(blocks)] if blocks is not None else None
        self._windows = _windows(blocks, seed, epoch, window) if blocks is not None else []
        sizes = (sum(blocks[block] for block in members) for members in self._windows) if blocks is not None else (size,)
        self._starts = [0, *accumulate(sizes)]

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """What is read from ``start`` to ``end``, window by window."""
        at = start
        while at < end:
            window = bisect_right(self._starts, at) - 1
            first, last = self._starts[window], min(end, self._starts[window + 1])
            yield Part(at, Ordinals(self._members(window), self._shuffle(window), at - first, last - first), self._block_starts is None)
            at = last

    def _shuffle(self, window: int) -> Permutation | range:
        size = self._starts[window + 1] - self._starts[window]
        return Permutation(size, self._seed, self._epoch, "window", window) if self._seed is not None else range(size)

    def _members(self, window: int) -> list[Interval]:
        if self._block_starts is None:
            return [(0, self.size)]
        return [(self._block_starts[block], self._block_starts[block + 1]) for block in self._windows[window]]


class Ordinals(Sequence[int]):
    """Ordinals at places ``start`` to ``end`` of a window; each is computed when it is asked for."""

    def __init__(self, members: list[Interval], shuffle: Permutation | range, start: int, end: int) -> None:
        self._members, self._shuffle, self._start, self._end = members, shuffle, start, end
        self._ends = [*accumulate(last - first for first, last in members)]

    def __len__(self) -> int:
        return self._end - self._start

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Ordinals: ...
    def __getitem__(self, index: int | slice) -> int | Ordinals:
        """The ordinal at a place, or a slice that shares the window. Raises: IndexError, ValueError for a slice with a step."""
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"ordinals are cut without a step, not by {step}")
            return Ordinals(self._members, self._shuffle, self._start + first, self._start + max(first, last))
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = self._shuffle[self._start + index]
        member = bisect_right(self._ends, place)
        before = self._ends[member - 1] if member else 0
        return self._members[member][0] + place - before

    def tolist(self) -> list[int]:
        """All of them, computed together where numpy is there."""
        numpy = optional.find("numpy")
        if numpy is None:
            return list(self)
        shuffle, start, end = self._shuffle, self._start, self._end
        places = shuffle.to_array(numpy, start, end) if isinstance(shuffle, Permutation) else numpy.arange(start, end)
        starts = numpy.array([0, *self._ends[:-1]])
        member = numpy.searchsorted(numpy.array(self._ends), places, side="right")
        return (numpy.array([first for first, _ in self._members])[member] + places - starts[member]).tolist()


def _windows(blocks: Sequence[int], seed: int | None, epoch: int, window: int) -> list[list[int]]:
    shuffle = Permutation(len(blocks), seed, epoch, "blocks") if seed is not None else range(len(blocks))
    windows: list[list[int]] = []
    rows = window
    for place in range(len(blocks)):
        block = shuffle[place]
        if not blocks[block]:
            continue
        if rows >= window:
            windows.append([])
            rows = 0
        windows[-1].append(block)
        rows += blocks[block]
    return windows
