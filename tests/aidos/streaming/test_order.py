"""The order of an epoch, and what is left of it after any history of kills and numbers of readers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidos.streaming.consumed import Consumed, without
from aidos.streaming.order import Order
from aidos.streaming.permutation import Permutation
from aidos.streaming.progress import Progress, StateIncomplete, StateOfAnother, StatesDiffer, merge
from aidos.streaming.recording import ranges_of

BLOCKS = st.lists(st.integers(0, 30), max_size=20)


def read(order: Order, start: int, end: int) -> list[int]:
    """One by one, and all at once: the same."""
    parts = list(order.parts(start, end))
    found = [ordinal for part in parts for ordinal in part.ordinals]
    assert [ordinal for part in parts for ordinal in part.ordinals.tolist()] == found
    return found


class TestPermutation:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000])
    def test_gives_each_number_once(self, size: int) -> None:
        assert sorted(Permutation(size, "any")[index] for index in range(size)) == list(range(size))

    def test_shuffles_and_is_the_same_everywhere(self) -> None:
        first = [Permutation(1000, 7, 0)[index] for index in range(1000)]
        assert first[:5] == [Permutation(1000, 7, 0)[index] for index in range(5)]
        assert first != [Permutation(1000, 7, 1)[index] for index in range(1000)]
        moved = sum(abs(place - index) for index, place in enumerate(first)) / 1000
        assert 250 < moved < 420, "a random permutation of n moves by n / 3 on average"


class TestOrder:
    @given(BLOCKS, st.one_of(st.none(), st.integers(0, 5)), st.integers(1, 50), st.data())
    def test_has_each_row_once_however_it_is_cut(self, blocks: list[int], seed: int | None, window: int, data: st.DataObject) -> None:
        size = sum(blocks)
        order = Order(size, blocks, seed, 0, window)
        whole = read(order, 0, size)
        assert sorted(whole) == list(range(size))
        if seed is None:
            assert whole == list(range(size))
        cut = data.draw(st.integers(0, size))
        assert read(order, 0, cut) + read(order, cut, size) == whole

    def test_a_part_needs_no_more_than_a_window_of_blocks(self) -> None:
        order = Order(1000, [10] * 100, 3, 0, window=50)
        for part in order.parts(0, 1000):
            assert len({ordinal // 10 for ordinal in part.ordinals}) == 5 and not part.single

    def test_files_are_shuffled_as_a_whole(self) -> None:
        (part,) = Order(500, None, 3, 0, window=10).parts(0, 500)
        assert sorted(part.ordinals) == list(range(500)) and part.single
        assert max(part.ordinals[:50]) > 400
        assert list(part.ordinals[100:110]) == [part.ordinals[index] for index in range(100, 110)]

    def test_epochs_differ(self) -> None:
        orders = [read(Order(100, [5] * 20, 3, epoch, 20), 0, 100) for epoch in range(3)]
        assert orders[0] != orders[1] != orders[2]


class TestProgress:
    @given(BLOCKS, st.integers(0, 3), st.lists(st.tuples(st.integers(1, 7), st.integers(0, 60)), max_size=6), st.data())
    def test_nothing_is_lost_and_nothing_comes_twice(
        self, blocks: list[int], seed: int, lives: list[tuple[int, int]], data: st.DataObject
    ) -> None:
        """Each life has its own number of readers, which are killed at different places; the last one reads to the end."""
        size = sum(blocks)
        order = Order(size, blocks, seed, 0, window=25)
        progress, seen = Progress.begin(0, size, 1), list[int]()
        for readers, most in [*lives, (data.draw(st.integers(1, 7)), size)]:
            progress = progress.split(readers)
            states = []
            for reader in range(readers):
                rest = [ordinal for start, end in progress.rest(reader) for ordinal in read(order, start, end)]
                read_now = len(rest) if most == size else data.draw(st.integers(0, min(most, len(rest))))
                seen += rest[:read_now]
                progress.advance(reader, read_now)
                states.append(Progress.from_state(progress.only([reader]).to_state()))
            progress = merge(states)
        assert sorted(seen) == list(range(size))

    @given(st.integers(0, 200), st.integers(1, 9))
    def test_readers_get_equal_stretches(self, size: int, readers: int) -> None:
        progress = Progress.begin(0, size, readers)
        sizes = [sum(end - start for start, end in progress.rest(reader)) for reader in range(readers)]
        assert sum(sizes) == size and max(sizes) - min(sizes) <= 1

    def test_the_state_does_not_grow_with_the_data(self) -> None:
        progress = Progress.begin(0, 10**9, 64)
        for reader in range(64):
            progress.advance(reader, 1000 * reader)
        assert len(str(progress.split(7).to_state())) < 3000

    def test_another_number_of_readers_needs_the_states_of_all(self) -> None:
        with pytest.raises(StateIncomplete, match="1 of 2 readers"):
            Progress.begin(0, 10, 2).only([0]).split(3)

    def test_a_rank_in_the_next_epoch_has_finished_this_one(self) -> None:
        behind, after = Progress.begin(0, 10, 2).only([0]), Progress.begin(1, 10, 2).only([1])
        behind.advance(0, 3)
        assert merge([after, behind]).split(1).left == ((3, 5),)
        after.advance(1, 2)
        with pytest.raises(StatesDiffer, match="begun epoch 1"):
            merge([after, behind])
        with pytest.raises(StatesDiffer, match="different ways"):
            merge([behind, Progress.begin(0, 10, 3).only([1])])

    @pytest.mark.parametrize("epoch", [0, 1])
    def test_two_states_of_one_reader_are_of_one_moment(self, epoch: int) -> None:
        """Whichever is given first: one of two moments would lose rows of the other ranks, or read some twice."""
        one, other = Progress.begin(0, 10, 2), Progress.begin(epoch, 10, 2).only([1])
        one.advance(0, 3)
        one.advance(1, 5 * epoch)
        assert merge([one, other]).counts == merge([other, one]).counts == {0: 3, 1: 5 * epoch}
        one.advance(1, -1 if epoch else 1)
        for states in ([one, other], [other, one]):
            with pytest.raises(StatesDiffer, match="reader 1 has read"):
                merge(states)


class TestConsumed:
    @given(st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)))
    def test_keeps_exactly_what_was_added(self, one: list[int], two: list[int]) -> None:
        first, second = Consumed(), Consumed()
        first.bind("s", None)
        second.bind("s", None)
        first.add(one)
        second.add(two)
        together = Consumed([first.state_dict(), second.state_dict()])
        assert without(range(61), together.ranges) == sorted(set(range(61)) - {*one, *two})
        assert together.ranges == ranges_of(sorted({*one, *two}))

    def test_belongs_to_one_source(self) -> None:
        consumed = Consumed()
        consumed.bind("s", None)
        with pytest.raises(StateOfAnother):
            Consumed(consumed.state_dict()).bind("another", None)
