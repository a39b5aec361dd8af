"""What a failed command says and returns: one sentence on standard error, and an exit code that means something."""

from __future__ import annotations

import json
import sys

from aidos.cli.output import CONTROL
from aidos.cli.session import Session
from aidos.errors import AidosError

FAILED, USAGE, NOT_FOUND, NOT_ALLOWED, CONFLICT, LIMIT, UNAVAILABLE = range(1, 8)

_BY_STATUS = {
    400: USAGE,
    401: NOT_ALLOWED,
    403: NOT_ALLOWED,
    404: NOT_FOUND,
    409: CONFLICT,
    412: CONFLICT,
    413: LIMIT,
    422: USAGE,
    429: LIMIT,
    503: UNAVAILABLE,
}
_REMEDY = {
    401: "Run `aidos login`, or set AIDOS_API_KEY.",
    503: "`aidos status` says what runs here; `aidos up` starts it.",
}


def exit_code(error: BaseException) -> int:
    """0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed or not signed in, 5 conflict, 6 limit, 7 unavailable."""
    return _BY_STATUS.get(error.status, FAILED) if isinstance(error, AidosError) else FAILED


def report(session: Session, error: Exception, *, debug: bool) -> int:
    """Say what went wrong, and what to do where the message does not; the exit code."""
    code = exit_code(error)
    if isinstance(error, AidosError):
        text, remedy = str(error), _REMEDY.get(error.status)
    elif isinstance(error, ModuleNotFoundError):
        text, remedy = f"This needs {error.name}, which is not installed here.", "`pip install 'aidos[server]'` installs the platform."
    elif isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        text, remedy = f"{error.strerror or error}{place}.", None
    else:
        text = f"{type(error).__name__}: {error}."
        remedy = "This is a fault of the aidos command. AIDOS_DEBUG=1 shows where."
    text = CONTROL.sub("\ufffd", text)
    if session.as_json:
        fields = error.fields if isinstance(error, AidosError) else {}
        kind = error.type if isinstance(error, AidosError) else "urn:aidos:client:failed"
        problem = {"type": kind, "detail": text, "exit_code": code, **{k: v for k, v in fields.items() if k not in {"type", "detail"}}}
        sys.stderr.write(json.dumps({"error": problem}, default=str) + "\n")
    else:
        sys.stderr.write(f"Error: {text}\n" + (f"{remedy}\n" if remedy and remedy not in text else ""))
    if debug:
        sys.excepthook(type(error), error, error.__traceback__)
    return code
