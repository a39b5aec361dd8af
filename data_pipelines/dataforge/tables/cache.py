"""A folder of files by name, shared by the processes of a machine: bounded in size, the longest unused go first.

Who uses an entry has a hard link to it, so that an entry can go at any time, and its bytes only after their last reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import urllib3

from aidos.errors import Unavailable
from aidos.transfers.downloading import object_changed
from data_pipelines.dataforge.tables.errors import FileChanged
from data_pipelines.dataforge.tables.models import Located

Part = tuple[int, int]
"""Bytes ``[start, end)`` of a file."""
_LOCKS, _LOCK = 64, "lock-"
_BLOCK = 2**20
_ABANDONED_S = 3600
_PARTIAL = ".partial"


class Cache:
    """``folder`` is made when first used. Entries are never written again."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    async def link(self, name: str, target: Path, make: Callable[[Path], Awaitable[None]], *, derived: bool = False) -> None:
        """Give ``target`` the entry's content; ``make`` writes it to a path of its own where it is not there, one process at a time.

        ``derived`` says that making it takes another entry, which is not derived: a few locks serve all entries, and one
        who held an entry's lock while they took another of the same kind would wait for themselves, or in a circle.
        """
        if await asyncio.to_thread(self._find, name, target):
            return
        async with self._locked(f"derived-{_bucket(name)}" if derived else _bucket(name)):
            if await asyncio.to_thread(self._find, name, target):
                return
            partial = self.folder / f"{name}.{uuid4().hex}{_PARTIAL}"
            try:
                await make(partial)
                await asyncio.to_thread(self._keep, partial, name, target)
            finally:
                partial.unlink(missing_ok=True)

    def measure(self, prefix: str) -> int:
        """Bytes of the entries whose names begin so."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name.startswith(prefix))
        return 0

    def holds(self, name: str) -> bool:
        """Whether the entry is there; it may go at any time."""
        return (self.folder / name).exists()

    def _find(self, name: str, target: Path) -> bool:
        entry = self.folder / name
        try:
            os.link(entry, target)
            os.utime(entry)
        except FileNotFoundError:
            return target.exists()
        return True

    def _keep(self, partial: Path, name: str, target: Path) -> None:
        partial.chmod(0o400)
        os.link(partial, target)
        partial.replace(self.folder / name)
        self.evict()

    @contextlib.asynccontextmanager
    async def _locked(self, lock_name: str) -> AsyncIterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / f"{_LOCK}{lock_name}").open("wb") as lock:
            while not _try_lock(lock.fileno()):
                await asyncio.sleep(0.02)
            yield

    def evict(self) -> None:
        """Remove the longest unused until the rest fits, and what a killed process left half written."""
        entries = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file() and not entry.name.startswith(_LOCK):
                    found = entry.stat()
                    entries.append((found.st_mtime, found.st_blocks * 512, entry))
        size_bytes = sum(size for _, size, _ in entries)
        for used_at, entry_bytes, entry in sorted(entries, key=lambda each: each[0]):
            partial = entry.name.endswith(_PARTIAL)
            if (time.time() - used_at > _ABANDONED_S) if partial else size_bytes > self.limit_bytes:
                Path(entry.path).unlink(missing_ok=True)
                size_bytes -= entry_bytes


def _bucket(name: str) -> str:
    return str(zlib.crc32(name.encode()) % _LOCKS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fetch(http: urllib3.PoolManager, file: Located, target: Path) -> None:
    """Write the file's bytes, checked against its SHA-256 as far as it is known. Raises: FileChanged, ImportedObjectChanged, Unavailable."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for block in _blocks(http, file) if file.size_bytes else ():
            digest.update(block)
            out.write(block)
    expected = file.place.sha256 if file.place else file.sha256
    if file.place and expected not in (None, digest.hexdigest()):
        raise object_changed(file, f"it had SHA-256 {expected} when it was verified, and has {digest.hexdigest()}")
    if file.place is None and digest.hexdigest() != expected:
        raise FileChanged(path=file.path, sha256=file.sha256, reason=f"what is stored has SHA-256 {digest.hexdigest()}")


def fetch_part(http: urllib3.PoolManager, file: Located, part: Part, target: Path) -> None:
    """Write a part as the object store keeps it: only a whole file has a SHA-256. Raises: as ``fetch``."""
    start, end = part
    with target.open("wb") as out:
        for block in _blocks(http, replace(file, offset_bytes=file.offset_bytes + start, size_bytes=end - start)):
            out.write(block)
        if out.tell() != end - start:
            raise FileChanged(path=file.path, sha256=file.sha256, reason="what is stored is shorter")


def _blocks(http: urllib3.PoolManager, file: Located):  # type: ignore[no-untyped-def]  # a generator of bytes
    span = {"Range": f"bytes={file.offset_bytes}-{file.offset_bytes + file.size_bytes - 1}"}
    try:
        answer = http.request("GET", str(file.url), headers={**span, **(file.place.headers if file.place else {})}, preload_content=False)
        try:
            if file.place and answer.status in {404, 412}:
                raise object_changed(file, "there is no such object now" if answer.status == 404 else "the object has other content now")
            if answer.status in {404, 416}:
                raise FileChanged(path=file.path, sha256=file.sha256, reason="what is stored is gone or shorter")
            if answer.status not in {200, 206}:
                raise Unavailable(reason=f"The object store answered {answer.status}.", retry_after_s=3)
            yield from answer.stream(_BLOCK)
        finally:
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(reason="The object store cannot be reached.", retry_after_s=3) from error
