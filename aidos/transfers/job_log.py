"""A job's log, read from the object store piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aidos.client import Client

_FOLLOW_WAIT = "20s"


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
