"""How one logical call is held until it succeeds or has to fail: what to send, when to wait, when to give up.

A generator says the next step and is told its outcome, so that the synchronous and the asynchronous transport run
the same rules. No I/O here.
"""

from __future__ import annotations

import functools
import json
import random
import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from aidos.errors import AidosError, Unavailable, from_problem
from aidos.http.credentials import Credential
from aidos.http.wire import Reply, Request

IN_PROGRESS = "urn:aidos:api:request-in-progress"
PROBLEM = "application/problem+json"
FOREIGN_404_BUDGET_S = 45.0
"""A proxy that has just come back answers 404 until it knows its routes; a wrong URL does so for ever."""


class Unreachable(Unavailable):
    """Nothing that speaks HTTP was reached, or it hung up on every try."""

    title = "The platform does not answer"
    detail = "{url} does not answer ({reason}), after {tries} tries in {elapsed_s} s. Is AIDOS_URL right? `aidos status` says what runs here; `aidos up` starts it."


class NotAidos(AidosError):
    """Something else answered: a proxy, or another server."""

    status = 502
    title = "The answer is not from AI-DOS"
    detail = "The answer was HTTP {answered}, and not from AI-DOS ({answer}). Is AIDOS_URL right?"


class StorageRefused(AidosError):
    """The object store did not take or give the bytes."""

    status = 502
    title = "The object store refused"
    detail = "The object store answered {status}: {answer} {remedy}"


@dataclass(frozen=True)
class Send:
    """Send it once; answered by a ``Reply`` or a ``Failure``."""

    request: Request
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Block:
    """Call something that may block; answered by what it returns."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Failure:
    """No answer; whether the request arrived is not known."""

    reason: str


Step = Send | Sleep | Block
Steps = Generator[Step, Any, Reply]


@dataclass(frozen=True)
class Patience:
    """Waiting between tries: exponential with full jitter, within a budget; ``Retry-After`` goes before."""

    budget_s: float = 60.0
    first_s: float = 0.2
    longest_s: float = 5.0

    def delay_s(self, tries: int, elapsed_s: float, retry_after_s: float | None = None) -> float | None:
        """How long to wait after ``tries`` failed ones, or None when the budget does not allow another."""
        left_s = self.budget_s - elapsed_s
        if retry_after_s is not None:
            # Spread over a tenth more, so that all who were turned away together do not come back together.
            wait_s = max(retry_after_s, self.first_s)
            return min(left_s, wait_s * random.uniform(1.0, 1.1)) if wait_s <= left_s else None
        wait_s = random.uniform(0.5, 1.0) * min(self.longest_s, self.first_s * 2.0 ** min(tries - 1, 20))
        return min(wait_s, left_s) if left_s > 0 else None


@dataclass
class Converser:
    """What all calls of a client share."""

    url: str
    credential: Credential
    project: str | None = None
    patience: Patience = field(default_factory=Patience)
    on_wait: Callable[[str, float], None] | None = None
    """Told the reason and the budget when a call has to wait, for progress."""
    traceparent: str | None = None
    """W3C Trace Context of what the calls are made for."""
    now: Callable[[], float] = time.monotonic

    def converse(self, request: Request, *, signed: bool = True) -> Steps:
        """The steps of one call, ending in its reply. ``signed=False``: to a presigned URL, which must not see the token."""
        started, tries, renewed = self.now(), 0, False
        while True:
            token = (yield from self._token()) if signed else None
            outcome = yield Send(request, self._headers(request, token) if signed else request.headers)
            tries += 1
            if isinstance(outcome, Reply) and outcome.status < 300:
                return outcome
            if isinstance(outcome, Reply) and outcome.status == 401 and signed and not renewed:
                renewed = yield Block(functools.partial(self.credential.renew, token))
                if renewed:
                    continue
            elapsed_s = self.now() - started
            delay_s = self._delay_s(outcome, tries, elapsed_s, signed)
            if delay_s is None:
                raise self._error(outcome, tries, elapsed_s, signed)
            if self.on_wait:
                self.on_wait(describe(outcome), self.patience.budget_s - elapsed_s)
            yield Sleep(delay_s)

    def _token(self) -> Generator[Step, Any, str | None]:
        return self.credential.token() if self.credential.ready else (yield Block(self.credential.token))

    def _headers(self, request: Request, token: str | None) -> dict[str, str]:
        headers = dict(request.headers)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if self.project:
            headers.setdefault("X-Aidos-Project", self.project)
        if self.traceparent:
            headers.setdefault("traceparent", self.traceparent)
        if request.method in {"POST", "PUT", "PATCH", "DELETE"}:
            headers.setdefault("Idempotency-Key", request.key)
        return headers

    def _delay_s(self, outcome: Reply | Failure, tries: int, elapsed_s: float, signed: bool) -> float | None:
        if isinstance(outcome, Failure):
            return self.patience.delay_s(tries, elapsed_s)
        ours = is_problem(outcome)
        if outcome.status in {429, 503}:
            return self.patience.delay_s(tries, elapsed_s, retry_after_s(outcome.headers))
        if outcome.status == 409 and problem_of(outcome).get("type") == IN_PROGRESS:
            return self.patience.delay_s(tries, elapsed_s)
        if outcome.status in ({502, 504} if signed else {500, 502, 504}) and not ours:
            return self.patience.delay_s(tries, elapsed_s)
        if outcome.status == 404 and signed and not ours and elapsed_s < FOREIGN_404_BUDGET_S:
            return self.patience.delay_s(tries, elapsed_s)
        return None

    def _error(self, outcome: Reply | Failure, tries: int, elapsed_s: float, signed: bool) -> AidosError:
        if isinstance(outcome, Failure):
            return self.unreachable(outcome, tries, elapsed_s)
        return error_of(outcome) if signed else storage_error(outcome)

    def unreachable(self, failure: Failure, tries: int, elapsed_s: float) -> Unreachable:
        return Unreachable(url=self.url, reason=failure.reason, tries=tries, elapsed_s=round(elapsed_s), retry_after_s=5)


def error_of(reply: Reply) -> AidosError:
    """The declared error in a reply, its message closed by the request id."""
    problem = problem_of(reply)
    if not problem:
        error: AidosError = NotAidos(answered=reply.status, answer=_text(reply))
        error.status = reply.status  # type: ignore[misc]  # of this instance
        return error
    error = from_problem(reply.status, problem)
    request_id = reply.headers.get("x-request-id") or problem.get("instance")
    if request_id:
        error.args = (f"{error} (request {request_id})",)
        error.fields["request_id"] = request_id
    return error


def storage_error(reply: Reply) -> StorageRefused:
    """What S3 said (its error document's Code and Message), and what to do about it."""
    text = reply.content[:2000].decode(errors="replace")
    said = [found[1] for name in ("Code", "Message") if (found := re.search(rf"<{name}>([^<]*)</{name}>", text))]
    failed = "It may be out of room: `aidos doctor`, where it runs, looks at its disk. What was uploaded stays; start it again then."
    ended = "The permission of an upload or download ends after an hour: start it again. If it was new, `aidos doctor` on the platform compares its clock with the store's."
    return StorageRefused(
        status=reply.status, answer=": ".join(said) or f"{_text(reply)}.", remedy=failed if reply.status >= 500 else ended
    )


def _text(reply: Reply) -> str:
    return " ".join(reply.content[:200].decode(errors="replace").split()) or "no body"


def is_problem(reply: Reply) -> bool:
    return reply.headers.get("content-type", "").split(";")[0].strip() == PROBLEM


def problem_of(reply: Reply) -> dict[str, Any]:
    """The problem document of a reply, or nothing."""
    try:
        problem = json.loads(reply.content) if is_problem(reply) else {}
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` as seconds from now; both its forms (RFC 9110, 10.2.3). Its date is one of the sender's clock, so its ``Date`` is now."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdecimal():
        return float(text)
    try:
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def describe(outcome: Reply | Failure) -> str:
    """Why a call has to wait, for a person."""
    if isinstance(outcome, Failure):
        return f"no answer ({outcome.reason})"
    return "too many requests" if outcome.status == 429 else f"not available now (HTTP {outcome.status})"
