"""Contents on their way to S3: small files in packs, others by one PUT each, large ones in parts; what is there is skipped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aidos.errors import Conflict
from aidos.schemas.dataforge.versions import SINGLE_PUT_BYTES, BlobState, MissingBlobRead, PackEntry, PackState
from aidos.transfers.concurrent import batches, each, patiently
from aidos.transfers.local_files import FileChanged, LocalFile, sha256_of

if TYPE_CHECKING:
    from aidos.client import Client

PACKED_BYTES = 2**20
"""Files below this size travel in packs."""
PACK_BYTES = 16 * 2**20
PACK_ENTRIES = 4000
_FEW = 8
"""Up to so many files go up one by one at once: that takes a request less than a pack."""
_THREADS = 8
_LARGE_THREADS = 4  # each holds a part of up to 64 MiB and more in memory


class UploadLost(Conflict):
    title = "An upload did not arrive"
    detail = "'{path}' was uploaded, but the object store does not have it with its size. Push again."


class Uploader:
    """Uploads to one dataset. ``on_bytes`` is told of every byte that is there, whether sent now or before."""

    def __init__(self, client: Client, dataset: str, on_bytes: Callable[[int], None]) -> None:
        self._client, self._datasets, self._dataset, self._on_bytes = client, client.datasets, dataset, on_bytes
        self._files: dict[str, LocalFile] = {}
        self.sent_files = self.sent_bytes = 0

    def upload(self, files: dict[str, LocalFile]) -> None:
        """Bring every content (by SHA-256) to the platform. Raises: FileChanged, UploadLost."""
        self._files = files
        states = [BlobState(sha256=sha256, size_bytes=file.size_bytes) for sha256, file in files.items()]
        few = len(states) <= _FEW
        missing = [blob for found in each(lambda batch: self._ask(batch, presign=few), batches(states, 1000), 4) for blob in found]
        self._on_bytes(sum(state.size_bytes for state in states) - sum(blob.size_bytes for blob in missing))
        small = [blob for blob in missing if blob.size_bytes < PACKED_BYTES and not few]
        large = [blob for blob in missing if blob.size_bytes > SINGLE_PUT_BYTES]
        middle = [blob for blob in missing if blob.size_bytes <= SINGLE_PUT_BYTES and (few or blob.size_bytes >= PACKED_BYTES)]
        each(self._send_pack, _fill_packs(small), _THREADS // 2)
        each(self._send_batch, batches(middle, _THREADS), _LARGE_THREADS)
        for blob in large:
            self._send_parts(blob)

    def _ask(self, states: list[BlobState], *, presign: bool = True) -> list[MissingBlobRead]:
        return self._datasets.uploads(self._dataset, blobs=states, presign=presign).missing

    def _send_pack(self, blobs: list[MissingBlobRead]) -> None:
        data, entries = bytearray(), []
        for blob in blobs:
            entries.append(PackEntry(sha256=blob.sha256, size_bytes=blob.size_bytes, offset_bytes=len(data)))
            data += self._read(blob)
        pack = PackState(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), entries=entries)
        for target in self._ask([BlobState(sha256=pack.sha256, size_bytes=pack.size_bytes)]):
            self._put(target, bytes(data))
        self._datasets.complete_uploads(self._dataset, packs=[pack])
        self._count(blobs)

    def _send_batch(self, blobs: list[MissingBlobRead]) -> None:
        known = all(blob.url for blob in blobs)
        for target in blobs if known else self._ask([BlobState(sha256=blob.sha256, size_bytes=blob.size_bytes) for blob in blobs]):
            self._put(target, self._read(target))
        self._complete(blobs)

    def _put(self, target: MissingBlobRead, data: bytes) -> None:
        """One PUT to a URL that takes nothing but this content."""
        patiently(lambda: self._client.put_presigned(str(target.url), data, target.headers))

    def _send_parts(self, blob: MissingBlobRead) -> None:
        """Upload the parts that S3 lacks, those of an interrupted push are there; then check that the file is still the same."""
        file = self._files[blob.sha256]
        wanted = self._datasets.upload_parts(self._dataset, sha256=blob.sha256, size_bytes=blob.size_bytes)

        def send(part: tuple[int, str]) -> None:
            number, url = part
            data = _slice(file, (number - 1) * wanted.part_size_bytes, wanted.part_size_bytes)
            patiently(lambda: self._client.put_presigned(url, data))
            self._on_bytes(len(data))

        there = blob.size_bytes - sum(
            min(wanted.part_size_bytes, blob.size_bytes - (p.number - 1) * wanted.part_size_bytes) for p in wanted.parts
        )
        self._on_bytes(there)
        each(send, [(part.number, part.url) for part in wanted.parts], _LARGE_THREADS)
        if sha256_of(file.source) != blob.sha256:
            raise FileChanged(path=file.path)
        self._complete([blob], told=True)

    def _complete(self, blobs: list[MissingBlobRead], told: bool = False) -> None:
        states = [BlobState(sha256=blob.sha256, size_bytes=blob.size_bytes) for blob in blobs]
        for sha256 in self._datasets.complete_uploads(self._dataset, blobs=states).missing:
            raise UploadLost(path=self._files[sha256].path)
        self._count(blobs, told)

    def _count(self, blobs: list[MissingBlobRead], told: bool = False) -> None:
        size_bytes = sum(blob.size_bytes for blob in blobs)
        self.sent_files += len(blobs)
        self.sent_bytes += size_bytes
        if not told:
            self._on_bytes(size_bytes)

    def _read(self, blob: MissingBlobRead) -> bytes:
        """The content, which must still be what was hashed. Raises: FileChanged."""
        file = self._files[blob.sha256]
        data = _slice(file, 0, blob.size_bytes + 1)
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise FileChanged(path=file.path)
        return data


def _slice(file: LocalFile, offset: int, length: int) -> bytes:
    try:
        with open(file.source, "rb") as opened:
            return os.pread(opened.fileno(), length, offset)
    except OSError as error:
        raise FileChanged(path=file.path) from error


def _fill_packs(blobs: Iterable[MissingBlobRead]) -> list[list[MissingBlobRead]]:
    packs: list[list[MissingBlobRead]] = []
    room_bytes = 0
    for blob in blobs:
        if not packs or room_bytes < blob.size_bytes or len(packs[-1]) == PACK_ENTRIES:
            packs.append([])
            room_bytes = PACK_BYTES
        packs[-1].append(blob)
        room_bytes -= blob.size_bytes
    return packs
