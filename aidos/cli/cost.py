"""``aidos cost``: what jobs and endpoints cost, in dollars."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer

from aidos.cli.session import session
from aidos.errors import InvalidRequest

_SPAN = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Moment = typer.Option(metavar="WHEN", help="A span back from now (90m, 24h, 7d, 4w), or a date and time.", show_default=False)


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("cost", help="What the project's jobs and endpoints cost.")(cost)


def cost(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="job or endpoint, to see one of them lease by lease.", show_default=False)
    ] = None,
    owner: Annotated[str | None, typer.Argument(metavar="ID", help="Its id.", show_default=False)] = None,
    by: Annotated[str, typer.Option(help="owner, kind or day.")] = "owner",
    since: Annotated[str | None, Moment] = None,
    until: Annotated[str | None, Moment] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 100,
) -> None:
    from aidos.cli.output import show_table

    current = session()
    period: dict[str, Any] = {"from_": to_moment(since), "to": to_moment(until), "limit": limit}
    columns: tuple[str, ...]
    if kind is not None:
        if owner is None:
            raise InvalidRequest(reason="Say whose cost: `aidos cost job ID`, or no argument for all.")
        bill: Any = current.client.costs.owner(kind, owner, **period)
        rows, columns = bill.leases, ("lease_id", "started_at", "ended_at", "cpu", "gpu", "memory_gib", "cost")
    else:
        bill = current.client.costs.get(group_by=by, **period)
        rows = bill.costs
        columns = _columns(by)
    if current.as_json:
        current.show(bill)
        return
    show_table(current, [{**row.model_dump(), "cost": _dollars(row.micro_usd)} for row in rows], columns)
    current.out.print(f"{_dollars(bill.micro_usd)} from {_short(bill.since)} to {_short(bill.until)}", style="bold")


def to_moment(text: str | None, now: datetime | None = None) -> datetime | None:
    """A span back from now, or an ISO 8601 date, as a moment in UTC. Raises: InvalidRequest."""
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(reason=f"A time must be a span such as 24h or 7d, or a date such as 2026-11-21, got {text!r}.") from None


def _columns(by: str) -> tuple[str, ...]:
    first = {"owner": ("owner_kind", "owner_name", "owner_id"), "kind": ("owner_kind",), "day": ("day",)}.get(by, ("owner_kind", "day"))
    return (*first, "cpu_hours", "gpu_hours", "memory_gib_hours", "cost", "running")


def _dollars(micro_usd: int) -> str:
    """To the cent; small sums to the hundredth of one, so that they do not vanish. ``--json`` has the micro-dollars."""
    places = 2 if micro_usd >= 1_000_000 else 4
    return f"${Decimal(micro_usd) / 1_000_000:,.{places}f}"


def _short(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
