"""When the first workload that does not fit will, and what others may use until then without delaying it.

EASY backfilling (Lifka, The ANL/IBM SP scheduling system, JSSPP 1995): one reservation, at the earliest time at which, by the bounds of
what runs, enough is free.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from tune.trainos.queue.ledger import Held, Ledger
from tune.trainos.queue.models import Workload
from tune.trainos.queue.packing import Shape, Space

_ENDLESS_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for ``head`` once all ``gone`` have ended; ``starts_s`` where each has a bound. ``beside``: what is free then beside it.

    ``frees``: those of ``gone`` on whose nodes the head is planned, where what runs is all that it waits for.
    """

    head: Workload
    shape: Shape
    beside: Space
    starts_s: float | None
    gone: frozenset[UUID]
    frees: tuple[Workload, ...]

    def admits(self, limit_s: float | None, now_s: float) -> bool:
        """Whether what starts now with that bound has ended before the head starts."""
        return self.starts_s is not None and limit_s is not None and now_s + limit_s <= self.starts_s


def reserve(head: Workload, shape: Shape, ledger: Ledger) -> Reservation | None:
    """The reservation of ``head``; None where the nodes do not hold it even when all of them are empty.

    What has no bound is taken to end after what has one, the oldest first: what starts later then never moves the reservation to other
    nodes. What has run for a day without a bound is taken to end last of all.
    """
    ending = sorted(ledger.holders(), key=lambda held: _expected_end(held, ledger.now_s))
    after = _Releases(ending, ledger)
    ended = bisect.bisect_left(range(len(ending) + 2), True, key=lambda ended: after(ended).pack(shape) is not None)
    space = after(ended)
    plan = space.pack(shape)
    if plan is None:
        return None
    space.take(shape, plan)
    gone = ending[:ended]
    ids = frozenset(held.workload.id for held in gone)
    if not 0 < ended <= len(ending):
        return Reservation(head, shape, space, None, ids, ())
    nodes = {node for node, _ in plan}
    frees = tuple(held.workload for held in gone if any(node in nodes for node, _ in held.plan))
    ends_s = gone[-1].ends_s
    return Reservation(head, shape, space, None if ends_s is None else max(ends_s, ledger.now_s), ids, frees)


def _expected_end(held: Held, now_s: float) -> tuple[int, float, UUID]:
    if held.ends_s is not None:
        return 0, held.ends_s, held.workload.id
    return 1 if now_s - held.since_s < _ENDLESS_AFTER_S else 2, held.since_s, held.workload.id


class _Releases:
    """What is free after the first so many of ``ending`` have ended, and one further: after all else on the cluster has."""

    def __init__(self, ending: Sequence[Held], ledger: Ledger) -> None:
        self._soon, self._totals, self._count = ledger.soon, ledger.totals, len(ending)
        rows = [(i, node, taken) for i, held in enumerate(ending) for node, taken in held.shape.on_nodes(held.plan) if node >= 0]
        self._owners = [owner for owner, _, _ in rows]
        self._nodes = np.array([node for _, node, _ in rows], dtype=np.int64)
        self._taken = np.array([taken for _, _, taken in rows], dtype=np.float64).reshape(-1, 3)
        self._whole = np.cumsum(np.array([(0.0, 0.0, 0.0), *(held.shape.total for held in ending)]), axis=0)

    def __call__(self, ended: int) -> Space:
        if ended > self._count:
            return self._totals.copy()
        nodes, until = self._soon.nodes.copy(), bisect.bisect_left(self._owners, ended)
        np.add.at(nodes, self._nodes[:until], self._taken[:until])
        return Space(np.minimum(nodes, self._totals.nodes), self._soon.whole + self._whole[ended])
