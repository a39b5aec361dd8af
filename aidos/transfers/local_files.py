"""A directory on the client's machine: what is in it, what cannot be stored, and the SHA-256 of each file.

Hashes are kept in a cache by path, size, time of change and inode, so that a second push reads only what changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from aidos.config import cache_directory
from aidos.errors import InvalidRequest
from aidos.schemas.dataforge.versions import is_in_place, path_problem
from aidos.transfers.concurrent import batches

_SHOWN = 10
_TICK_NS, _COARSE_TICK_NS = 50_000_000, 2_000_000_000
_GROUP = 16  # files a task: most are small
_ASKED_AT_ONCE = 10_000
_BROKEN = (sqlite3.Error, OSError, UnicodeEncodeError)  # the last of a name that is no UTF-8
_READABLE_BY_ALL = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


class DirectoryUnusable(InvalidRequest):
    title = "The directory cannot be pushed"
    detail = "{count} entries of {directory} cannot be stored, and nothing was pushed: {problems}. Rename, remove or repair them."


class FileChanged(InvalidRequest):
    title = "A file changed meanwhile"
    detail = "'{path}' changed while it was being pushed; nothing was committed. Push again when it is at rest."


class LocalFile(NamedTuple):
    """A file to push: the path that it gets, and where it lies with the marks that tell a later change."""

    path: str
    source: str
    size_bytes: int
    mtime_ns: int
    inode: int


def walk(directory: Path) -> list[LocalFile]:
    """Every file under ``directory`` by its path. Raises: DirectoryUnusable naming what cannot be stored."""
    if not directory.is_dir():
        raise DirectoryUnusable(count=1, directory=str(directory), problems="it is not a directory")
    root = os.path.realpath(directory)
    files: dict[str, LocalFile] = {}
    problems: list[str] = []
    for entry in _entries(root, "", (root,), problems):
        known = files.setdefault(entry.path, entry)
        if known is not entry:
            problems.append(f"{show(entry.source)}: another name here is '{entry.path}' too, in another Unicode form")
    if problems:
        shown = "; ".join(sorted(problems)[:_SHOWN]) + ("; …" if len(problems) > _SHOWN else "")
        raise DirectoryUnusable(count=len(problems), directory=str(directory), problems=shown)
    return [files[path] for path in sorted(files)]


def _entries(root: str, prefix: str, above: tuple[str, ...], problems: list[str]) -> Iterator[LocalFile]:
    """Files below the last of ``above``, the real folders from the root on; ``prefix`` is its path with a closing slash."""
    try:
        found = list(os.scandir(above[-1]))
    except OSError as error:
        problems.append(f"{show(prefix or above[-1])}: {error.strerror}")
        return
    for entry in found:
        path = prefix + (entry.name if entry.name.isascii() else unicodedata.normalize("NFC", entry.name))
        real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        reason, info = _look(root, path, real, above)
        if reason or info is None:
            problems.append(f"{show(prefix + entry.name)}: {reason}")
        elif stat.S_ISDIR(info.st_mode):
            yield from _entries(root, f"{path}/", (*above, real), problems)
        else:
            yield LocalFile(path, real, info.st_size, info.st_mtime_ns, info.st_ino)


def _look(root: str, path: str, real: str, above: tuple[str, ...]) -> tuple[str | None, os.stat_result | None]:
    """Why an entry cannot be stored, or what it is."""
    if reason := path_problem(path):
        return reason, None
    if real != root and not real.startswith(root + os.sep):
        return "a symbolic link that leaves the directory", None
    try:
        info = os.stat(real)
    except OSError as error:
        return error.strerror or "it cannot be read", None
    if stat.S_ISDIR(info.st_mode):
        return ("a symbolic link that leads back to a folder above it", None) if real in above else (None, info)
    if not stat.S_ISREG(info.st_mode):
        return "neither a file nor a folder (a socket, pipe or device)", None
    readable = info.st_mode & _READABLE_BY_ALL == _READABLE_BY_ALL or os.access(real, os.R_OK)
    return (None, info) if readable else ("it may not be read", None)


def show(name: str) -> str:
    """A name that may not be UTF-8, for a person: other bytes as ``\\xNN``."""
    return f"'{os.fsencode(name).decode(errors='backslashreplace')}'"


def sha256_of(path: str | Path) -> str:
    """Raises: OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashCache:
    """SHA-256 of local files that are as they were. A broken cache only costs time."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_directory() / "hashes.sqlite"

    def hash_all(self, files: Iterable[LocalFile], on_bytes: Callable[[int], None] = lambda _: None) -> dict[str, str]:
        """SHA-256 by the file's ``source``; ``on_bytes`` is told the size of each file as it is done. Raises: FileChanged."""
        files = list(files)
        began_ns = time.time_ns()
        hashes = self._read(files)
        missing = [file for file in files if file.source not in hashes]
        on_bytes(sum(file.size_bytes for file in files) - sum(file.size_bytes for file in missing))
        groups = list(batches(missing, _GROUP))
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
            for group, found in zip(groups, pool.map(_hash_group, groups), strict=True):
                hashes |= found
                on_bytes(sum(file.size_bytes for file in group))
        if settled := [(file, hashes[file.source]) for file in missing if _is_settled(file.mtime_ns, began_ns)]:
            self._write(settled)
        return hashes

    def resolve(self, contents: Mapping[str, str]) -> Mapping[str, str]:
        """SHA-256 by path of ``contents``, ids by path: what lies in place is known where it was read before, and else keeps its id."""
        placed = {id for id in contents.values() if is_in_place(id)}
        if not placed:
            return contents
        known = "SELECT contents.id, sha256 FROM contents JOIN json_each(?) ON contents.id = value"
        try:
            with self._open() as connection:
                found = dict(
                    row for batch in batches(list(placed), _ASKED_AT_ONCE) for row in connection.execute(known, (json.dumps(batch),))
                )
        except _BROKEN:
            return contents
        return {path: found.get(id, id) for path, id in contents.items()}

    def keep_contents(self, sha256: Mapping[str, str]) -> None:
        """Remember the SHA-256 of contents in place, by their ids."""
        with contextlib.suppress(*_BROKEN), self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?)", sha256.items())

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self._path, timeout=5)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS files (source TEXT PRIMARY KEY, size, mtime_ns, inode, sha256) WITHOUT ROWID")
            connection.execute("CREATE TABLE IF NOT EXISTS contents (id TEXT PRIMARY KEY, sha256) WITHOUT ROWID")
            yield connection

    def _read(self, files: list[LocalFile]) -> dict[str, str]:
        """Of those that are as they were; one walk over all that was ever kept between the first and the last of them."""
        sources = [file.source for file in files]
        known = "SELECT source, size, mtime_ns, inode, sha256 FROM files WHERE source BETWEEN ? AND ?"
        try:
            with self._open() as connection:
                rows = connection.execute(known, (min(sources), max(sources))).fetchall() if sources else []
        except _BROKEN:
            return {}
        kept = {row[:4]: row[4] for row in rows}
        return {file.source: sha256 for file in files if (sha256 := kept.get(file[1:]))}

    def _write(self, hashed: Iterable[tuple[LocalFile, str]]) -> None:
        rows = [(*file[1:], sha256) for file, sha256 in hashed]
        with contextlib.suppress(*_BROKEN), self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)


def _is_settled(mtime_ns: int, read_ns: int) -> bool:
    """Whether a change after it was read gets another time stamp: within a tick of the file system's clock it may not.

    A tick is 2 s where whole seconds are kept (FAT; ext3 and HFS+: 1 s), and at most 10 ms where more is.
    """
    return mtime_ns < read_ns - (_TICK_NS if mtime_ns % 1_000_000_000 else _COARSE_TICK_NS)


def _hash_group(files: list[LocalFile]) -> dict[str, str]:
    return {file.source: _hash(file) for file in files}


def _hash(file: LocalFile) -> str:
    try:
        sha256 = sha256_of(file.source)
        info = os.stat(file.source)
    except OSError as error:
        raise FileChanged(path=file.path) from error
    if (info.st_size, info.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        raise FileChanged(path=file.path)
    return sha256
