"""What an event says of a lease, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from actors.costoptimizer import policy
from actors.costoptimizer.errors import InvalidPeriod, PriceInThePast
from actors.costoptimizer.models import Estimate, Price
from cluster.db import new_id
from cluster.events import Event
from tests.costoptimizer.conftest import START, lease_event
from tests.support.tenant import make_scope


class TestToUsage:
    def test_reads_both_ends(self) -> None:
        lease_id, scope = new_id(), make_scope()
        usage = policy.to_usage(lease_event(scope, lease_id, "opened", START, cpu=0.1, gpu=1, gpu_type="H100", memory_gib=2))
        assert usage is not None
        assert (usage.change, usage.lease_id, usage.project_id, usage.at) == ("opened", lease_id, scope.project_id, START)
        assert (usage.cpu, usage.gpu, usage.gpu_type) == (Decimal("0.1"), Decimal(1), "h100")

    def test_passes_other_events(self) -> None:
        scope = make_scope()
        assert policy.to_usage(Event("trainos.job.started", "x", scope.org_id, scope.project_id, "a", {})) is None

    @pytest.mark.parametrize(
        "change",
        [
            {"lease_id": "x"},
            {"at": "yesterday"},
            {"at": "2026-11-10T22:00:00"},
            {"resources": None},
            {"resources": {"cpu": "NaN"}},
            {"resources": {"cpu": -1}},
            {"resources": {"cpu": float("inf")}},
            {"resources": {"cpu": "many"}},
        ],
    )
    def test_refuses_what_says_too_little(self, change: dict[str, Any]) -> None:
        event = lease_event(make_scope(), new_id(), "opened", START)
        event.data.update(change)
        with pytest.raises(policy.NotALease):
            policy.to_usage(event)


class TestPeriod:
    def test_is_the_last_30_days_where_nothing_is_said(self) -> None:
        assert policy.choose_period(None, None, START) == (START - timedelta(days=30), START)

    @pytest.mark.parametrize(
        ("since", "until"),
        [(START, START), (START, START - timedelta(1)), (None, datetime(1, 1, 2, tzinfo=UTC)), (None, datetime.max.replace(tzinfo=UTC))],
    )
    def test_runs_forward_in_known_years(self, since: datetime | None, until: datetime) -> None:
        with pytest.raises((InvalidPeriod, OverflowError)):
            policy.choose_period(since, until, START)

    def test_a_price_never_begins_in_the_past(self) -> None:
        policy.check_effective(START, START)
        with pytest.raises(PriceInThePast):
            policy.check_effective(START - timedelta(hours=1), START)


class TestEstimate:
    def price(self, micro_usd: int, effective_from: datetime | None) -> Price:
        return Price("cpu", "vCPU hour", micro_usd, "test", effective_from, None)

    def test_is_by_the_price_in_force(self) -> None:
        now = datetime(2026, 11, 21, tzinfo=UTC)
        book = [
            self.price(90, now + timedelta(hours=1)),
            self.price(60, now - timedelta(hours=1)),
            self.price(50, now - timedelta(days=1)),
            self.price(40, None),
        ]
        assert policy.estimate(book, {"cpu": 2.5}, 1800, now) == Estimate(75, 150)
        assert policy.estimate(book[3:], {"cpu": 2.5}, 1800, now) == Estimate(50, 100)

    def test_half_a_micro_dollar_is_a_whole_one(self) -> None:
        assert policy.estimate([self.price(1, None)], {"cpu": 0.5}, 3600, datetime(2026, 11, 21, tzinfo=UTC)).micro_usd == 1
