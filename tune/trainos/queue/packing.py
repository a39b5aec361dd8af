"""Where a gang fits: free resources by node and in the whole cluster, and the fewest nodes that hold a gang."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tune.trainos.models import Resources
from tune.trainos.queue.models import Gang, Node

EPSILON = 1e-6  # resources are floats: a third of a GPU three times is a whole one

Vector: TypeAlias = tuple[float, float, float]
Array: TypeAlias = npt.NDArray[np.float64]
Plan: TypeAlias = tuple[tuple[int, int], ...]
"""Bundles by the index of their node, the driver's node first. The driver counts as a bundle: all counts make ``workers + 1``."""


def vector(resources: Resources) -> Vector:
    """CPU, GPU, GiB of memory."""
    return resources.cpu, resources.gpu, resources.memory_gib


def within(wanted: Vector, have: Vector) -> bool:
    """Whether ``have`` is enough in everything."""
    return wanted[0] <= have[0] + EPSILON and wanted[1] <= have[1] + EPSILON and wanted[2] <= have[2] + EPSILON


def plus(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


class Shape:
    """A gang in numbers. ``total``: all of it together."""

    __slots__ = ("driver", "gang", "total", "worker", "workers")

    def __init__(self, gang: Gang) -> None:
        self.gang, self.workers = gang, gang.workers
        self.total = vector(gang.resources)
        self.driver, self.worker = np.array(vector(gang.driver)), np.array(vector(gang.worker))

    def on_nodes(self, plan: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Array]]:
        """What it takes of each node of ``plan``."""
        own = self.driver - self.worker  # the first bundle of the first node is the driver
        for node, bundles in plan:
            yield node, self.worker * bundles + own
            own = np.zeros(3)


class Shapes:
    """Gangs in numbers, one object for all that are equal."""

    def __init__(self) -> None:
        self._known: dict[tuple[float, ...], Shape] = {}

    def of(self, gang: Gang) -> Shape:
        driver, worker = gang.driver, gang.worker
        key = (driver.cpu, driver.gpu, driver.memory_gib, worker.cpu, worker.gpu, worker.memory_gib, gang.workers)
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(gang)
        return shape


class Space:
    """What is free: ``nodes[i]`` on node i (CPU, GPU, GiB of memory), ``whole`` in the cluster by its leases. A gang must fit both."""

    __slots__ = ("nodes", "whole")

    def __init__(self, nodes: Array, whole: Array) -> None:
        self.nodes, self.whole = nodes, whole

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Space:
        """All that ``nodes`` have."""
        rows = np.array([vector(node.total) for node in nodes], dtype=np.float64).reshape(-1, 3)
        return cls(rows, rows.sum(axis=0))

    def copy(self) -> Space:
        return Space(self.nodes.copy(), self.whole.copy())

    def __and__(self, other: Space | None) -> Space:
        """What both have."""
        return self if other is None else Space(np.minimum(self.nodes, other.nodes), np.minimum(self.whole, other.whole))

    @property
    def free(self) -> Vector:
        """The smaller of both truths, none below zero."""
        cpu, gpu, memory = np.minimum(self.whole, self.nodes.clip(0).sum(axis=0)).clip(0).tolist()
        return cpu, gpu, memory

    def give(self, shape: Shape, plan: Plan) -> None:
        """A gang that was planned so is gone. A node of an index below zero is one that left the cluster."""
        self._change(shape, plan, 1.0)

    def take(self, shape: Shape, plan: Plan) -> None:
        """A gang is planned so."""
        self._change(shape, plan, -1.0)

    def _change(self, shape: Shape, plan: Plan, sign: float) -> None:
        self.whole += np.multiply(shape.total, sign)
        for node, taken in shape.on_nodes(plan):
            if node >= 0:
                self.nodes[node] += sign * taken

    def pack(self, shape: Shape) -> Plan | None:
        """The fewest nodes that hold the whole gang, the fullest that do (best fit decreasing); None where it does not fit.

        With c(n) workers that fit node n, and c'(n) beside the driver, k nodes hold the gang exactly when some driver's node d and the
        k - 1 largest of the others have c'(d) + c(others) >= workers; the smallest such k is found by bisection.
        """
        if (self.whole + EPSILON < shape.total).any():
            return None
        has_room = ((self.nodes + EPSILON >= shape.driver) | (shape.driver == 0)).all(axis=1)
        beside_driver = np.where(has_room, workers_that_fit(self.nodes - shape.driver, shape), -1.0)
        alone = np.flatnonzero(beside_driver >= shape.workers)
        if alone.size:
            return ((self._fullest(alone), shape.workers + 1),)
        if shape.workers == 0:
            return None
        return self._pack_on_several(shape.workers, workers_that_fit(self.nodes, shape), beside_driver)

    def _pack_on_several(self, wanted: int, workers: Array, beside_driver: Array) -> Plan | None:
        largest = np.argsort(-workers, kind="stable")
        rank = np.empty_like(largest)
        rank[largest] = np.arange(largest.size)
        sums = np.concatenate(([0.0], np.cumsum(workers[largest])))

        def held_by(nodes: int) -> Array:  # for each node as the driver's, with the largest of the others; negative where it has no room
            others = np.where(rank >= nodes - 1, sums[nodes - 1], sums[nodes] - workers)
            return np.where(beside_driver >= 0, beside_driver + others, -1.0)

        low, high = 2, largest.size
        if high < low or held_by(high).max() < wanted:
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if held_by(middle).max() >= wanted else (middle + 1, high)
        drivers = np.flatnonzero(held_by(low) >= wanted)
        driver = self._fullest(drivers[beside_driver[drivers] == beside_driver[drivers].max()])
        return self._fill(driver, wanted, workers, beside_driver, largest)

    def _fill(self, driver: int, wanted: int, workers: Array, beside_driver: Array, largest: npt.NDArray[np.int64]) -> Plan:
        plan = [(driver, int(beside_driver[driver]) + 1)]
        left = wanted - int(beside_driver[driver])
        others = largest[largest != driver]
        for position, node in enumerate(others):
            enough = others[position:][workers[others[position:]] >= left]
            if enough.size:  # the last one: of those that hold what is left, the one with least room
                least = enough[workers[enough] == workers[enough].min()]
                return (*plan, (self._fullest(least), left))
            plan.append((int(node), int(workers[node])))
            left -= int(workers[node])
        raise AssertionError("the gang was found to fit")

    def _fullest(self, nodes: npt.NDArray[np.int64]) -> int:
        """Of ``nodes`` the one with the fewest free GPUs, then CPUs, then memory, then the first: whole nodes stay whole."""
        if nodes.size == 1:
            return int(nodes[0])
        free = self.nodes[nodes]
        return int(nodes[np.lexsort((free[:, 2], free[:, 0], free[:, 1]))[0]])


def workers_that_fit(free: Array, shape: Shape) -> Array:
    """How many workers fit each node, at most all."""
    asked = shape.worker > 0
    if not asked.any():
        return np.full(len(free), float(shape.workers))
    return np.floor((free[:, asked] + EPSILON) / shape.worker[asked]).min(axis=1).clip(0, shape.workers)
