"""Server-sent events, taken up again with ``Last-Event-ID`` where the connection broke."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import anyio
import httpx

from aidos.errors import InvalidRequest, from_problem
from aidos.http.conversation import Converser, Failure
from aidos.http.failures import failure_of
from aidos.http.streams import Events
from aidos.http.wire import EventParser, Request, ServerEvent

T = TypeVar("T")
STREAM_IDLE_S = 60.0
"""Longest silence on a stream; the gateway sends a comment far more often."""


class _Resumption:
    """Where a stream stands, so that it goes on after a break without losing or repeating an event.

    The gateway closes a finished stream with an event ``end``; one that refuses to go on sends ``error`` with a problem.
    """

    def __init__(self, request: Request, converser: Converser) -> None:
        self._request, self._converser = request, converser
        self._parser = EventParser()
        self._last_id, self._retry_s = "", 0.0
        self._broken_at: float | None = None
        self._breaks = 0
        self.done = False

    def next_request(self) -> Request:
        self._last_id = self._parser.last_id or self._last_id
        self._parser = EventParser()
        headers = {**self._request.headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return replace(self._request, headers=headers, wait_s=STREAM_IDLE_S)

    def feed(self, received: bytes) -> Iterator[ServerEvent]:
        for event in self._parser.feed(received):
            if event is None:
                self._breaks, self._broken_at = 0, None
            elif isinstance(event, int):
                self._retry_s = min(event / 1000, 30.0)
            elif event.event == "end":
                self.done = True
                return
            elif event.event == "error":
                self._refused(event)
            else:
                self._last_id = self._parser.last_id or self._last_id
                self._breaks, self._broken_at = 0, None
                yield event

    def broken(self, error: Exception) -> float:
        """The connection broke: how long to wait before the next. Raises: Unreachable when the budget is used up."""
        failure = failure_of(error) if isinstance(error, httpx.HTTPError) else Failure(str(error))
        now = self._converser.now()
        self._broken_at = now if self._broken_at is None else self._broken_at
        self._breaks += 1
        delay_s = self._converser.patience.delay_s(self._breaks, now - self._broken_at)
        if delay_s is None:
            raise self._converser.unreachable(failure, self._breaks, now - self._broken_at) from error
        return max(delay_s, self._retry_s)

    def _refused(self, event: ServerEvent) -> None:
        try:
            problem = dict(json.loads(event.data))
            status = int(problem.get("status", 500))
        except (TypeError, ValueError):
            problem, status = {"detail": event.data}, 500
        if status in {401, 503}:
            raise StreamBroken(str(problem.get("detail")))  # opening it again renews the token, or says the refusal
        raise from_problem(status, problem)


class StreamBroken(Exception):
    """The stream ended before its end."""


class SyncEvents(Events[T]):
    def __init__(
        self, connect: Callable[[Request], httpx.Response], request: Request, read: Callable[[ServerEvent], T], converser: Converser
    ) -> None:
        self._connect, self._read = connect, read
        self._state = _Resumption(request, converser)

    def __iter__(self) -> Iterator[T]:
        state = self._state
        while not state.done:
            response = self._connect(state.next_request())
            try:
                if refuse_other_than_events(response):
                    return
                for received in response.iter_bytes():
                    for event in state.feed(received):
                        yield self._read(event)
                    if state.done:
                        return
                raise StreamBroken("the stream ended early")
            except (httpx.TransportError, StreamBroken) as error:
                wait_s = state.broken(error)
            finally:
                response.close()
            time.sleep(wait_s)


class AsyncEvents(Events[T]):
    def __init__(
        self,
        connect: Callable[[Request], Awaitable[httpx.Response]],
        request: Request,
        read: Callable[[ServerEvent], T],
        converser: Converser,
    ) -> None:
        self._connect, self._read = connect, read
        self._state = _Resumption(request, converser)

    async def __aiter__(self) -> AsyncIterator[T]:
        state = self._state
        while not state.done:
            response = await self._connect(state.next_request())
            try:
                if refuse_other_than_events(response):
                    return
                async for received in response.aiter_bytes():
                    for event in state.feed(received):
                        yield self._read(event)
                    if state.done:
                        return
                raise StreamBroken("the stream ended early")
            except (httpx.TransportError, StreamBroken) as error:
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
