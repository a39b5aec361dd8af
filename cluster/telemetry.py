"""Logs as JSON lines with request, trace and project ids; OpenTelemetry traces from HTTP into Ray (``cluster.metrics`` has the numbers).

Without a collector (``AIDOS_OTLP_ENDPOINT``) a span is only its ids: they tie log lines, rows and events together. With one, spans
travel in batches from a thread of their own, and what a dead collector does not take is dropped.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic_core import PydanticSerializationError, to_json

from cluster.settings import Settings

SERVER, CONSUMER = SpanKind.SERVER, SpanKind.CONSUMER
EXPORT_EVERY_MS = 1000
EXPORT_TIMEOUT_S = 3.0
COMPLAIN_EVERY_S = 60.0
BATCH_S = 0.1
_SECRET = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|[Bb]earer |[Bb]asic |aidos_(?:live|refresh|invite)_)[^\s&\"'@\\,)]+"
    r"|(://[^\s/:@\"]*:)[^\s/@\"]+(?=@)"
)
_PROPAGATOR = TraceContextTextMapPropagator()
_new_ids = RandomIdGenerator()
_tracer: trace.Tracer | None = None
# One variable for all ids: binding them is a part of every request.
_IDS: ContextVar[Mapping[str, str]] = ContextVar("aidos_log_ids", default=MappingProxyType({}))
_process: dict[str, str] = {}


class Moment(NamedTuple):
    """What a line says of when it was logged, besides its own fields."""

    at_s: float
    ids: Mapping[str, str]
    context: SpanContext


_waiting: deque[tuple[Callable[..., None], Moment, tuple[Any, ...]]] = deque()
_writer: asyncio.AbstractEventLoop | None = None
"""The event loop that will note what waits."""


def get_logger(name: str) -> Any:
    """A structured logger; bind ids with ``bind``."""
    return structlog.get_logger(module=name)


def configure(settings: Settings, process: str, stream: Any = None) -> None:
    """Set up logs and traces of this process, once, at its start. Logs go to ``stream``, or to standard error."""
    global _tracer
    stream = stream or sys.stderr
    _process["process"] = process
    atexit.register(note_waiting)
    level = logging.getLevelNamesMapping()[settings.log_level]
    before: list[Any] = [structlog.processors.add_log_level, _describe, structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*before, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _take_over_logging(max(level, logging.INFO), before, stream)
    if settings.otlp_endpoint and _tracer is None:
        provider = build_provider(settings, process)
        trace.set_tracer_provider(provider)
        _tracer = provider.get_tracer("aidos")


def _take_over_logging(level: int, before: list[Any], stream: Any) -> None:
    """What libraries log becomes the same JSON lines. Never below INFO: at DEBUG they tell headers and whole URLs."""
    handler = logging.StreamHandler(stream)
    rendered: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=rendered, foreign_pre_chain=[_add_module, *before]))
    handler.addFilter(_Patience())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING if name == "httpx" else logging.ERROR)


def build_provider(settings: Settings, process: str) -> TracerProvider:
    """Spans to the collector that settings name, flushed when the process ends."""
    resource = Resource.create({"service.name": f"aidos.{process}"})
    provider = TracerProvider(ParentBasedTraceIdRatio(settings.trace_sample_ratio), resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS))
    return provider


class _Patience(logging.Filter):
    """Lets OpenTelemetry complain once a minute: of a dead collector it would several times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + COMPLAIN_EVERY_S
        return True


def _add_module(_logger: Any, _name: str, event: Any) -> Any:
    event["module"] = event["_record"].name
    return event


def later(note: Callable[..., None], *values: Any) -> None:
    """Call ``note(moment, *values)`` with those of other requests, at most ``BATCH_S`` later; ``moment`` is for ``logger.info(…, moment=moment)``.

    For what is noted at every request. Alone, a line and a number cost a busy gateway a tenth of the request; in company a fifth of
    that, since the code that writes them is still in the processor's caches. What a killed process has not noted yet is lost.
    """
    global _writer
    loop = asyncio.get_running_loop()
    if _writer is not loop:
        _writer = loop
        loop.call_later(BATCH_S, note_waiting, context=Context())  # an empty one: this request's ids are not the others'
    _waiting.append((note, _now(), values))


def note_waiting() -> None:
    """Do what ``later`` still holds."""
    global _writer
    _writer = None
    while True:
        try:
            note, moment, values = _waiting.popleft()
        except IndexError:
            return
        note(moment, *values)


def _now() -> Moment:
    return Moment(time.time(), _IDS.get(), trace.get_current_span().get_span_context())


def _describe(_logger: Any, _name: str, event: Any) -> Any:
    """Add what every line says: the process, the ids that are bound, the time and the trace."""
    at_s, ids, context = event.pop("moment", None) or _now()
    described = {**_process, **ids, **event, "timestamp": f"{datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None).isoformat()}Z"}
    if context.is_valid:
        described["trace_id"] = format(context.trace_id, "032x")
        described["span_id"] = format(context.span_id, "016x")
    return described


def _render(_logger: Any, _name: str, event: Any) -> str:
    """The line as JSON. Pydantic's writer takes a tenth of the standard library's time, but knows no half of a surrogate pair."""
    try:
        line = to_json(event, fallback=str).decode()
    except PydanticSerializationError:
        line = json.dumps(event, default=str)
    return _hide_secrets(line)


def _hide_secrets(line: str) -> str:
    """Whatever an error's text quoted: no credential and no presigned URL's signature reaches the log."""
    # Finding nothing is the rule, and these searches are many times faster than the pattern's.
    if "X-Amz-" in line or "earer " in line or "asic " in line or "aidos_" in line or "://" in line:
        return _SECRET.sub(r"\1\2…", line)
    return line


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


class span:  # noqa: N801 — as ``bind``
    """A span; ``traceparent`` (W3C Trace Context) joins it to the trace of the request that asked for the work.

    An exception that passes marks it with its type alone: messages may quote what no collector may know. One whose ``kept`` is set
    to False is dropped at its end.
    """

    __slots__ = ("_attributes", "_kind", "_name", "_span", "_token", "_traceparent", "kept")
    _span: trace.Span

    def __init__(self, name: str, traceparent: str | None = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any) -> None:
        self._name, self._traceparent, self._kind, self._attributes = name, traceparent, kind, attributes
        self.kept = True

    def __enter__(self) -> span:
        parent = _PROPAGATOR.extract({"traceparent": self._traceparent}) if self._traceparent else None
        if _tracer is None:
            self._span = _ids_alone(parent)
        else:
            self._span = _tracer.start_span(self._name, parent, self._kind, record_exception=False, set_status_on_exception=False)
        self._token = otel_context.attach(trace.set_span_in_context(self._span, parent))
        self.set(**self._attributes)
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        otel_context.detach(self._token)
        if kind is not None and self._span.is_recording():
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(Status(StatusCode.ERROR))
        if self.kept:
            self._span.end()

    @property
    def recording(self) -> bool:
        """Whether anybody will see what it is told."""
        return self._span.is_recording()

    def set(self, **attributes: Any) -> None:
        """Add attributes; ``a__b`` is written ``a.b``."""
        if self._span.is_recording():
            self._span.set_attributes({name.replace("__", "."): _plain(value) for name, value in attributes.items() if value is not None})

    def name(self, name: str, *, failed: bool = False) -> None:
        """Give it the name, and the failure, that are known only at its end."""
        if self._span.is_recording():
            self._span.update_name(name)
            if failed:
                self._span.set_status(Status(StatusCode.ERROR))


def _ids_alone(parent: otel_context.Context | None) -> trace.Span:
    """A span that goes nowhere, in its parent's trace or a new one."""
    above = trace.get_current_span(parent).get_span_context()
    trace_id = above.trace_id if above.is_valid else _new_ids.generate_trace_id()
    return NonRecordingSpan(SpanContext(trace_id, _new_ids.generate_span_id(), is_remote=False))


def _plain(value: Any) -> str | int | float:
    return value if isinstance(value, str | int | float) else str(value)


def current_traceparent() -> str | None:
    """The W3C ``traceparent`` of the current span, to be stored with the work it asks for."""
    context = trace.get_current_span().get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else None
