"""What of an epoch is still to be read, by how many readers, and how to go on with another number of them.

The positions that are left are cut into as many equal stretches as there are readers, so what a reader has read is one number.
Going on with other readers joins what is left of each stretch and cuts anew: nothing is lost, nothing comes twice, and the size of
the state follows the number of readers, not of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aidos.errors import InvalidRequest
from aidos.streaming.order import Interval

VERSION = 1


class StateOfAnother(InvalidRequest):
    title = "The state is of another stream"
    detail = "The state was taken from {theirs}, and this stream reads {ours}. Open the same commit, files, seed and window as then, or begin anew."


class StateIncomplete(InvalidRequest):
    title = "A reader's state is missing"
    detail = (
        "The states tell of {known} of {readers} readers. A rank goes on from its own state; another number of ranks or workers "
        "needs the states of all ranks: stream.load_state_dict([state, state, …])."
    )


class StatesDiffer(InvalidRequest):
    title = "The states are of different moments"
    detail = "The states do not belong together: {reason}. Load states that all ranks took after the same step."


@dataclass(frozen=True)
class Progress:
    """``counts``: how far the readers that are known here have come in their stretches of ``left``."""

    epoch: int
    left: tuple[Interval, ...]
    readers: int
    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, epoch: int, size: int, readers: int) -> Progress:
        """Nothing is read yet."""
        return cls(epoch, ((0, size),) if size else (), readers, dict.fromkeys(range(readers), 0))

    def rest(self, reader: int) -> list[Interval]:
        """What a reader has still to read, in order."""
        total = _length(self.left)
        start, end = reader * total // self.readers, (reader + 1) * total // self.readers
        return _cut(self.left, min(end, start + self.counts.get(reader, 0)), end)

    def only(self, readers: Iterable[int]) -> Progress:
        """What is known of these readers alone: others go on by themselves. Raises: StateIncomplete."""
        wanted = list(readers)
        if not self.counts.keys() >= set(wanted):
            raise StateIncomplete(known=len(self.counts), readers=self.readers)
        return replace(self, counts={reader: self.counts[reader] for reader in wanted})

    def advance(self, reader: int, count: int) -> None:
        """A reader has read ``count`` more."""
        self.counts[reader] += count

    def split(self, readers: int) -> Progress:
        """For another number of readers. Raises: StateIncomplete when it is not known how far all have come."""
        if readers == self.readers:
            return self
        if len(self.counts) < self.readers:
            raise StateIncomplete(known=len(self.counts), readers=self.readers)
        left = _join(interval for reader in range(self.readers) for interval in self.rest(reader))
        return Progress(self.epoch, left, readers, dict.fromkeys(range(readers), 0))

    def to_state(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "epoch": self.epoch,
            "left": [list(interval) for interval in self.left],
            "readers": self.readers,
            "counts": {str(reader): count for reader, count in self.counts.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """What ``to_state`` gave."""
        counts = {int(reader): int(count) for reader, count in state["counts"].items()}
        return cls(int(state["epoch"]), tuple((int(start), int(end)) for start, end in state["left"]), int(state["readers"]), counts)


def merge(states: Sequence[Progress]) -> Progress:
    """What the ranks of one run tell together: of the earliest epoch that one of them is in.

    A rank that is in the next epoch already has read its own stretch of this one to the end; a reader that two states tell of
    stands in both at the same place. Raises: StatesDiffer.
    """
    first = min(states, key=lambda each: each.epoch)
    unread, counts = replace(first, counts={}), dict[int, int]()
    for state in states:
        same = state.epoch == first.epoch
        if state.readers != first.readers or (same and state.left != first.left):
            raise StatesDiffer(reason="they cut the epoch in different ways")
        if not same and (state.epoch > first.epoch + 1 or any(state.counts.values())):
            raise StatesDiffer(reason=f"one has begun epoch {state.epoch} while another is in epoch {first.epoch}")
        for reader, told in state.counts.items():
            count = told if same else _length(unread.rest(reader))
            if counts.setdefault(reader, count) != count:
                raise StatesDiffer(reason=f"reader {reader} has read {counts[reader]} rows by one and {count} by another")
    return replace(first, counts=counts)


def _length(intervals: Iterable[Interval]) -> int:
    return sum(end - start for start, end in intervals)


def _cut(intervals: Iterable[Interval], start: int, end: int) -> list[Interval]:
    """From the ``start``-th to before the ``end``-th of all positions in the intervals."""
    found, at = [], 0
    for first, last in intervals:
        low, high = max(first, first + start - at), min(last, first + end - at)
        if low < high:
            found.append((low, high))
        at += last - first
    return found


def _join(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    joined: list[Interval] = []
    for start, end in intervals:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
