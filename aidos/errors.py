"""Every error that AI-DOS raises on purpose: one class, one HTTP status, one sentence.

A leaf such as ``RunNotFound(NotFound)`` gives a ``title`` and a ``detail`` template; its fields fill the
template and travel as extension members of an RFC 9457 problem (``application/problem+json``). The
client rebuilds the class from ``type`` and, where it does not know it, the kind from ``status``.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

_REGISTRY: dict[str, type[AidosError]] = {}


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


class AidosError(Exception):
    """Base of all declared errors. Keyword fields fill ``detail`` and become extension members."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "AI-DOS failed"
    detail: ClassVar[str] = "The platform failed; the request id in the response finds the log line."
    type: ClassVar[str] = "urn:aidos:error"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Ray re-raises a remote error as a generated subclass (``RayTaskError(RunNotFound)``): not ours to register.
        if "RayTaskError" in cls.__name__ or "(" in cls.__name__:
            return
        parts = cls.__module__.split(".")
        module = parts[-2] if len(parts) > 1 and parts[-1] == "errors" else parts[0]
        cls.type = f"urn:aidos:{module}:{_kebab(cls.__name__)}"
        _REGISTRY[cls.type] = cls

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        try:
            message = self.detail.format(**fields)
        except (KeyError, IndexError):
            message = self.detail
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.fields, str(self)))


def _rebuild(cls: type[AidosError], fields: dict[str, Any], message: str) -> AidosError:
    error = cls(**fields)
    error.args = (message,)
    return error


class InvalidRequest(AidosError):
    """400: the request itself cannot be understood."""

    status = 400
    title = "Invalid request"
    detail = "{reason}"


class Unauthenticated(AidosError):
    """401: who is calling is not known."""

    status = 401
    title = "Not signed in"
    detail = "A valid API key or access token is required: {reason}. Send it as 'Authorization: Bearer …'."


class Forbidden(AidosError):
    """403: known, and not allowed."""

    status = 403
    title = "Not allowed"
    detail = "This needs the permission '{permission}'; you act as '{role}'. Ask an owner of the project for it."


class NotFound(AidosError):
    """404: not there, or in a project that the caller cannot see."""

    status = 404
    title = "Not found"
    detail = "There is no {noun} '{name}' here."


class Conflict(AidosError):
    """409: the state of the resource forbids it."""

    status = 409
    title = "Conflict"
    detail = "{reason}"


class PreconditionFailed(AidosError):
    """412: ``If-Match`` names another version of the resource."""

    status = 412
    title = "Changed meanwhile"
    detail = "The resource has ETag {actual}, not {expected}: read it again and repeat the change."


class PayloadTooLarge(AidosError):
    """413: the body is over the limit."""

    status = 413
    title = "Body too large"
    detail = "The body may have at most {limit_bytes} bytes. Upload large files by presigned URL."


class InvalidPayload(AidosError):
    """422: the payload is well-formed and wrong."""

    status = 422
    title = "Invalid payload"
    detail = "{reason}"


class TooManyRequests(AidosError):
    """429: a limit of the key, user or project is used up."""

    status = 429
    title = "Too many requests"
    detail = "The limit of {limit} requests a minute of this {subject} is used up. Try again in {retry_after_s} s."


class Unavailable(AidosError):
    """503: a part that is needed is away; the same request may succeed later."""

    status = 503
    title = "Not available now"
    detail = "{reason} Try again in {retry_after_s} s."


_KINDS = {cls.status: cls for cls in AidosError.__subclasses__()}


def from_problem(status: int, problem: dict[str, Any]) -> AidosError:
    """Rebuild the error that an RFC 9457 problem document describes."""
    cls = _REGISTRY.get(str(problem.get("type"))) or _KINDS.get(status, AidosError)
    fields = {key: value for key, value in problem.items() if key not in {"type", "title", "status", "detail", "instance"}}
    error = cls(**fields)
    if problem.get("detail"):
        error.args = (str(problem["detail"]),)
    if type(error).status != status:
        error.status = status  # type: ignore[misc]  # a kind this client does not know yet
    return error


def registered() -> dict[str, type[AidosError]]:
    """All declared errors by their ``type`` URN."""
    return dict(_REGISTRY)
