"""Decisions of CostOptimizer: which event says what of a lease, and which period is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from actors.costoptimizer.errors import InvalidPeriod, PriceInThePast
from actors.costoptimizer.models import Budget, Estimate, LeaseChange, Price, Usage
from cluster.events import Event

DEFAULT_PERIOD = timedelta(days=30)
CLOCK_SLACK = timedelta(minutes=5)
LARGEST_AMOUNT = Decimal(10**6)
_CHANGES: dict[str, LeaseChange] = {".lease.opened": "opened", ".lease.closed": "closed"}


class NotALease(Exception):
    """An event of a lease does not say what one must; the text says what is missing."""


def to_usage(event: Event) -> Usage | None:
    """What the event says of a lease; None for events of other things. Raises: NotALease."""
    change = next((change for suffix, change in _CHANGES.items() if event.type.endswith(suffix)), None)
    if change is None:
        return None
    data = event.data
    try:
        resources: dict[str, Any] = data["resources"]
        at = datetime.fromisoformat(data["at"])
        if event.project_id is None or at.tzinfo is None:
            raise ValueError("it needs a project, and a time with its zone")
        return Usage(
            change,
            UUID(str(data["lease_id"])),
            event.org_id,
            event.project_id,
            _text(data["owner_kind"], 50),
            _text(data["owner_id"], 200),
            _text(data.get("owner_name") or data["owner_id"], 200),
            _amount(resources.get("cpu")),
            _amount(resources.get("gpu")),
            _text(resources.get("gpu_type") or "", 50).lower(),
            _amount(resources.get("memory_gib")),
            at,
        )
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise NotALease(f"{type(error).__name__}: {error}") from error


def _text(value: Any, limit: int) -> str:
    return str(value)[:limit]


def _amount(value: Any) -> Decimal:
    # By way of its text: Decimal(0.1) would be 0.1000000000000000055…
    amount = Decimal(str(value or 0))
    if not 0 <= amount <= LARGEST_AMOUNT:  # NaN fails both
        raise ValueError(f"{value!r} is no amount of a resource")
    return amount


def choose_period(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The asked period; the last 30 days where nothing is said. Raises: InvalidPeriod."""
    until = until or now
    try:
        since = (since or until - DEFAULT_PERIOD).astimezone(UTC)
        until = until.astimezone(UTC)
    except OverflowError:
        raise InvalidPeriod(since=since, until=until) from None
    if not since < until or since.year < 1970 or until.year >= 9000:
        raise InvalidPeriod(since=since, until=until)
    return since, until


def estimate(prices: Sequence[Price], amounts: Mapping[str, float], seconds: float, now: datetime) -> Estimate:
    """Amounts of ``cpu``, ``gpu`` and ``memory_gib`` × the prices in force at ``now``, rounded half up as a bill is."""
    hourly = sum((Decimal(str(amount)) * _price_of(prices, resource, now) for resource, amount in amounts.items()), Decimal(0))
    return Estimate(_whole(hourly * Decimal(str(seconds)) / 3600), _whole(hourly))


def _price_of(prices: Sequence[Price], resource: str, now: datetime) -> int:
    """The latest that has begun; the platform's own where there is none."""
    known = [price for price in prices if price.resource == resource and (price.effective_from is None or price.effective_from <= now)]
    return max(known, key=lambda price: price.effective_from or datetime.min.replace(tzinfo=UTC)).micro_usd


def _whole(micro_usd: Decimal) -> int:
    return int(micro_usd.quantize(Decimal(1), ROUND_HALF_UP))


def check_effective(effective_from: datetime, now: datetime) -> None:
    """Raises: PriceInThePast. A clock that is a little behind is forgiven by the caller, who takes ``now`` then."""
    if effective_from < now - CLOCK_SLACK:
        raise PriceInThePast(effective_from=effective_from.isoformat())


def closing_reason(budget: Budget) -> str:
    """Why a project's jobs wait while its budget is spent."""
    return f"the project's budget of ${budget.micro_usd / 1e6:.2f} a {budget.period} is spent; the next {budget.period} begins {budget.until:%d %B %Y} UTC"
