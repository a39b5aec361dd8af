"""A source without files: a sample is its own ordinal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from aidos.streaming.order import Order
from aidos.streaming.source import Read, Sample, Source


class Numbers(Source):
    """Blocks of so many numbers."""

    def __init__(self, blocks: list[int]) -> None:
        self.blocks, self.files = blocks, []

    size = property(lambda self: sum(self.blocks))
    rows = property(lambda self: [])
    fingerprint = property(lambda self: ",".join(map(str, self.blocks)))

    def order(self, seed: int | None, epoch: int, window: int) -> Order:
        return Order(self.size, self.blocks, seed, epoch, window)

    def chunks(self, ordinals: Sequence[int]) -> Iterator[Sequence[int]]:
        yield ordinals

    def fetch(self, ordinals: Sequence[int]) -> Read:
        return lambda: (Sample(_id=str(ordinal), value=ordinal) for ordinal in ordinals)

    def starts(self) -> list[int]:
        return [0, *accumulate(self.blocks)]
