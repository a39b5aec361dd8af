"""Calls over HTTP, synchronous and asynchronous: the same steps (``aidos.http.conversation``), two ways to take them."""

from __future__ import annotations

import copy
import functools
import json
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import httpx

from aidos.http.conversation import Block, Converser, Failure, Send, Sleep, Step, Steps
from aidos.http.failures import failure_of, reply_of
from aidos.http.paging import AsyncPages, SyncPages
from aidos.http.sse import AsyncEvents, SyncEvents
from aidos.http.wire import Reply, Request, ServerEvent
from aidos.schemas.common import PageOf

# httpx tells every URL at INFO, and a presigned one is a secret that would end in a job's log.
logging.getLogger("httpx").setLevel(logging.WARNING)

T = TypeVar("T")
USER_AGENT = "aidos/0.1.0"


@dataclass(frozen=True)
class Options:
    """What ``with_options`` changes."""

    timeout_s: float | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def http_options(url: str, timeout_s: float) -> dict[str, Any]:
    """Arguments of both httpx clients. Loopback is never behind a proxy, whatever the environment says."""
    trust_env = not is_loopback(url)
    return {
        "base_url": url,
        "trust_env": trust_env,
        "verify": _late_tls(trust_env),
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        "limits": httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30.0),
        "headers": {"User-Agent": USER_AGENT, "Accept": "application/json"},
        "follow_redirects": False,
    }


@functools.cache
def _late_tls(trust_env: bool) -> ssl.SSLContext:
    context = _LateTls(ssl.PROTOCOL_TLS_CLIENT)
    context.trust_env = trust_env
    return context


class _LateTls(ssl.SSLContext):
    """Reads the certificate authorities at a process's first TLS connection: that takes 25 ms, and over plain HTTP there is none."""

    trust_env = True

    @functools.cached_property
    def _read(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=self.trust_env)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._read.set_alpn_protocols(alpn_protocols)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self._read.wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._read.wrap_bio(*arguments, **options)


def is_loopback(url: str) -> bool:
    return httpx.URL(url).host in {"localhost", "127.0.0.1", "::1"}


class _Shared:
    """What both transports do alike: options, and requests and failures in httpx's terms."""

    def __init__(self, converser: Converser, timeout_s: float) -> None:
        self.converser, self.timeout_s, self.options = converser, timeout_s, Options()

    def with_options(self, *, timeout_s: float | None, idempotency_key: str | None, headers: Mapping[str, str] | None) -> Self:
        """A view of this transport, over the same connections."""
        other = copy.copy(self)
        known = self.options
        other.options = Options(
            timeout_s if timeout_s is not None else known.timeout_s,
            idempotency_key or known.idempotency_key,
            {**known.headers, **(headers or {})},
        )
        return other

    def _prepared(self, request: Request) -> Request:
        options = self.options
        content, headers = request.content, {**request.headers, **options.headers}
        if request.json is not None:
            content = json.dumps(request.json, ensure_ascii=False).encode()
            headers["Content-Type"] = "application/json"
        return replace(request, json=None, content=content, headers=headers, key=options.idempotency_key or request.key)

    def _arguments(self, step: Send) -> dict[str, Any]:
        request = step.request
        timeout_s = self.options.timeout_s or self.timeout_s
        return {
            "method": request.method,
            "url": request.path,
            "params": list(request.query) or None,
            "headers": dict(step.headers),
            "content": request.content,
            "timeout": httpx.Timeout(timeout_s + request.wait_s, connect=min(timeout_s, 5.0)),
        }


class SyncTransport(_Shared):
    """For ``aidos.Client``; safe for threads."""

    def __init__(self, converser: Converser, timeout_s: float) -> None:
        super().__init__(converser, timeout_s)
        self.http = httpx.Client(**http_options(converser.url, timeout_s))

    def send(self, request: Request, read: Callable[[Reply], T]) -> T:
        return read(self._run(self.converser.converse(self._prepared(request))))

    def send_presigned(self, request: Request) -> Reply:
        """To a whole URL that carries its own permission: with retries, without our token."""
        return self._run(self.converser.converse(request, signed=False))

    def pages(self, request: Request, read: Callable[[Reply], PageOf[T]], *, limit: int | None) -> SyncPages[T]:
        return SyncPages(lambda each: self.send(each, read), request, limit)

    def events(self, request: Request, read: Callable[[ServerEvent], T]) -> SyncEvents[T]:
        return SyncEvents(self.open, request, read, self.converser)

    def open(self, request: Request) -> httpx.Response:
        """A successful response whose body has not been read."""
        opened: list[httpx.Response] = []
        self.converse(self._prepared(request), functools.partial(self._open, opened))
        return opened[-1]

    def converse(self, request: Request, send: Callable[[Send], Reply | Failure]) -> Reply:
        """One call by a way of sending of its own, with the credential, the patience and the errors of all others."""
        return self._run(self.converser.converse(request), send)

    def close(self) -> None:
        self.http.close()

    def _run(self, steps: Steps, send: Callable[[Send], Reply | Failure] | None = None) -> Reply:
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return done.value
            outcome = (send or self._send)(step) if isinstance(step, Send) else _do(step)

    def _send(self, step: Send) -> Reply | Failure:
        try:
            return reply_of(self.http.request(**self._arguments(step)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return failure_of(error)

    def _open(self, opened: list[httpx.Response], step: Send) -> Reply | Failure:
        try:
            response = self.http.send(self.http.build_request(**self._arguments(step)), stream=True)
            if response.status_code >= 300:
                response.read()
                response.close()
                return reply_of(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return failure_of(error)
        opened.append(response)
        return Reply(response.status_code, response.headers, b"")


def _do(step: Block | Sleep) -> Any:
    return step.call() if isinstance(step, Block) else time.sleep(step.seconds)


class AsyncTransport(_Shared):
    """For ``aidos.AsyncClient``."""

    def __init__(self, converser: Converser, timeout_s: float) -> None:
        super().__init__(converser, timeout_s)
        self.http = httpx.AsyncClient(**http_options(converser.url, timeout_s))

    async def send(self, request: Request, read: Callable[[Reply], T]) -> T:
        return read(await self._run(self.converser.converse(self._prepared(request))))

    async def send_presigned(self, request: Request) -> Reply:
        """As ``SyncTransport.send_presigned``."""
        return await self._run(self.converser.converse(request, signed=False))

    def pages(self, request: Request, read: Callable[[Reply], PageOf[T]], *, limit: int | None) -> AsyncPages[T]:
        return AsyncPages(lambda each: self.send(each, read), request, limit)

    def events(self, request: Request, read: Callable[[ServerEvent], T]) -> AsyncEvents[T]:
        return AsyncEvents(self.open, request, read, self.converser)

    async def open(self, request: Request) -> httpx.Response:
        """A successful response whose body has not been read."""
        opened: list[httpx.Response] = []
        await self._run(self.converser.converse(self._prepared(request)), opened)
        return opened[-1]

    async def close(self) -> None:
        await self.http.aclose()

    async def _run(self, steps: Steps, opened: list[httpx.Response] | None = None) -> Reply:
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return done.value
            outcome = await self._take(step, opened)

    async def _take(self, step: Step, opened: list[httpx.Response] | None) -> Any:
        if isinstance(step, Block):
            return await anyio.to_thread.run_sync(step.call)
        if not isinstance(step, Send):
            return await anyio.sleep(step.seconds)
        arguments = self._arguments(step)
        try:
            if opened is None:
                return reply_of(await self.http.request(**arguments))
            return await self._open(arguments, opened)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return failure_of(error)

    async def _open(self, arguments: dict[str, Any], opened: list[httpx.Response]) -> Reply:
        response = await self.http.send(self.http.build_request(**arguments), stream=True)
        if response.status_code >= 300:
            await response.aread()
            await response.aclose()
            return reply_of(response)
        opened.append(response)
        return Reply(response.status_code, response.headers, b"")
