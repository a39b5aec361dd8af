"""What the state of an object says of the file that it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from aidos.schemas.dataforge.versions import is_in_place
from cluster.buckets import Seen
from cluster.objects import blob_key
from data_pipelines.dataforge.models import File, Place
from data_pipelines.dataforge.policy import SINGLE_PUT_BYTES
from data_pipelines.dataforge.verification.models import Fault, FaultKind, Unchecked

BATCH_BYTES = 2**30


def cut_batch(files: Sequence[File]) -> Sequence[File]:
    """The first files that have a gibibyte together, at least one: so much is read anew when the process dies."""
    size_bytes = 0
    for count, file in enumerate(files):
        size_bytes += file.size_bytes
        if count and size_bytes > BATCH_BYTES:
            return files[:count]
    return files


def find_unchecked(project_id: UUID, files: Iterable[File]) -> dict[str, Unchecked]:
    """Those contents that are too large for one PUT, by their SHA-256."""
    large = {file.sha256: file.size_bytes for file in files if file.size_bytes > SINGLE_PUT_BYTES and not is_in_place(file.sha256)}
    return {sha256: Unchecked(sha256, blob_key(project_id, sha256), size_bytes) for sha256, size_bytes in large.items()}


def find_fault(path: str, content: Place | Unchecked, seen: Seen) -> Fault | None:
    """Why the object is not what was imported or pushed; None: it is."""
    if isinstance(content, Place):
        return _find_fault_in_place(path, content, seen)
    if seen.vanished:
        return Fault(path, content.uri, FaultKind.VANISHED, f"pushed with {content.size_bytes} bytes; there is no such object now")
    if seen.sha256 != content.sha256:
        told = f"pushed as SHA-256 {content.sha256} with {content.size_bytes} bytes"
        return Fault(path, content.uri, FaultKind.CHANGED, f"{told}; the {seen.size_bytes} bytes that are stored have {seen.sha256}")
    return None


def _find_fault_in_place(path: str, place: Place, seen: Seen) -> Fault | None:
    was = f"imported with ETag {place.etag} and {place.size_bytes} bytes"
    if seen.vanished:
        return Fault(path, place.uri, FaultKind.VANISHED, f"{was}; there is no such object now")
    if seen.sha256 is None or seen.size_bytes != place.size_bytes:
        return Fault(path, place.uri, FaultKind.CHANGED, f"{was}; the object has other content now")
    if place.sha256 not in (None, seen.sha256):
        return Fault(path, place.uri, FaultKind.CHANGED, f"{was}; it had SHA-256 {place.sha256} and has {seen.sha256}, under the same ETag")
    return None
