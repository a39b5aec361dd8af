"""A commit as Ray Data reads it: a task a window, in the epoch's order, without what has been read before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aidos import optional
from aidos.errors import Unavailable
from aidos.streaming.consumed import ORDINAL, without
from aidos.streaming.order import Interval, Order, Part
from aidos.streaming.source import Source

_FILES_A_TASK = 256
_MOST_BLOCKS = 1000
_TRIES = 4


class Share(NamedTuple):
    """What one of ``world_size`` readers takes: its part of each batch of ``batch_size``, which all of them read together.

    So what is in a batch does not depend on how many read it. ``drop_last``: an epoch's last incomplete batch is read by nobody.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = True

    def steps(self, size: int) -> int:
        """How many batches an epoch of ``size`` samples has."""
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def has(self, position: int) -> bool:
        return position % self.batch_size * self.world_size // self.batch_size == self.rank


def build_dataset(
    source: Source, orders: Sequence[Order], done: Sequence[Interval], share: Share | None, skip: int, task_options: Mapping[str, Any]
) -> Any:
    """A Ray dataset of the epochs' orders, one after the other, without what is ``done`` and without the first ``skip`` batches.

    It has the samples with ``_id`` and ``_ordinal``. Raises: LibraryMissing.
    """
    ray, data = optional.load("ray", "to_ray"), optional.load("ray.data", "to_ray")
    read_by_task = list(pieces(orders, share, skip))
    shared = ray.put((source, orders, list(done), share))

    def read(row: dict[str, int]) -> list[dict[str, Any]]:
        opened, same_orders, finished, part = ray.get(shared)
        return list(_read(opened, same_orders[row["epoch"]], row["start"], row["end"], finished, part))

    items = data.from_items(read_by_task, override_num_blocks=min(len(read_by_task) or 1, _MOST_BLOCKS))
    # What another try may mend; a file that cannot be read ends the reading with its name.
    return items.flat_map(read, max_retries=_TRIES, retry_exceptions=[Unavailable, ConnectionError, TimeoutError], **task_options)


def pieces(orders: Sequence[Order], share: Share | None, skip: int) -> Iterator[dict[str, int]]:
    """Epoch and positions that a task reads, in order, without the first ``skip`` batches."""
    for epoch, order in enumerate(orders):
        first, last = 0, order.size
        if share:
            steps = share.steps(order.size)
            first, last = min(skip, steps) * share.batch_size, min(last, steps * share.batch_size)
            skip -= min(skip, steps)
        for part in order.parts(first, last):
            yield from ({"epoch": epoch, "start": start, "end": end} for start, end in _pieces(part))


def _pieces(part: Part) -> Iterator[Interval]:
    """Positions of one window that a task reads: all of it, or some of the files where it is every file there is."""
    end = part.start + len(part.ordinals)
    step = _FILES_A_TASK if part.single else len(part.ordinals)
    return ((start, min(end, start + step)) for start in range(part.start, end, step))


def _read(source: Source, order: Order, start: int, end: int, done: Sequence[Interval], share: Share | None) -> Iterator[dict[str, Any]]:
    for part in order.parts(start, end):
        ordinals = part.ordinals.tolist()
        if share is not None:
            ordinals = [ordinal for position, ordinal in enumerate(ordinals, part.start) if share.has(position)]
        for portion in source.portions(without(ordinals, done)):
            chunk = source.fetch(portion)
            yield from ({**sample, ORDINAL: ordinal} for ordinal, sample in zip(chunk.ordinals, chunk.samples(), strict=True))
