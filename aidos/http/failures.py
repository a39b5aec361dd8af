"""httpx's answers and errors in the terms of a conversation."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from aidos.errors import InvalidRequest
from aidos.http.conversation import Failure
from aidos.http.wire import Reply

_CALLERS_FAULT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def reply_of(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.content)


def failure_of(error: httpx.HTTPError | httpx.InvalidURL) -> Failure:
    """What a broken try means for the next. Raises: InvalidRequest when no repetition can help."""
    if isinstance(error, (*_CALLERS_FAULT, httpx.InvalidURL)):
        raise InvalidRequest(reason=f"The request cannot be sent: {error}.") from error
    reason = (str(error).strip() or type(error).__name__)[:200]
    if "certificate is not yet valid" in reason or "certificate has expired" in reason:
        reason += f"; here it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: is this machine's clock right?"
    return Failure(reason)
