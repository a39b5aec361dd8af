"""The numbers of the platform, on Ray's own Prometheus exporter: declared here, counted where things happen.

``start`` is called in the processes that are Ray workers and gives them Ray's instruments; in any other process counting does
nothing. Labels are bounded: templates of routes, names of reconcilers, consumers, states and endpoints, never an id. Ray puts
``ray_`` before each name. Recording a number costs 2.5 µs, so nothing is gathered first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
DECLARED: list[Metric] = []


class Metric:
    """A named number with labels; Ray's instrument behind it once the process has one."""

    def __init__(self, kind: str, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self.kind, self.name, self.meaning, self.labels = kind, name, meaning, labels
        self._instrument: Any = None
        self._tags: dict[tuple[str, ...], dict[str, str]] = {}
        DECLARED.append(self)

    def make(self, instruments: Any) -> None:
        more = {"boundaries": list(SECONDS)} if self.kind == "Histogram" else {}
        self._instrument = getattr(instruments, self.kind)(self.name, self.meaning, tag_keys=self.labels, **more)

    def record(self, value: float, *values: str) -> None:
        """Count, observe or set, by the metric's kind; ``values`` in the order of its labels."""
        instrument = self._instrument
        if instrument is None:
            return
        tags = self._tags.get(values)
        if tags is None:
            tags = self._tags[values] = dict(zip(self.labels, values, strict=True))
        if self.kind == "Counter":
            instrument.inc(value, tags)
        elif self.kind == "Histogram":
            instrument.observe(max(value, 1e-6), tags)  # Ray refuses 0
        else:
            instrument.set(value, tags)


HTTP_REQUESTS = Metric("Counter", "aidos_http_requests_total", "Requests answered.", ("app", "route", "method", "status"))
HTTP_SECONDS = Metric("Histogram", "aidos_http_request_seconds", "Time to answer a request.", ("app", "route", "method"))
RECONCILED = Metric(
    "Counter", "aidos_reconciler_items_total", "Rows worked on: applied, lost, failed or gave_up.", ("reconciler", "outcome")
)
RECONCILE_SECONDS = Metric("Histogram", "aidos_reconciler_seconds", "Time of one row's process and apply.", ("reconciler",))
EVENTS_CONSUMED = Metric("Counter", "aidos_events_consumed_total", "Events handled.", ("consumer",))
JOBS = Metric("Gauge", "aidos_jobs", "Jobs that have not ended, by state.", ("state",))
ENDPOINTS = Metric("Gauge", "aidos_endpoints", "Endpoints that have not been deleted, by state.", ("state",))

_app = ["none"]


def start(instruments: Any, app: str) -> None:
    """Count from now on. ``instruments``: the module ``ray.util.metrics``; ``app``: what this process is called in HTTP's numbers."""
    _app[0] = app
    for metric in DECLARED:
        metric.make(instruments)


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    """One answer. A method that nobody declared, like an unknown route, is counted under one name."""
    method = method if method in _METHODS else "other"
    HTTP_REQUESTS.record(1, _app[0], route, method, str(status))
    HTTP_SECONDS.record(seconds, _app[0], route, method)


def set_states(gauge: Metric, states: Iterable[str], counted: Mapping[str, int]) -> None:
    """A number for each state, 0 where there is none of it: a gauge that is not set keeps what it said."""
    for state in states:
        gauge.record(counted.get(state, 0), state)
