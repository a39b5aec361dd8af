"""What each project and user holds, may hold, and is due."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tune.trainos.models import Resources
from tune.trainos.policy import HALF_LIFE_S
from tune.trainos.queue.models import Quota
from tune.trainos.queue.packing import EPSILON, Vector, minus, plus, vector, within
from tune.trainos.queue.words import told

NONE: Vector = (0.0, 0.0, 0.0)


class Account:
    """A project's holdings: ``held`` counts all that runs, ``staying`` leaves out what was asked to leave. Key None is the project."""

    __slots__ = ("_limit", "_user_limit", "_weight", "held", "nominal", "recent", "staying")

    def __init__(self, quota: Quota, usage: Resources) -> None:
        self.nominal, self._limit, self._user_limit = vector(quota.nominal), vector(quota.limit), vector(quota.user_limit)
        self._weight = quota.weight
        # What is used evenly for ever adds up to use × half-life / ln 2: this is the mean use of late.
        self.recent = vector(usage * (math.log(2) / HALF_LIFE_S))
        self.held: dict[str | None, Vector] = {None: NONE}
        self.staying: dict[str | None, Vector] = {None: NONE}

    def hold(self, user: str, total: Vector, leaving: bool = False) -> None:
        """One more that runs."""
        for holder in (None, user):
            self.held[holder] = plus(self.held.get(holder, NONE), total)
            if not leaving:
                self.staying[holder] = plus(self.staying.get(holder, NONE), total)

    def leave(self, user: str, total: Vector) -> None:
        """One of what runs was asked to leave."""
        for holder in (None, user):
            self.staying[holder] = minus(self.staying[holder], total)

    def owns(self, total: Vector) -> bool:
        """Whether the project stays within its nominal quota with ``total`` more."""
        return within(plus(self.staying[None], total), self.nominal)

    def share(self, capacity: Vector, total: Vector) -> float:
        """The weighted dominant share with ``total`` more, the larger the later: ``max over r of (recent_r + held_r + min(total_r, held_r)) /
        capacity_r, / weight``.

        Dominant Resource Fairness (Ghodsi et al., NSDI 2011, section 4) over what a project holds now and, as what it held before counts
        too, the exponentially weighted mean of what it held of late. What is leaving is no longer held. What it asks for counts, as in
        Kueue's fair sharing, or who asks in large pieces would always be the larger one (D'Hondt's rule, not Adams'); but at most as much
        as it holds, or a gang as large as the cluster would stand behind small jobs for ever.
        """
        holds, recent, share = self.staying[None], self.recent, 0.0
        for i in (0, 1, 2):
            if capacity[i] > 0:
                share = max(share, (recent[i] + holds[i] + min(total[i], holds[i])) / capacity[i])
        return share / self._weight if self._weight > 0 else math.inf

    def over_quota(self, user: str, total: Vector, holdings: Mapping[str | None, Vector]) -> str:
        """Why the quota keeps ``total`` more waiting beside ``holdings``; empty where it does not."""
        if not within(plus(holdings[None], total), self._limit):
            return f"project's quota: {_over(total, holdings[None], self._limit)}"
        holds = holdings.get(user, NONE)
        return "" if within(plus(holds, total), self._user_limit) else f"user {user} {_over(total, holds, self._user_limit)}"


def _over(total: Vector, holds: Vector, most: Vector) -> str:
    over = next(i for i in (1, 0, 2) if total[i] + holds[i] > most[i] + EPSILON)
    if total[over] > most[over] + EPSILON:
        return f"may hold {told(most[over], over)}, this needs {total[over]:g}"
    room = "" if holds[over] >= most[over] - EPSILON else f", this needs {total[over]:g}"
    return f"holds {holds[over]:g} of {told(most[over], over)}{room}"
