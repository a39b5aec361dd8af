"""Large files of which a question's process gets only what DuckDB reads: footers, and the column chunks that the question needs."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

SCHEME = "parts"
FOOTER_BYTES = 2**19
"""The end of a file comes at once, with the footers of most."""
_BLOCK = 2**16
_FILES_ARE_FROM = datetime.fromtimestamp(0, UTC)
Fetch = Callable[[int, int, int], Path]
"""Brings bytes ``[start, end)`` of the question's file of that number into a file."""


def locate(number: int) -> str:
    """The name of the question's file ``number`` for DuckDB."""
    return f"{SCHEME}://{number}"


class PartFiles(AbstractFileSystem):
    """The question's files by number, with their sizes. What was brought once is there for each handle and thread."""

    protocol = SCHEME
    cachable = False

    def __init__(self, sizes: Mapping[int, int], fetch: Fetch) -> None:
        super().__init__()
        self._numbers = {locate(number): number for number in sizes}
        self._sizes, self._fetch, self._asking = sizes, fetch, threading.Lock()
        self._held: dict[int, dict[tuple[int, int], Path]] = {number: {} for number in sizes}

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        """Raises: FileNotFoundError, PermissionError."""
        if mode != "rb":
            raise PermissionError(path)
        size_bytes = self.info(path)["size"]
        return _PartFile(self, self._numbers[path], size_bytes)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Raises: FileNotFoundError."""
        if path not in self._numbers:
            raise FileNotFoundError(path)
        return {"name": path, "size": self._sizes[self._numbers[path]], "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """No name is a pattern."""
        return [path] if path in self._numbers else []

    def modified(self, path: str) -> datetime:
        """A file of a commit never is."""
        return _FILES_ARE_FROM

    def read(self, number: int, start: int, end: int) -> bytes:
        """Bytes ``[start, end)``, as far as the file goes. Raises: OSError where a part is shorter than it was said to be."""
        end, blocks = min(end, self._sizes[number]), []
        while start < end:
            with self._asking:
                first, last = self._find(number, start) or self._fetch_part(number, start, end)
            with self._held[number][first, last].open("rb") as part:
                block = os.pread(part.fileno(), min(end, last) - start, start - first)
            if not block:
                raise OSError(f"Bytes {start} to {end} of file {number} are not there.")
            blocks.append(block)
            start += len(block)
        return b"".join(blocks)

    def _find(self, number: int, start: int) -> tuple[int, int] | None:
        return next(((first, last) for first, last in self._held[number] if first <= start < last), None)

    def _fetch_part(self, number: int, start: int, end: int) -> tuple[int, int]:
        size_bytes = self._sizes[number]
        first, last = start // _BLOCK * _BLOCK, min(-(-end // _BLOCK) * _BLOCK, size_bytes)
        if end > size_bytes - FOOTER_BYTES:
            first, last = min(first, max(0, size_bytes - FOOTER_BYTES)), size_bytes
        for held_first, held_last in self._held[number]:  # what is there is not brought again
            first = max(first, held_last) if held_last <= start else first
            last = min(last, held_first) if held_first > start else last
        self._held[number][first, last] = self._fetch(number, first, last)
        return first, last


class _PartFile(io.RawIOBase):
    """A position in one of the files."""

    def __init__(self, files: PartFiles, number: int, size_bytes: int) -> None:
        super().__init__()
        self._files, self._number, self._size, self._at = files, number, size_bytes, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        read = self._files.read(self._number, self._at, self._size if size < 0 else self._at + size)
        self._at += len(read)
        return read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
