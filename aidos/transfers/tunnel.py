"""A tunnel into a running job, from the user's side: a WebSocket to the gateway, with the messages of ``aidos.schemas.tunnel``."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from aidos.errors import AidosError, Unavailable
from aidos.http.conversation import Failure, Send
from aidos.http.transport import USER_AGENT, is_loopback
from aidos.http.wire import Reply, Request, quote_parameter
from aidos.schemas.tunnel import CONTENT_BYTES, END, INPUT, MESSAGE_BYTES, OUTPUT, TAKEN, WINDOW

if TYPE_CHECKING:
    from aidos.client import Client


class TunnelRefused(AidosError):
    """The job's side did not do what was asked."""

    status = 409
    title = "Not in this job"
    detail = "In job '{job}' {reason}."


class TunnelCut(Unavailable):
    """It ended in the middle: the job has ended, the node is away, or the credential is no longer good."""

    title = "The way into the job was cut"
    detail = "The way into job '{job}' was cut{reason}. 'aidos job get {job}' says whether it has ended."


class JobTunnel:
    """One tunnel. Iterating gives the messages of the job, ``END`` not among them: what it said is then in ``outcome``."""

    def __init__(self, client: Client, job: str, asked: dict[str, Any]) -> None:
        """Raises: AidosError as the gateway refuses it, Unreachable."""
        self._job = job
        self._ahead = threading.Semaphore(WINDOW)
        self._closing = contextlib.ExitStack()
        self._socket = _connect(client, job, self._closing)
        self._socket.send(json.dumps(asked))
        self.outcome: dict[str, Any] = {}

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Pass it on; input waits for what went before it to be taken. Does nothing once the tunnel has ended."""
        if kind == INPUT:
            self._ahead.acquire()
        try:
            self._socket.send(kind + content)
        except ConnectionClosed:
            return

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            while isinstance(message := self._socket.recv(), bytes):
                kind, content = message[:1], message[1:]
                if kind == TAKEN:
                    self._ahead.release()
                elif kind == END:
                    self.outcome = json.loads(content)
                    return
                else:
                    yield kind, content
        except ConnectionClosed as error:
            said = error.rcvd.reason if error.rcvd is not None else ""
            raise TunnelCut(job=self._job, reason=f": {said.rstrip('.')}" if said else "", retry_after_s=2) from None

    def close(self) -> None:
        """What it had begun in the job ends."""
        self._closing.close()
        self._ahead.release(WINDOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(client: Client, job: str, closing: contextlib.ExitStack) -> ClientConnection:
    """Tried again like any request: nothing is asked of the job before it is open."""
    url = client.transport.converser.url.rstrip("/")
    opened: list[ClientConnection] = []

    def send(step: Send) -> Reply | Failure:
        try:
            opening = connect(
                url.replace("http", "ws", 1) + step.request.path,
                additional_headers=dict(step.headers),
                user_agent_header=USER_AGENT,
                compression=None,
                max_size=MESSAGE_BYTES,
                proxy=None if is_loopback(url) else True,
                open_timeout=client.config.timeout_s,
            )
        except InvalidStatus as refused:
            response = refused.response
            return Reply(response.status_code, {k.lower(): v for k, v in response.headers.raw_items()}, bytes(response.body or b""))
        except (OSError, InvalidHandshake) as error:
            return Failure(str(error))
        opened.append(closing.enter_context(opening))
        return Reply(101, {}, b"")

    client.transport.converse(Request("GET", f"/v1/trainos/jobs/{quote_parameter('job', job)}/tunnel"), send)
    return opened[-1]


def forward(client: Client, job: str, port: int, connection: socket.socket) -> None:
    """Pass a local connection on to a port of the job, until either end closes it. Raises: TunnelRefused, TunnelCut, AidosError."""
    with connection, JobTunnel(client, job, {"port": port}) as tunnel:
        threading.Thread(target=_pass_in, args=(connection, tunnel), daemon=True).start()
        try:
            for kind, content in tunnel:
                if kind == OUTPUT:
                    connection.sendall(content)
        except OSError:
            return
        finally:
            _end(connection)
        if reason := tunnel.outcome.get("reason"):
            raise TunnelRefused(job=job, reason=reason)


def _pass_in(connection: socket.socket, tunnel: JobTunnel) -> None:
    try:
        while content := connection.recv(CONTENT_BYTES):
            tunnel.send(INPUT, content)
    except OSError:
        tunnel.close()
        return
    tunnel.send(INPUT)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
