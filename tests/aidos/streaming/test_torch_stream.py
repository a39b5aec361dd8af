"""Streams of torch: killed at random, taken up by other numbers of ranks and worker processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch.utils.data
from hypothesis import given
from hypothesis import strategies as st

from aidos.errors import InvalidRequest
from aidos.streaming.chunks import Sample
from aidos.streaming.progress import StateIncomplete, StateOfAnother
from aidos.streaming.torch_stream import TorchStream
from tests.aidos.streaming.numbers import Numbers


def value(sample: Sample) -> int:
    return sample["value"]


def stream(blocks: list[int], **options: Any) -> TorchStream:
    given = {"seed": 3, "window": 20, "batch_size": None, "workers": 0, "rank": 0, "world_size": 1, "transform": value,
             "collate": None, "recorder": None, **options}  # fmt: skip
    return TorchStream(Numbers(blocks), **given)


def ranks(blocks: list[int], count: int, states: Sequence[Any] | None = None, **options: Any) -> list[TorchStream]:
    made = [stream(blocks, rank=rank, world_size=count, **options) for rank in range(count)]
    for each in made:
        if states is not None:
            each.load_state_dict(json.loads(json.dumps(states)))
    return made


class TestResume:
    @given(
        st.lists(st.integers(1, 20), min_size=1, max_size=12),
        st.lists(st.integers(1, 5), max_size=5),
        st.integers(1, 5),
        st.one_of(st.none(), st.integers(1, 7)),
        st.data(),
    )
    def test_each_sample_comes_once_over_any_kills_and_world_sizes(
        self, blocks: list[int], lives: list[int], last: int, batch_size: int | None, data: st.DataObject
    ) -> None:
        seen: list[int] = []
        states: list[Any] | None = None
        for world_size in lives:
            running = ranks(blocks, world_size, states, batch_size=batch_size)
            for each in running:
                batches = iter(each)
                for _ in range(data.draw(st.integers(0, 4))):
                    if each.epoch == 0 and (batch := next(batches, None)) is not None:
                        seen += batch.tolist() if batch_size else [batch]
            states = [each.state_dict() for each in running]
        for each in ranks(blocks, last, states, batch_size=batch_size):
            if each.epoch == 0:
                seen += [number for batch in each for number in (batch.tolist() if batch_size else [batch])]
        assert sorted(seen) == list(range(sum(blocks)))

    def test_goes_on_in_the_same_order(self) -> None:
        whole = list(stream([7, 9, 30, 4]))
        for killed_at in range(len(whole) + 1):
            first, again = stream([7, 9, 30, 4]), stream([7, 9, 30, 4])
            given_out = iter(first)
            before = [next(given_out) for _ in range(killed_at)]
            again.load_state_dict(json.loads(json.dumps(first.state_dict())))
            assert before + list(again) == whole

    def test_worker_processes_read_ahead_and_the_state_does_not(self) -> None:
        blocks, options = [50] * 8, {"batch_size": 10, "workers": 3}
        whole = [batch.tolist() for batch in stream(blocks, **options)]
        assert sorted(number for batch in whole for number in batch) == list(range(400))
        first = stream(blocks, **options)
        batches = iter(first)
        before = [next(batches).tolist() for _ in range(7)]
        state = json.loads(json.dumps(first.state_dict()))
        same = stream(blocks, **options)
        same.load_state_dict(state)
        assert before + [batch.tolist() for batch in same] == whole, "as many workers go on in the same order"
        for workers in (0, 2):
            other = stream(blocks, batch_size=10, workers=workers)
            other.load_state_dict(state)
            after = [number for batch in other for number in batch.tolist()]
            assert sorted([number for batch in before for number in batch] + after) == list(range(400))

    def test_epochs_follow_one_another(self) -> None:
        endless = stream([10, 10])
        epochs = [list(endless) for _ in range(3)]
        assert endless.epoch == 3 and all(sorted(epoch) == list(range(20)) for epoch in epochs)
        assert epochs[0] != epochs[1]
        again = stream([10, 10])
        again.set_epoch(2)
        assert list(again) == epochs[2]


class TestAnyLoader:
    def test_a_loader_of_ones_own_shares_it_out(self) -> None:
        for workers in (0, 2):
            loader = torch.utils.data.DataLoader(stream([30] * 4), batch_size=8, num_workers=workers)
            assert sorted(number for batch in loader for number in batch.tolist()) == list(range(120))


class TestRefusals:
    def test_a_state_of_another_stream(self) -> None:
        for other in (stream([5, 5]), stream([5, 6], seed=4), stream([5, 6], window=21)):
            with pytest.raises(StateOfAnother):
                stream([5, 6]).load_state_dict(other.state_dict())

    def test_one_rank_of_two_is_not_enough_for_three(self) -> None:
        first = ranks([10, 10], 2)[0]
        next(iter(first))
        with pytest.raises(StateIncomplete, match="needs the states of all ranks"):
            ranks([10, 10], 3, [first.state_dict()])
        with pytest.raises(StateIncomplete, match="own state"):
            stream([10, 10], rank=1, world_size=2).load_state_dict(first.state_dict())

    def test_a_rank_outside_the_world(self) -> None:
        with pytest.raises(InvalidRequest, match="rank=2"):
            stream([5], rank=2, world_size=2)
