"""What the state of an object says of the file that it is."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.buckets import Seen
from data_pipelines.dataforge.models import File, Place
from data_pipelines.dataforge.verification.models import Fault, FaultKind

BATCH_BYTES = 2**30


def cut_batch(files: Sequence[File]) -> Sequence[File]:
    """The first files that have a gibibyte together, at least one: so much is read anew when the process dies."""
    size_bytes = 0
    for count, file in enumerate(files):
        size_bytes += file.size_bytes
        if count and size_bytes > BATCH_BYTES:
            return files[:count]
    return files


def find_fault(path: str, place: Place, seen: Seen) -> Fault | None:
    """Why the object is not what was imported; None: it is."""
    was = f"imported with ETag {place.etag} and {place.size_bytes} bytes"
    if seen.vanished:
        return Fault(path, place.uri, FaultKind.VANISHED, f"{was}; there is no such object now")
    if seen.sha256 is None or seen.size_bytes != place.size_bytes:
        return Fault(path, place.uri, FaultKind.CHANGED, f"{was}; the object has other content now")
    if place.sha256 not in (None, seen.sha256):
        return Fault(path, place.uri, FaultKind.CHANGED, f"{was}; it had SHA-256 {place.sha256} and has {seen.sha256}, under the same ETag")
    return None
