"""RFC 9457 problem documents, made without a web framework: the gateway and every endpoint's middleware answer with them."""

from __future__ import annotations

import json

from aidos.errors import AidosError

MEDIA_TYPE = "application/problem+json"
RESERVED = frozenset({"type", "title", "status", "detail", "instance"})

Headers = list[tuple[bytes, bytes]]


def to_problem(error: BaseException, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the problem that ``error`` is. What nobody declared says no more than its request id."""
    declared = _declared(error)
    members = {"type": declared.type, "title": declared.title, "status": declared.status, "detail": str(declared), "instance": request_id}
    members.update({name: value for name, value in declared.fields.items() if name not in RESERVED})
    body = json.dumps(members, default=str).encode()
    headers: Headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if isinstance(retry_after_s := declared.fields.get("retry_after_s"), int | float):
        headers.append((b"retry-after", str(max(1, round(retry_after_s))).encode()))
    if declared.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return declared.status, headers, body


def _declared(error: BaseException) -> AidosError:
    # Ray raises a generated subclass of the remote error whose own fields were never set: its cause is the error itself.
    if "(" in type(error).__name__ and isinstance(cause := getattr(error, "cause", None), BaseException) and cause is not error:
        return _declared(cause)
    return error if isinstance(error, AidosError) else AidosError()
