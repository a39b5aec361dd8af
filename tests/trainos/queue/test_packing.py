"""Where a gang lies: all of it, on the fewest nodes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainos.queue.snapshots import gang, node
from tune.trainos.models import Resources
from tune.trainos.queue.models import NOTHING, Gang, Node
from tune.trainos.queue.packing import Plan, Shape, Space


def pack(nodes: list[Node], asked: Gang) -> Plan | None:
    return Space.of(nodes).pack(Shape(asked))


class TestPack:
    def test_one_node_rather_than_two(self) -> None:
        assert pack([node("a", gpu=2), node("b", gpu=4)], gang(gpu=1, workers=4)) == ((1, 5),)

    def test_the_fullest_node_that_holds_it(self) -> None:
        assert pack([node("a", gpu=8), node("b", gpu=3), node("c", gpu=2)], gang(gpu=2)) == ((2, 1),)

    def test_a_job_without_gpus_goes_where_none_are(self) -> None:
        assert pack([node("a", cpu=4, gpu=2), node("b", cpu=16)], gang(cpu=2)) == ((1, 1),)

    def test_the_driver_lies_with_workers(self) -> None:
        asked = Gang(Resources(cpu=1), Resources(cpu=1, gpu=1), 6)
        plan = pack([node("a", cpu=4, gpu=4), node("b", cpu=8, gpu=4)], asked)
        assert plan == ((1, 5), (0, 2)), "the driver and four workers on b, two workers on a"

    def test_the_rest_goes_to_the_node_with_least_room(self) -> None:
        assert pack([node("a", gpu=4), node("b", gpu=3), node("c", gpu=2)], gang(gpu=1, workers=6)) == ((0, 5), (2, 2))

    @pytest.mark.parametrize("asked", [gang(gpu=5), gang(gpu=3, workers=3), gang(gpu=1, workers=9)])
    def test_nothing_where_not_all_of_it_fits(self, asked: Gang) -> None:
        assert pack([node("a", gpu=4), node("b", gpu=4)], asked) is None

    def test_what_is_over_used_of_one_resource_still_gives_the_others(self) -> None:
        space = Space.of([node("a", cpu=4, memory_gib=4)])
        space.nodes[0, 2] = -1.0
        assert space.pack(Shape(gang(cpu=2))) == ((0, 1),)

    def test_thirds_make_a_whole(self) -> None:
        assert pack([node("a", gpu=1)], gang(gpu=1 / 3, workers=3)) == ((0, 4),)


SIZES = st.integers(0, 5)
SMALL_GANGS = st.builds(
    lambda driver, worker, workers: Gang(Resources(driver), Resources(worker), workers),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 5),
)


class TestAgainstAllPlacements:
    @given(st.lists(SIZES, min_size=1, max_size=4), SMALL_GANGS)
    def test_fits_exactly_when_some_placement_does_and_on_as_few_nodes(self, sizes: list[int], asked: Gang) -> None:
        plan = pack([node(f"n{i}", cpu=size) for i, size in enumerate(sizes)], asked)
        fewest = _fewest_nodes(sizes, int(asked.driver.cpu), int(asked.worker.cpu), asked.workers)
        assert (plan is None) == (fewest is None)
        if plan is not None:
            assert len(plan) == fewest
            assert sum(bundles for _, bundles in plan) == asked.workers + 1
            for node_at, taken in Shape(asked).on_nodes(plan):
                assert taken[0] <= sizes[node_at]


def _fewest_nodes(sizes: list[int], driver: int, worker: int, workers: int) -> int | None:
    """By trying every set of nodes, and every node of it for the driver."""
    for count in range(1, len(sizes) + 1):
        for chosen in itertools.combinations(sizes, count):
            for first in range(count):
                free = [size - driver * (i == first) for i, size in enumerate(chosen)]
                if min(free) >= 0 and sum(size // worker for size in free) >= workers:
                    return count
    return None


class TestSpace:
    def test_what_is_taken_and_given_back_is_free_again(self) -> None:
        space = Space.of([node("a", cpu=4, gpu=2), node("b", cpu=4)])
        shape = Shape(Gang(Resources(cpu=1), Resources(cpu=1, gpu=1), 2))
        plan = space.pack(shape)
        assert plan is not None
        space.take(shape, plan)
        assert space.free == (5.0, 0.0, 0.0)
        space.give(shape, plan)
        assert space.free == (8.0, 2.0, 0.0)

    def test_a_gang_that_needs_nothing_fits(self) -> None:
        assert pack([node("a")], Gang(NOTHING, NOTHING, 2)) == ((0, 3),)
