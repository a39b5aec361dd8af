"""Logs as JSON lines with request, trace and project ids; OpenTelemetry traces from HTTP into Ray; Ray metrics."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cluster.settings import Settings

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("aidos")
# One variable for all ids: binding them is a part of every request.
_IDS: ContextVar[Mapping[str, str]] = ContextVar("aidos_log_ids", default=MappingProxyType({}))


def get_logger(name: str) -> Any:
    """A structured logger; bind ids with ``bind``."""
    return structlog.get_logger(module=name)


def configure(settings: Settings, process: str) -> None:
    """Set up logs and traces of this process, once, at its start."""
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format="%(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            _add_ids,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace_id,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _IDS.set({**_IDS.get(), "process": process})
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        # Without a collector a span is only its ids: they tie log lines and events together, and cost next to nothing.
        sampler = ParentBased(ALWAYS_ON if settings.otlp_endpoint else ALWAYS_OFF)
        provider = TracerProvider(sampler, resource=Resource.create({"service.name": f"aidos.{process}"}))
        if settings.otlp_endpoint:
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint}/v1/traces")))
        trace.set_tracer_provider(provider)


def _add_trace_id(_logger: Any, _name: str, event: Any) -> Any:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    return event


def _add_ids(_logger: Any, _name: str, event: Any) -> Any:
    return {**_IDS.get(), **event}


class bind:  # noqa: N801 — a context manager, named as the verb that it is
    """Add ids (request_id, project_id, job_id…) to every log line inside. ``with telemetry.bind(job_id=…):``"""

    __slots__ = ("_ids", "_token")

    def __init__(self, **ids: Any) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        known = dict(_IDS.get())
        known.update((name, str(value)) for name, value in self._ids.items() if value is not None)
        self._token = _IDS.set(known)

    def __exit__(self, *_: object) -> None:
        _IDS.reset(self._token)


@contextlib.contextmanager
def span(name: str, traceparent: str | None = None, **attributes: Any) -> Iterator[trace.Span]:
    """A span; ``traceparent`` (W3C Trace Context) joins it to the trace of the request that asked for the work."""
    parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    with _tracer.start_as_current_span(name, context=parent, attributes={k: str(v) for k, v in attributes.items()}) as current:
        yield current


def current_traceparent() -> str | None:
    """The W3C ``traceparent`` of the current span, to be stored with the work it asks for."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")
