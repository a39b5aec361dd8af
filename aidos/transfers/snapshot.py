"""The files of one commit and where their bytes are, read by ranges straight from S3: neighbours together, several at once."""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from aidos.client import Client
from aidos.schemas.dataforge.versions import CommitRead, DownloadRead, FileRead
from aidos.transfers.concurrent import batches, each
from aidos.transfers.downloading import check_content, read_range
from aidos.transfers.listing import folders_of, read_listing

_URL_LIFE_S = 1200.0
_AHEAD = 500
_ASKED_AT_ONCE = 1000
_THREADS = 8
_SPAN_BYTES = 16 * 2**20
_GAP_BYTES = 256 * 2**10
"""Reading so many bytes for nothing costs less than another request."""


class Located(NamedTuple):
    """Where a file's bytes are: a presigned URL, good until a moment of this process's clock."""

    file: DownloadRead
    url: str
    until: float


class Slice(NamedTuple):
    """Bytes of a presigned URL, and the file that they are of."""

    url: str
    offset_bytes: int
    size_bytes: int
    file: DownloadRead | None = None


class Snapshot:
    """The files and folders of one commit, and where their bytes are."""

    def __init__(self, client: Client, dataset: str, commit: CommitRead) -> None:
        self.client, self.dataset, self.commit = client, dataset, commit
        self.files = read_listing(client, dataset, commit.id)
        self.folders = folders_of(self.files)
        self.paths = list(self.files)
        self._places: dict[str, Located] = {}
        self._asking = threading.Lock()

    def find(self, path: str) -> FileRead | None:
        """The file of exactly this path."""
        return self.files.get(path)

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of a file that is there and has them; all of them are checked.

        Raises: RangeCut, FileDamaged, ImportedObjectChanged.
        """
        if start >= end:
            return b""
        with self._asking:
            if not self._knows(path):
                # Those after it in the order of paths are often read next.
                at = bisect_left(self.paths, path)
                self._ask([each_ for each_ in self.paths[at : at + _AHEAD] if self.files[each_].size_bytes])
            file, url, _until = self._places[path]
        data = read_range(self.client, url, file.offset_bytes + start, end - start, file)
        return _checked(file, data)

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """``read`` of many (path, start, end): one question for a thousand files, one request for what lies side by side."""
        wanted = {path for path, start, end in ranges if start < end}
        with self._asking:
            for batch in batches(sorted(path for path in wanted if not self._knows(path)), _ASKED_AT_ONCE):
                self._ask(batch)
            places = {path: self._places[path] for path in wanted}
        asked = [(places[path], start, end) for path, start, end in ranges if start < end]
        slices = [Slice(url, file.offset_bytes + start, end - start, file) for (file, url, _until), start, end in asked]
        found = iter(read_slices(self.client, slices))
        return [next(found) if start < end else b"" for _, start, end in ranges]

    def _knows(self, path: str) -> bool:
        known = self._places.get(path)
        return known is not None and known.until > time.monotonic()

    def _ask(self, paths: list[str]) -> None:
        found = self.client.datasets.downloads(self.dataset, ref=str(self.commit.id), paths=paths)
        until = time.monotonic() + _URL_LIFE_S
        for file in found.files:
            if file.source is not None:
                self._places[file.path] = Located(file, found.sources[file.source], until)


def read_slices(client: Client, slices: Sequence[Slice]) -> list[bytes]:
    """The bytes of each slice, in order. What lies close together in one source is read by one request.

    Raises: RangeCut, FileDamaged, ImportedObjectChanged.
    """
    spans = plan_reads(slices)

    def fetch(members: list[int]) -> list[tuple[int, bytes]]:
        first = slices[members[0]].offset_bytes
        last = max(slices[index].offset_bytes + slices[index].size_bytes for index in members)
        data = read_range(client, slices[members[0]].url, first, last - first, slices[members[0]].file)
        cut = ((index, slices[index].offset_bytes - first) for index in members)
        return [(index, _checked(slices[index].file, data[at : at + slices[index].size_bytes])) for index, at in cut]

    read = each(fetch, spans, _THREADS) if len(spans) > 1 else [fetch(span) for span in spans]
    found = dict(pair for span in read for pair in span)
    return [found[index] for index in range(len(slices))]


def _checked(file: DownloadRead | None, data: bytes) -> bytes:
    """A whole content is the one that the commit names. Raises: FileDamaged, ImportedObjectChanged."""
    if file and len(data) == file.size_bytes:
        check_content(file, hashlib.sha256(data).hexdigest())
    return data


def plan_reads(slices: Sequence[Slice]) -> list[list[int]]:
    """Indices of the slices that one request reads: of one source, at most 256 KiB apart, at most 16 MiB together."""
    spans: list[list[int]] = []
    first = end = 0
    for index in sorted(range(len(slices)), key=lambda index: slices[index][:3]):
        piece = slices[index]
        piece_end = piece.offset_bytes + piece.size_bytes
        same = spans and slices[spans[-1][0]].url == piece.url and piece.offset_bytes - end <= _GAP_BYTES
        if same and max(end, piece_end) - first <= _SPAN_BYTES:
            spans[-1].append(index)
            end = max(end, piece_end)
        else:
            spans.append([index])
            first, end = piece.offset_bytes, piece_end
    return spans
