"""Server-sent events, taken up again with ``Last-Event-ID`` where the connection broke."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import anyio
import httpx

from aidos.conversation import Converser
from aidos.errors import InvalidRequest
from aidos.failures import failure_of
from aidos.streams import Events
from aidos.wire import EventParser, Request, ServerEvent

if TYPE_CHECKING:
    from aidos.transport import AsyncTransport, SyncTransport

T = TypeVar("T")
STREAM_IDLE_S = 60.0
"""Longest silence on a stream; the gateway sends a comment far more often."""


class _Resumption:
    """Where a stream stands, so that it goes on after a break without losing or repeating an event."""

    def __init__(self, request: Request, converser: Converser) -> None:
        self._request, self._converser = request, converser
        self._parser = EventParser()
        self._last_id, self._retry_s = "", 0.2
        self._broken_at: float | None = None
        self._breaks, self._quiet_ends, self._heard = 0, 0, False
        self.done = False

    def next_request(self) -> Request:
        self._parser, self._heard = EventParser(), False
        headers = {**self._request.headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return replace(self._request, headers=headers, wait_s=STREAM_IDLE_S)

    def feed(self, line: str) -> Iterator[ServerEvent]:
        for event in self._parser.feed(line.removesuffix("\r")):
            if isinstance(event, int):
                self._retry_s = min(event / 1000, 30.0)
                continue
            self._heard, self._breaks, self._broken_at = True, 0, None
            self._last_id = event.id or self._last_id
            if event.event == "end":
                self.done = True
                return
            yield event

    def ended(self) -> float:
        """The server closed in good order without saying ``end``: ask once more, and believe a second silence."""
        self._quiet_ends = 1 if self._heard else self._quiet_ends + 1
        self.done = self.done or self._quiet_ends > 1
        return 0.0 if self.done else self._retry_s

    def broken(self, error: httpx.HTTPError) -> float:
        """The connection broke: how long to wait before the next. Raises: Unreachable when the budget is used up."""
        failure = failure_of(error)
        now = self._converser.now()
        self._broken_at = self._broken_at or now
        self._breaks += 1
        delay_s = self._converser.patience.delay_s(self._breaks, now - self._broken_at)
        if delay_s is None:
            raise self._converser.unreachable(failure, self._breaks, now - self._broken_at) from error
        return delay_s


class SyncEvents(Events[T]):
    def __init__(self, transport: SyncTransport, request: Request, read: Callable[[ServerEvent], T]) -> None:
        self._transport, self._read = transport, read
        self._state = _Resumption(request, transport.converser)

    def __iter__(self) -> Iterator[T]:
        state = self._state
        while not state.done:
            response = self._transport.open(state.next_request())
            wait_s = 0.0
            try:
                if refuse_other_than_events(response):
                    return
                for line in response.iter_lines():
                    for event in state.feed(line):
                        yield self._read(event)
                    if state.done:
                        return
                wait_s = state.ended()
            except httpx.TransportError as error:
                wait_s = state.broken(error)
            finally:
                response.close()
            time.sleep(wait_s)


class AsyncEvents(Events[T]):
    def __init__(self, transport: AsyncTransport, request: Request, read: Callable[[ServerEvent], T]) -> None:
        self._transport, self._read = transport, read
        self._state = _Resumption(request, transport.converser)

    async def __aiter__(self) -> AsyncIterator[T]:
        state = self._state
        while not state.done:
            response = await self._transport.open(state.next_request())
            wait_s = 0.0
            try:
                if refuse_other_than_events(response):
                    return
                async for line in response.aiter_lines():
                    for event in state.feed(line):
                        yield self._read(event)
                    if state.done:
                        return
                wait_s = state.ended()
            except httpx.TransportError as error:
                wait_s = state.broken(error)
            finally:
                await response.aclose()
            await anyio.sleep(wait_s)


def refuse_other_than_events(response: httpx.Response) -> bool:
    """True when the server says that there is nothing more (204). Raises: InvalidRequest when the body is no stream."""
    if response.status_code == 204:
        return True
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise InvalidRequest(
            reason=f"{response.url.path} answered {response.headers.get('content-type', 'nothing')}, not a stream of events."
        )
    return False
