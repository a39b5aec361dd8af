"""Who got how much of what was contended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from tune.trainos.queue.packing import Vector


@dataclass(slots=True)
class _Stake:
    """What a project got and was due while something of it waited; and since when, with what, it waits now."""

    got_s: float = 0.0
    due_s: float = 0.0
    waits: bool = False
    dominant: float = 0.0
    since_s: float = 0.0
    each: float = 0.0


class Contention:
    """For each project only the time counts in which it had something waiting. Entitled it then is to its weight's part of what all such
    projects hold, in dominant shares.

    ``_each`` is the integral of what a weight of one was entitled to: a change costs the project that changes and no others.
    """

    def __init__(self, capacity: Vector, weights: Mapping[UUID, float]) -> None:
        self._capacity, self._weight = capacity, weights
        self._held = self._weights = self._each = self._at_s = 0.0
        self._stakes: dict[UUID, _Stake] = {}

    def update(self, project: UUID, now_s: float, held: Vector, waits: bool) -> None:
        """From now on the project holds so much, and has something waiting or not."""
        if self._weights > 0:
            self._each += (now_s - self._at_s) * self._held / self._weights
        self._at_s = now_s
        stake, weight = self._stakes.setdefault(project, _Stake()), self._weight.get(project, 1.0)
        if stake.waits:
            stake.got_s += (now_s - stake.since_s) * stake.dominant
            stake.due_s += (self._each - stake.each) * weight
            self._held -= stake.dominant
            self._weights -= weight
        stake.waits, stake.since_s, stake.each = waits, now_s, self._each
        stake.dominant = max((held[i] / self._capacity[i] for i in range(3) if self._capacity[i] > 0), default=0.0)
        if waits:
            self._held += stake.dominant
            self._weights += weight

    def ratios(self) -> dict[UUID, float]:
        """What each project got over what it was entitled to, as of its latest change; those that never waited are left out."""
        return {project: stake.got_s / stake.due_s for project, stake in self._stakes.items() if stake.due_s > 1e-9}
