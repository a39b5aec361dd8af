"""A job's log, read from the object store piece by piece or line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aidos.client import Client

_FOLLOW_WAIT = "20s"
# Ray's words before a line of a worker: the name of a task or an actor, its process, and its node where that is another.
_WORKER = re.compile(r"\((?:rank (?P<rank>\d+) |.+? )?pid=\d+(?:, ip=[^)]+)?\) ")


class LogLine(NamedTuple):
    """A line of a log: its number from 1, the rank of the worker that printed it (None: none did), and its text as it was printed."""

    number: int
    rank: int | None
    text: str


def read_log(client: Client, job: str, *, follow: bool) -> Iterator[bytes]:
    """The pieces of a job's log in order; with ``follow``, those to come until its end."""
    job = str(client.jobs.get(job).id)
    after = 0
    while True:
        page = client.jobs.chunks(job, after=after, wait=_FOLLOW_WAIT if follow else "0s")
        for chunk in page.items:
            yield client.get_presigned(chunk.url).content
        after = page.last_seq
        if page.complete or (not follow and not page.items):
            return


def search_log(pieces: Iterable[bytes], word: str = "", rank: int | None = None) -> Iterator[LogLine]:
    """The lines with this word in them, upper or lower case, that this rank printed; all ranks and the driver where it is None."""
    wanted = word.casefold()
    for number, text in enumerate(_lines(pieces), 1):
        printed = _WORKER.match(text)
        line = LogLine(number, int(printed["rank"]) if printed and printed["rank"] else None, text)
        if wanted in text.casefold() and rank in (None, line.rank):
            yield line


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """A line may begin in one piece and end in the next; the last may have no end."""
    begun = b""
    for piece in pieces:
        *whole, begun = (begun + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if begun:
        yield begun.decode(errors="replace")
