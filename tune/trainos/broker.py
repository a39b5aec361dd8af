"""A sandboxed job's only way out: an HTTP proxy (RFC 9112, 3.2) to the gateway and to the object store, and to nobody else.

Calls to the gateway get the job's token here, so the job never holds it. Presigned URLs go to the store as they are; where that speaks
TLS, through a tunnel (CONNECT). What comes in was written by hostile code: every request is parsed and written anew, with a length that
is known, so that none hides in another.
"""

from __future__ import annotations

import http.client
import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from urllib.parse import SplitResult, urlsplit

GATEWAY = "http://aidos.internal"
"""What the gateway is called in a sandbox: a name that only the broker knows."""
MAX_CONNECTIONS = 64
_IDLE_S, _ANSWER_S, _CONNECT_S = 120.0, 120.0, 10.0
_PIECE = 2**16
# RFC 9110, 7.6.1; the length is written anew.
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"}
_OWN = _HOP_BY_HOP | {"host", "content-length", "transfer-encoding", "expect"}
# Who calls, and from where, is not the job's to say.
_CALLER = {"authorization", "cookie", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}


class Refused(Exception):
    """A request that is not passed on."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True)
class Ways:
    """Where requests may go, as URLs; ``token`` reads the job's present one."""

    gateway: str
    store: str
    token: Callable[[], str]


class Broker(ThreadingMixIn, TCPServer):
    """Serves a socket that listens already, in threads that end with this process."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, ways: Ways) -> None:
        super().__init__(listener.getsockname(), _Conversation, bind_and_activate=False)
        self.socket.close()
        self.socket, self.ways = listener, ways
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self.serve_forever, name="aidos-broker", daemon=True).start()

    def process_request(self, request: object, client_address: object) -> None:
        """Who comes when all places are taken waits."""
        self._free.acquire()
        super().process_request(request, client_address)  # type: ignore[arg-type]  # as it came

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]  # as it came
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: who hangs up, or is killed, is no news, and a job's log is the job's."""


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "aidos-broker", ""
    timeout = _IDLE_S
    server: Broker

    def do_CONNECT(self) -> None:
        store = urlsplit(self.server.ways.store)
        if store.scheme != "https" or self.path != f"{store.hostname}:{store.port or 443}":
            self._refuse(Refused(403, _only(self.path)))
            return
        with socket.create_connection((store.hostname or "", store.port or 443), _CONNECT_S) as upstream:
            self.send_response(200)
            self.end_headers()
            _relay(self.connection, upstream)
        self.close_connection = True

    def _forward(self) -> None:
        try:
            upstream, path, headers = self._route()
            body_bytes = self._body_bytes()
        except Refused as refused:
            self._refuse(refused)
            return
        connection = _connect(upstream)
        try:
            self._send(connection, path, headers, body_bytes)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._refuse(Refused(503, f"{upstream.netloc} does not answer ({error})"))
            return
        with answer:
            self._answer(answer)
        connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward  # noqa: N815 (names that http.server looks for)

    def _route(self) -> tuple[SplitResult, str, list[tuple[str, str]]]:
        """Where to, which path, and the headers for it. Raises: Refused."""
        ways = self.server.ways
        gateway, store = urlsplit(ways.gateway), urlsplit(ways.store)
        try:
            url = urlsplit(self.path)
        except ValueError as error:
            raise Refused(400, str(error)) from error
        path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        if url.scheme == "http" and url.netloc in (urlsplit(GATEWAY).netloc, gateway.netloc):
            headers = [(name, value) for name, value in self._headers() if name.lower() not in _CALLER]
            return gateway, path, [*headers, ("Host", gateway.netloc), ("Authorization", f"Bearer {ways.token()}")]
        if url.scheme == store.scheme == "http" and url.netloc == store.netloc:
            return store, path, [*self._headers(), ("Host", store.netloc)]
        raise Refused(403, _only(url.netloc))

    def _headers(self) -> Iterator[tuple[str, str]]:
        return ((name, value) for name, value in self.headers.items() if name.lower() not in _OWN)

    def _body_bytes(self) -> int:
        """Raises: Refused for a body of unknown length."""
        given = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") or len(given) > 1 or not all(each.isascii() and each.isdigit() for each in given):
            self.close_connection = True
            raise Refused(411, "a body must come with one Content-Length")
        return int(given[0]) if given else 0

    def _send(self, connection: http.client.HTTPConnection, path: str, headers: list[tuple[str, str]], body_bytes: int) -> None:
        connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body_bytes or self.command in {"POST", "PUT", "PATCH"}:
            connection.putheader("Content-Length", str(body_bytes))
        connection.endheaders()
        while body_bytes:
            piece = self.rfile.read(min(_PIECE, body_bytes))
            if not piece:
                raise ConnectionResetError("the job hung up")
            connection.send(piece)
            body_bytes -= len(piece)

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        """Pass it on as it comes: an event stream is not kept back. Then hang up, so that idle connections take nobody's place."""
        self.send_response_only(answer.status, answer.reason)
        self.send_header("Connection", "close")
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP | {"transfer-encoding"}:
                self.send_header(name, value)
        bodiless = self.command == "HEAD" or answer.status in (204, 304)
        chunked = not bodiless and answer.getheader("Content-Length") is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not bodiless and (piece := answer.read1(_PIECE)):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, refused: Refused) -> None:
        problem = {"type": "about:blank", "title": "Refused by the sandbox", "status": refused.status, "detail": str(refused)}
        content = json.dumps(problem).encode()
        self.send_response_only(refused.status)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the gateway keeps its own record."""


def _only(host: str) -> str:
    return f"an untrusted job reaches the platform and its object store, and not {host[:200]!r}"


def _connect(upstream: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if upstream.scheme == "https" else http.client.HTTPConnection
    return kind(upstream.hostname or "", upstream.port, timeout=_ANSWER_S)


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until one side ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while found := ready.select(_IDLE_S):
            for key, _ in found:
                piece = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]  # a socket: it was registered here
                if not piece:
                    return
                key.data.sendall(piece)
