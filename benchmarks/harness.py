"""What all benchmarks share: figures as a table and as JSON lines, measuring in turns, and a load generator.

Run one with ``python -m benchmarks.NAME [--quick]``. Each figure ends as one line
``{"bench": …, "ours": …, "peer": …, "peer_value": …, "unit": …, "ratio": …, "bar": …, "pass": …}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

CONNECTIONS = 16
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.I)


@dataclass(frozen=True)
class Figure:
    """One measured thing beside its peer. ``bar`` is the least ratio (or, with ``lower_is_better``, the most) that passes."""

    bench: str
    ours: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    bar: float | None = None
    lower_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's; without a peer, ours alone is held against the bar."""
        return self.ours / self.peer_value if self.peer_value else None

    @property
    def passed(self) -> bool | None:
        if self.bar is None:
            return None
        value = self.ratio if self.peer else self.ours
        return value is not None and (value <= self.bar if self.lower_is_better else value >= self.bar)

    def to_json(self) -> str:
        members = {"bench": self.bench, "ours": _short(self.ours), "peer": self.peer, "peer_value": _short(self.peer_value)}
        return json.dumps({**members, "unit": self.unit, "ratio": _short(self.ratio), "bar": self.bar, "pass": self.passed})


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def report(figures: Sequence[Figure]) -> int:
    """Print the table and the lines; the exit status: 1 when a figure misses its bar."""
    table = Table("figure", "ours", "peer", "unit", "ratio", "bar", "")
    for figure in figures:
        peer = f"{figure.peer_value:,.4g}  {figure.peer}" if figure.peer_value is not None else "—"
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else "—"
        bar = "—" if figure.bar is None else f"{'≤' if figure.lower_is_better else '≥'} {figure.bar:g}"
        verdict = {True: "pass", False: "FAIL", None: ""}[figure.passed]
        table.add_row(figure.bench, f"{figure.ours:,.4g}", peer, figure.unit, ratio, bar, verdict)
    Console(width=140).print(table)
    for figure in figures:
        print(figure.to_json(), flush=True)
    return 1 if any(figure.passed is False for figure in figures) else 0


def parse_arguments(description: str, **options: Any) -> argparse.Namespace:
    """The command line of a benchmark: ``--quick``, and what it adds itself (name to default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="Fewer and shorter rounds: whether it runs, not how fast it is.")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


def in_turns(subjects: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each subject over ``rounds``, measured in turns so that a noisy machine disturbs all alike."""
    values: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        # Every second round backwards: who comes first in a round is not always the same.
        for name in list(subjects)[:: 1 if number % 2 == 0 else -1]:
            values[name].append(subjects[name]())
    return {name: statistics.median(measured) for name, measured in values.items()}


@dataclass
class Load:
    """What a load test saw."""

    seconds: float
    latencies_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    broken_connections: int = 0

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000 if ordered else float("nan")


def load(url: str, *, seconds: float, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes = b"",
         connections: int = CONNECTIONS) -> Load:  # fmt: skip
    """Ask for ``url`` on kept-alive connections, each one request at a time, for ``seconds``."""
    return asyncio.run(_load(url, seconds, build_request(url, method, headers or {}, body), connections))


def build_request(url: str, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of an HTTP/1.1 request."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _load(url: str, seconds: float, request: bytes, connections: int) -> Load:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    result = Load(seconds)
    ends_at = time.perf_counter() + seconds
    clients = [_Client(request, result, ends_at) for _ in range(connections)]
    await asyncio.gather(*(loop.create_connection(lambda c=client: c, parts.hostname, parts.port or 80) for client in clients))
    _, late = await asyncio.wait([client.done for client in clients], timeout=seconds + 30)
    result.broken_connections += len(late)
    return result


class _Client(asyncio.Protocol):
    """One connection. Much cheaper than an HTTP library, so that the generator does not measure itself."""

    def __init__(self, request: bytes, result: Load, ends_at: float) -> None:
        self._request, self._result, self._ends_at = request, result, ends_at
        self._buffer = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head_end + 2)
        if len(self._buffer) < head_end + 4 + (int(length.group(1)) if length else 0):
            return
        now = time.perf_counter()
        status = int(self._buffer[9:12])
        self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
        self._result.latencies_s.append(now - self._sent_at)
        self._buffer = b""
        if now < self._ends_at:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if time.perf_counter() < self._ends_at:
            self._result.broken_connections += 1
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]  # asyncio types it by its base class
