"""A commit as Ray Data reads it: a task a window, in the epoch's order, without what has been read before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aidos import optional
from aidos.errors import Unavailable
from aidos.streaming.consumed import ORDINAL, without
from aidos.streaming.order import Interval, Order, Part
from aidos.streaming.source import Source

_FILES_A_TASK = 256
_MOST_BLOCKS = 1000
_TRIES = 4


def build_dataset(source: Source, order: Order, done: Sequence[Interval]) -> Any:
    """A Ray dataset of what is not ``done``: the samples with ``_id`` and ``_ordinal``. Raises: LibraryMissing."""
    ray, data = optional.load("ray", "to_ray"), optional.load("ray.data", "to_ray")
    pieces = [piece for part in order.parts(0, order.size) for piece in _pieces(part)]
    shared = ray.put((source, order, list(done)))

    def read(row: dict[str, int]) -> list[dict[str, Any]]:
        opened, same_order, finished = ray.get(shared)
        return list(_read(opened, same_order, row["start"], row["end"], finished))

    items = data.from_items(
        [{"start": start, "end": end} for start, end in pieces], override_num_blocks=min(len(pieces) or 1, _MOST_BLOCKS)
    )
    # What another try may mend; a file that cannot be read ends the reading with its name.
    return items.flat_map(read, max_retries=_TRIES, retry_exceptions=[Unavailable, ConnectionError, TimeoutError])


def _pieces(part: Part) -> Iterator[Interval]:
    """Positions of one window that a task reads: all of it, or some of the files where it is every file there is."""
    end = part.start + len(part.ordinals)
    step = _FILES_A_TASK if part.single else len(part.ordinals)
    return ((start, min(end, start + step)) for start in range(part.start, end, step))


def _read(source: Source, order: Order, start: int, end: int, done: Sequence[Interval]) -> Iterator[dict[str, Any]]:
    for part in order.parts(start, end):
        for portion in source.portions(without(part.ordinals.tolist(), done)):
            chunk = source.fetch(portion)
            yield from ({**sample, ORDINAL: ordinal} for ordinal, sample in zip(chunk.ordinals, chunk.samples(), strict=True))
