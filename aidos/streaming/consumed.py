"""What has been read of a Ray dataset so far: a set of ordinals, kept as ranges. Ranks keep their own; together they tell what is left."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aidos.errors import InvalidRequest
from aidos.streaming.order import Interval
from aidos.streaming.progress import VERSION, StateOfAnother
from aidos.streaming.recording import Recorder, ranges_of

ORDINAL = "_ordinal"


class Consumed:
    """Give it to ``to_ray``, tell it each batch after use, and save ``state_dict`` with the checkpoint.

    Begun with the states of all ranks it goes on where they were together, whatever their number was. Pickles, so that it travels to
    the workers of Ray Train; what each adds there is its own.
    """

    def __init__(self, states: Mapping[str, Any] | Iterable[Mapping[str, Any]] = ()) -> None:
        given = [states] if isinstance(states, Mapping) else list(states)
        if any(state.get("version") != VERSION for state in given) or len({state["source"] for state in given}) > 1:
            raise InvalidRequest(
                reason="These are not states of one Consumed: give what state_dict() returned, of ranks that read the same."
            )
        self.source: str | None = given[0]["source"] if given else None
        self._ranges = ranges_of([], [(int(first), int(last)) for state in given for first, last in state["ordinals"]])
        self._new: list[int] = []
        self.recorder: Recorder | None = None

    def bind(self, source: str, recorder: Recorder | None) -> None:
        """Belong to a source from now on. Raises: StateOfAnother."""
        if self.source not in (None, source):
            raise StateOfAnother(theirs={"source": self.source}, ours={"source": source})
        self.source, self.recorder = source, recorder

    def add(self, batch: Any) -> None:
        """A batch (or row) of the dataset has been used; any of Ray's batch formats that has columns by name, or the ordinals."""
        column = batch[ORDINAL] if hasattr(batch, "keys") or hasattr(batch, "column_names") else batch
        values = column.tolist() if hasattr(column, "tolist") else column
        ordinals = values if isinstance(values, list) else [int(each) for each in (values if isinstance(values, Iterable) else [values])]
        self._new += ordinals
        if self.recorder:
            self.recorder.add(ordinals)

    @property
    def ranges(self) -> list[Interval]:
        """All that has been read, from the first to before the second of each."""
        if self._new:
            self._ranges, self._new = ranges_of(self._new, self._ranges), []
        return self._ranges

    def state_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        if self.recorder:
            self.recorder.hurry()
        return {"version": VERSION, "source": self.source, "ordinals": [list(each) for each in self.ranges]}


def without(ordinals: Iterable[int], ranges: Sequence[Interval]) -> list[int]:
    """The ordinals that are in none of the ranges, which are sorted and apart."""
    firsts = [first for first, _ in ranges]
    found = []
    for ordinal in ordinals:
        at = bisect_right(firsts, ordinal) - 1
        if at < 0 or ordinal >= ranges[at][1]:
            found.append(ordinal)
    return found
