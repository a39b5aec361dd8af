"""What goes over the wire, without the library that carries it: a request, a reply, and a server-sent event."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import quote
from uuid import uuid4

from aidos.errors import InvalidRequest

T = TypeVar("T")

_PLACE = re.compile(r"\{(\w+)(:path)?\}")


@dataclass(frozen=True)
class Request:
    """One logical call. Its ``key`` stays the same over all repetitions, so that it may be sent again and has its effect once."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    wait_s: float = 0.0
    """How long the server was asked to hold the answer back; added to the time-out."""
    key: str = field(default_factory=lambda: uuid4().hex)

    def at(self, **query: str | None) -> Request:
        """The same call with other query values; None removes one."""
        kept = tuple(pair for pair in self.query if pair[0] not in query)
        return replace(self, query=kept + tuple((name, value) for name, value in query.items() if value is not None))


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event; ``id`` is where a broken stream is taken up again."""

    data: str
    event: str = "message"
    id: str = ""


class Transport(Protocol):
    """What carries calls. The synchronous one returns values and iterators, the asynchronous one awaitables and async iterators."""

    def send(self, request: Request, read: Callable[[Reply], Any]) -> Any: ...

    def pages(self, request: Request, read: Callable[[Reply], Any], *, limit: int | None) -> Any: ...

    def events(self, request: Request, read: Callable[[ServerEvent], Any]) -> Any: ...

    def with_options(self, *, timeout_s: float | None, idempotency_key: str | None, headers: Mapping[str, str] | None) -> Transport: ...


def path_parameters(path: str) -> list[str]:
    """Names in ``/v1/datasets/{dataset}/refs/{ref:path}``, in order."""
    return [name for name, _ in _PLACE.findall(path)]


def template(path: str) -> str:
    """The path as OpenAPI writes it: ``{ref:path}`` is ``{ref}``."""
    return _PLACE.sub(lambda place: f"{{{place[1]}}}", path)


def fill(path: str, values: Mapping[str, Any]) -> str:
    """The path with its parameters quoted. Raises: InvalidRequest for a value that could reach another path."""
    return _PLACE.sub(lambda place: quote_parameter(place[1], values[place[1]], nested=bool(place[2])), path)


def quote_parameter(name: str, value: Any, *, nested: bool = False) -> str:
    """One parameter of a path; ``nested`` lets slashes separate its segments, each checked on its own.

    Proxies and frameworks decode and normalise before they route, so quoting alone does not keep ``..`` or ``/`` in place.
    """
    text = str(value)
    segments = text.split("/") if nested else [text]
    if any(segment in {"", ".", ".."} for segment in segments):
        raise InvalidRequest(reason=f"{name} must not be empty, '.' or '..', got {text!r}.")
    if any(sign in segment for segment in segments for sign in ("/", "\\", "\x00")):
        raise InvalidRequest(reason=f"{name} must not contain a slash, backslash or NUL, got {text!r}.")
    try:
        return "/".join(quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError:
        raise InvalidRequest(reason=f"{name} must be valid Unicode, got {text!r}.") from None


class EventParser:
    """Server-sent events out of bytes (https://html.spec.whatwg.org/#event-stream-interpretation), with the state between them.

    Only LF and CRLF end a line: text in an event may hold the other signs that Python's ``splitlines`` would break at.
    An int is the server's ``retry`` in milliseconds, None a comment: a heartbeat.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._event, self._id = "", ""
        self.last_id = ""
        """Where to go on: an id may come without an event."""

    def feed(self, received: bytes) -> Iterator[ServerEvent | int | None]:
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode(errors="replace"))

    def _line(self, line: str) -> Iterator[ServerEvent | int | None]:
        if not line:
            self.last_id = self._id
            if self._data:
                yield ServerEvent(data="\n".join(self._data), event=self._event or "message", id=self._id)
            self._data, self._event = [], ""
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield None
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\x00" not in value:
            self._id = value
        elif name == "retry" and value.isdecimal():
            yield int(value)
