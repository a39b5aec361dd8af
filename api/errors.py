"""What the edge refuses before, or instead of, a module."""

from __future__ import annotations

from aidos.errors import AidosError, Conflict, InvalidPayload, InvalidRequest, NotFound, Unavailable


class MalformedBody(InvalidRequest):
    title = "Body is not JSON"
    detail = "The body must be valid UTF-8 JSON, nested at most {most} levels deep: {reason}."


class RouteNotFound(NotFound):
    title = "No such route"
    detail = "There is no {method} {path} here. GET /v1/openapi.json lists the routes."


class MethodNotAllowed(AidosError):
    status = 405
    title = "Method not allowed"
    detail = "This path answers to {allow}, not to {method}."


class IdempotencyKeyReused(Conflict):
    title = "Idempotency key was used for another request"
    detail = "The Idempotency-Key '{key}' was used with another body or route. Use a new key for a new request."


class RequestInProgress(Conflict):
    title = "The same request is in progress"
    detail = "A request with Idempotency-Key '{key}' is still running. Repeat it in a second."


class ChangeConflicts(Conflict):
    title = "Change conflicts with another"
    detail = "What this request names was made, changed or removed by another one. Read it again and repeat the change."


class RequestInvalid(InvalidPayload):
    title = "Request does not fit its schema"
    detail = "The request is not as the operation's schema says: {reason}."


class UnstorableValue(InvalidPayload):
    title = "Value cannot be stored"
    detail = "A value of the request is out of range, has the wrong form, or holds a character that cannot be stored, such as NUL."


class TookTooLong(Unavailable):
    title = "Request took too long"
    detail = "The request was not done within {limit_s} s and had no effect. Try again in {retry_after_s} s."


class UploadStalled(AidosError):
    status = 408
    title = "Upload stalled"
    detail = "No byte of the file has come for {limit_s} s, so nothing of it was stored. Send it again."


class Contended(Unavailable):
    title = "Too many changes at once"
    detail = "Other requests keep changing the same resource; this one had no effect. Try again in {retry_after_s} s."


class ActorAway(Unavailable):
    title = "A service is being restarted"
    detail = "The part of the platform that does this is being restarted. Try again in {retry_after_s} s."


class NotReady(Unavailable):
    title = "Not ready"
    detail = "The gateway runs, but cannot reach: {reason}. Try again in {retry_after_s} s."
