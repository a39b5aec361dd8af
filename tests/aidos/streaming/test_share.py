"""What readers of Ray Data share: the same batches, however many of them there are, from any batch on."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from aidos.streaming.order import Order
from aidos.streaming.ray_stream import Share, pieces


def read(orders: list[Order], share: Share, skip: int = 0) -> list[tuple[int, int]]:
    """Epoch and position of what a reader takes, in its order."""
    return [
        (piece["epoch"], position)
        for piece in pieces(orders, share, skip)
        for position in range(piece["start"], piece["end"])
        if share.has(position)
    ]


class TestShare:
    @given(
        size=st.integers(0, 60), part=st.integers(1, 4), world_size=st.integers(1, 4), epochs=st.integers(1, 3), skip=st.integers(0, 40),
        seed=st.integers(0, 3),
    )  # fmt: skip
    def test_a_batch_is_the_same_for_any_number_of_readers(
        self, size: int, part: int, world_size: int, epochs: int, skip: int, seed: int
    ) -> None:
        batch_size = part * world_size
        orders = [Order(size, [10] * (size // 10) + [size % 10], seed, epoch, 15) for epoch in range(epochs)]
        alone = read(orders, Share(batch_size), skip)
        ranks = [read(orders, Share(batch_size, rank, world_size), skip) for rank in range(world_size)]
        batches = [[*chain(*(rank[first : first + part] for rank in ranks))] for first in range(0, len(ranks[0]), part)]
        assert [*chain(*batches)] == alone
        assert len(alone) == max(0, epochs * (size // batch_size) - skip) * batch_size
        assert alone == read(orders, Share(batch_size))[skip * batch_size :]

    @given(size=st.integers(0, 30), world_size=st.integers(1, 5))
    def test_nothing_is_left_out_where_the_last_batch_may_be_short(self, size: int, world_size: int) -> None:
        orders = [Order(size, None, None, 0, 15)]
        ranks = [read(orders, Share(world_size, rank, world_size, drop_last=False)) for rank in range(world_size)]
        assert sorted(position for rank in ranks for _, position in rank) == list(range(size))
