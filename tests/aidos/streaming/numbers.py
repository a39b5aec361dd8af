"""A source without files: a sample is its own ordinal."""

from __future__ import annotations

from collections.abc import Iterator

from aidos.streaming.chunks import Chunk
from aidos.streaming.order import Order, Ordinals
from aidos.streaming.source import Source


class Numbers(Source):
    """Blocks of so many numbers."""

    def __init__(self, blocks: list[int]) -> None:
        self.blocks, self.files = blocks, []

    size = property(lambda self: sum(self.blocks))
    rows = property(lambda self: [])
    fingerprint = property(lambda self: ",".join(map(str, self.blocks)))

    def order(self, seed: int | None, epoch: int, window: int) -> Order:
        return Order(self.size, self.blocks, seed, epoch, window)

    def portions(self, ordinals: Ordinals | list[int]) -> Iterator[list[int]]:
        yield list(ordinals)

    def fetch(self, ordinals: list[int]) -> Chunk:
        return Chunk(ordinals, [{"_id": str(ordinal), "value": ordinal} for ordinal in ordinals])
