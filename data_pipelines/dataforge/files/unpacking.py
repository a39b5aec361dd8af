"""Bytes that unpack, within bounds: text to the last byte in UTF-8, and never absurdly more than the file has."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
from typing import Any

import pyarrow as pa

from data_pipelines.dataforge.files.quarantine import BadFile

MAX_RATIO = 200
MIN_BOMB_BYTES = 2**28


def unpack(path: str, file: Any) -> Any:
    """The file's content, whatever it is packed with by its name."""
    name = path.lower()
    return (
        gzip.GzipFile(fileobj=file) if name.endswith(".gz") else pa.CompressedInputStream(file, "zstd") if name.endswith(".zst") else file
    )


def check_ratio(packed_bytes: int, unpacked_bytes: int) -> None:
    """Raises: BadFile for what no real file unpacks to."""
    if unpacked_bytes > max(MIN_BOMB_BYTES, MAX_RATIO * packed_bytes):
        raise BadFile(f"{packed_bytes} bytes unpack to {unpacked_bytes} or more: a bomb")


class CheckedText(io.RawIOBase):
    """Bytes on their way through: UTF-8 to the last one, and not absurdly more than the file has."""

    def __init__(self, source: Any, packed_bytes: int) -> None:
        self._source, self._packed_bytes = source, packed_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._read_bytes = self._lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        before, self._read_bytes = self._read_bytes, self._read_bytes + len(data)
        check_ratio(self._packed_bytes, self._read_bytes)
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at, line = before - pending + error.start, self._lines + data.count(b"\n", 0, max(0, error.start - pending)) + 1
            found = error.object[error.start : error.start + 1].hex()
            raise BadFile(f"byte {at} is not UTF-8 ({found}), in line {line}: it has another encoding, or several") from None
        self._lines += data.count(b"\n")
        buffer[: len(data)] = data
        return len(data)


def check_archive(file: Any, size_bytes: int) -> None:
    """Raises: BadFile for a zip file that is none or that unpacks to absurdly much. Nothing is unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BadFile(f"it is no zip file: {first_line(error)}") from error
    check_ratio(size_bytes, total)


def first_line(error: BaseException) -> str:
    """What a library says in its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
