"""Files on their way from S3: checked by SHA-256, put in place by a rename, taken up again where they broke off."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aidos.errors import AidosError, InvalidRequest
from aidos.http.conversation import StorageRefused
from aidos.schemas.dataforge.versions import DownloadRead, FileRead
from aidos.transfers.concurrent import batches, each, patiently
from aidos.transfers.local_files import HashCache

if TYPE_CHECKING:
    from aidos.client import Client

_THREADS = 8
_SPAN_BYTES = 16 * 2**20
_BATCH = 1000
_OTHERWISE = {404: "there is no such object now", 412: "the object has other content now"}
"""What it means when S3 answers so to a request for exactly what was imported."""


class FileDamaged(AidosError):
    status = 500
    title = "A file is damaged"
    detail = (
        "The content of '{path}' does not have its SHA-256 {sha256}. The copy in the object store is damaged: restore it from a backup."
    )


class ImportedObjectChanged(AidosError):
    status = 409
    title = "An imported object is not what it was"
    detail = (
        "'{path}' lies in place at {uri} and was imported with ETag {etag} and {size_bytes} bytes; {found}. "
        "Put that object back, or take what is there now: 'aidos dataset import' of the same prefix makes a new commit of it."
    )


class RangeCut(AidosError):
    status = 502
    title = "The object store gave another range"
    detail = "The object store gave {given_bytes} bytes where {asked_bytes} were asked for. Try again; a proxy on the way may not know HTTP Range."


class OutsideDirectory(InvalidRequest):
    title = "A file would leave the directory"
    detail = "'{path}' is not written: in {directory} it would lead outside, through a symbolic link. Pull into an empty directory."


class PathBlocked(InvalidRequest):
    title = "Something is in the way"
    detail = "'{path}' cannot be written in {directory}: {reason}. Move what is there, or pull into an empty directory."


class Spot(Protocol):
    """An object that was imported as it lies."""

    @property
    def uri(self) -> str: ...
    @property
    def etag(self) -> str: ...


class Placed(Protocol):
    """A file of a commit and where it lies in place."""

    @property
    def path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def place(self) -> Spot | None: ...


@dataclass(frozen=True)
class Span:
    """Neighbouring slices of one source, read by one request."""

    source: str
    offset_bytes: int
    files: list[DownloadRead]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def read_range(client: Client, url: str, offset: int, length: int, file: DownloadRead | None = None) -> bytes:
    """Bytes of a presigned URL, which ``file`` has. Raises: RangeCut when the object store keeps giving others, ImportedObjectChanged."""
    placed = file if file and file.place else None
    headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
    if placed and placed.place:
        headers |= placed.place.headers

    def read() -> bytes:
        try:
            data = client.get_presigned(url, headers).content
        except StorageRefused as error:
            if placed and error.fields["status"] in _OTHERWISE:
                raise object_changed(placed, _OTHERWISE[error.fields["status"]]) from error
            raise
        if len(data) != length:
            raise RangeCut(given_bytes=len(data), asked_bytes=length)
        return data

    return patiently(read)


def check_content(file: DownloadRead, sha256: str) -> None:
    """Refuse bytes that are not the file's, by their SHA-256. In place it is known once verified. Raises: FileDamaged, ImportedObjectChanged."""
    if file.place is None and sha256 != file.sha256:
        raise FileDamaged(path=file.path, sha256=file.sha256)
    if file.place and file.place.sha256 not in (None, sha256):
        raise object_changed(file, f"it had SHA-256 {file.place.sha256} when it was verified, and has {sha256}")


def object_changed(file: Placed, found: str) -> ImportedObjectChanged:
    """The error that says what was found where the bytes of an imported file should be."""
    assert file.place is not None
    return ImportedObjectChanged(path=file.path, uri=file.place.uri, etag=file.place.etag, size_bytes=file.size_bytes, found=found)


class Downloader:
    """Writes files of one commit under ``root``, never outside of it."""

    def __init__(self, client: Client, dataset: str, ref: str, root: Path, on_bytes: Callable[[int], None]) -> None:
        self._client, self._dataset, self._ref, self._on_bytes = client, dataset, ref, on_bytes
        self._root = Path(os.path.realpath(root))
        self._folders: dict[Path, Path] = {}
        self._read: dict[str, str] = {}

    def target(self, path: str) -> Path:
        """Where a file goes, its folder made. Raises: OutsideDirectory, PathBlocked."""
        wanted = self._root / path
        folder = self._folders.get(wanted.parent)
        if folder is None:
            try:
                # Made only below what is surely inside, so that no folder is made through a link either.
                self._refuse_outside(path, wanted.parent)
                wanted.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PathBlocked(path=path, directory=str(self._root), reason=error.strerror) from error
            folder = self._folders[wanted.parent] = wanted.parent
        if wanted.is_dir() and not wanted.is_symlink():
            raise PathBlocked(path=path, directory=str(self._root), reason="there is a folder of that name")
        return folder / wanted.name

    def _refuse_outside(self, path: str, folder: Path) -> None:
        real = Path(os.path.realpath(folder))
        if not real.is_relative_to(self._root):
            raise OutsideDirectory(path=path, directory=str(self._root))

    def download(self, files: list[FileRead]) -> None:
        """Write the files. Raises: FileDamaged, ImportedObjectChanged, OutsideDirectory, PathBlocked."""
        try:
            each(self._download_batch, batches(files, _BATCH), 2)
        finally:
            if self._read:
                HashCache().keep_contents(self._read)

    def _download_batch(self, files: list[FileRead]) -> None:
        found = self._client.datasets.downloads(self._dataset, ref=self._ref, paths=[file.path for file in files])
        for file in found.files:
            if file.source is None:
                self._place(file, b"")
        large = [file for file in found.files if file.size_bytes > _SPAN_BYTES and file.source is not None]
        spans = plan_spans([file for file in found.files if file.size_bytes <= _SPAN_BYTES], found.sources)
        each(self._read_span, spans, _THREADS // 2)
        for file in large:
            self._read_large(file, found.sources[file.source or 0])

    def _read_span(self, span: Span) -> None:
        data = memoryview(read_range(self._client, span.source, span.offset_bytes, span.size_bytes, span.files[0]))
        at = 0
        for file in span.files:
            self._place(file, data[at : at + file.size_bytes])
            at += file.size_bytes

    def _place(self, file: DownloadRead, data: bytes | memoryview) -> None:
        self._check(file, hashlib.sha256(data).hexdigest())
        target = self.target(file.path)
        part = self._part(target, file)
        with _open_new(part, os.O_TRUNC) as opened:
            opened.write(data)
        os.replace(part, target)
        self._on_bytes(file.size_bytes)

    def _read_large(self, file: DownloadRead, url: str) -> None:
        """In ranges, in parallel in rows of threads, appended in order: what an interrupted pull wrote is kept."""
        target = self.target(file.path)
        part = self._part(target, file)
        with _open_new(part) as opened:
            at = min(opened.seek(0, os.SEEK_END), file.size_bytes) // _SPAN_BYTES * _SPAN_BYTES
            self._on_bytes(at)
            starts = range(at, file.size_bytes, _SPAN_BYTES)
            for row in batches(starts, _THREADS // 2):
                ranges = [(start, min(_SPAN_BYTES, file.size_bytes - start)) for start in row]
                got = each(lambda each_: read_range(self._client, url, file.offset_bytes + each_[0], each_[1], file), ranges, _THREADS // 2)
                opened.seek(row[0])
                opened.truncate()
                for data in got:
                    opened.write(data)
                    self._on_bytes(len(data))
            opened.flush()
            opened.seek(0)
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        try:
            self._check(file, sha256)
        except AidosError:
            part.unlink()
            raise
        os.replace(part, target)

    def _check(self, file: DownloadRead, sha256: str) -> None:
        check_content(file, sha256)
        if file.place:
            self._read[file.sha256] = sha256

    @staticmethod
    def _part(target: Path, file: DownloadRead) -> Path:
        # Short, since a name may be as long as the file system allows; the content decides, so that a later pull finds it.
        return target.with_name(f".{file.sha256[-16:]}-{hashlib.sha256(target.name.encode()).hexdigest()[:8]}.aidos-part")


def plan_spans(files: Iterable[DownloadRead], sources: list[str]) -> list[Span]:
    """Slices that touch are read together, up to 16 MiB at once."""
    spans: list[Span] = []
    placed = [file for file in files if file.source is not None]
    for file in sorted(placed, key=lambda file: (file.source, file.offset_bytes)):
        source = sources[file.source or 0]
        last = spans[-1] if spans else None
        touches = last and last.source == source and last.offset_bytes + last.size_bytes == file.offset_bytes
        if last and touches and last.size_bytes + file.size_bytes <= _SPAN_BYTES:
            last.files.append(file)
        else:
            spans.append(Span(source, file.offset_bytes, [file]))
    return spans


@contextlib.contextmanager
def _open_new(path: Path, flags: int = 0):  # type: ignore[no-untyped-def]  # a binary file
    """A file for reading and writing, made if need be, never through a symbolic link."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o666), "r+b") as opened:
        yield opened
