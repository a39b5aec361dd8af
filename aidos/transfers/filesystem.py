"""fsspec: ``aidos://dataset@ref/path`` for pandas, polars, pyarrow, Ray Data and torch. For reading; ``aidos.push`` writes.

A commit never changes, so its listing and the places of its bytes are kept; bytes come straight from S3 by presigned
URLs. Files of one folder are asked for together, so that reading them one by one costs one question, not one each.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from aidos.client import Client
from aidos.errors import NotFound
from aidos.schemas.dataforge.versions import CommitRead, FileRead
from aidos.transfers.downloading import read_range
from aidos.transfers.listing import folders_of, pinned_ref, read_listing

_MOVES_S = 5.0
_URL_LIFE_S = 1200.0
_AHEAD = 500
_WHOLE_BYTES = 8 * 2**20


class Snapshot:
    """The files and folders of one commit, and where their bytes are."""

    def __init__(self, client: Client, dataset: str, commit: CommitRead) -> None:
        self.dataset, self.commit = dataset, commit
        self.files = read_listing(client, dataset, commit.id)
        self.folders = folders_of(self.files)
        self.paths = list(self.files)
        self._places: dict[str, tuple[str, int, float]] = {}
        self._asking = threading.Lock()

    def place(self, client: Client, path: str) -> tuple[str, int]:
        """URL and offset of a file's bytes."""
        with self._asking:
            known = self._places.get(path)
            if known is None or known[2] < time.monotonic():
                self._ask(client, path)
                known = self._places[path]
            return known[:2]

    def _ask(self, client: Client, path: str) -> None:
        """Ask for the file and those after it in the order of paths: they are often read next."""
        at = bisect_left(self.paths, path)
        wanted = [each for each in self.paths[at : at + _AHEAD] if self.files[each].size_bytes]
        found = client.datasets.downloads(self.dataset, ref=str(self.commit.id), paths=wanted)
        until = time.monotonic() + _URL_LIFE_S
        for file in found.files:
            if file.source is not None:
                self._places[file.path] = (found.sources[file.source], file.offset_bytes, until)


class AidosFileSystem(AbstractFileSystem):
    """Datasets as folders. ``project``, ``url`` and ``api_key`` as for ``aidos.Client``; a job's token is found by itself."""

    protocol = "aidos"
    root_marker = ""

    def __init__(
        self, url: str | None = None, api_key: str | None = None, project: str | None = None, client: Client | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._options = (url, api_key, project)
        self._client, self._process = client, os.getpid() if client else 0
        self._heads: dict[tuple[str, str], tuple[CommitRead, float]] = {}
        self._snapshots: dict[UUID, Snapshot] = {}

    @property
    def client(self) -> Client:
        """A client of this process: a forked one must not share its parent's connections."""
        if self._client is None or self._process != os.getpid():
            self._client, self._process = Client(*self._options), os.getpid()
        return self._client

    @property
    def fsid(self) -> str:
        return f"aidos:{self.client.config.url}:{self.client.config.project or ''}"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What a folder holds; without a path, the datasets. Raises: FileNotFoundError."""
        path = self._strip_protocol(path)
        if not path:
            names = [dataset.name for dataset in self.client.datasets.list()]
            entries = [{"name": name, "size": 0, "type": "directory"} for name in names]
        else:
            snapshot, inner = self._find(path)
            if inner in snapshot.files:
                entries = [self._entry(path, snapshot.files[inner])]
            elif inner in snapshot.folders:
                prefix = f"{inner}/" if inner else ""
                base = path[: len(path) - len(inner)].rstrip("/")
                entries = [
                    self._entry(f"{base}/{prefix}{name.rstrip('/')}", snapshot.files.get(prefix + name)) for name in snapshot.folders[inner]
                ]
            else:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size, type and SHA-256 of a file; for a folder its type. Raises: FileNotFoundError."""
        path = self._strip_protocol(path)
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        snapshot, inner = self._find(path)
        if inner not in snapshot.files and inner not in snapshot.folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._entry(path, snapshot.files.get(inner))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes ``start`` to ``end`` of a file, as slices count them. Raises: FileNotFoundError, IsADirectoryError."""
        path = self._strip_protocol(path)
        snapshot, inner = self._find(path)
        file = snapshot.files.get(inner)
        if file is None:
            code = errno.EISDIR if inner in snapshot.folders else errno.ENOENT
            raise OSError(code, os.strerror(code), path)
        first, last, _step = slice(start, end).indices(file.size_bytes)
        if first >= last:
            return b""
        with _own_errors(path):
            url, offset = snapshot.place(self.client, inner)
            return read_range(self.client, url, offset + first, last - first)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | str | None = None, cache_options: Any = None, **options: Any
    ) -> AbstractBufferedFile:
        if mode != "rb":
            raise OSError(errno.EROFS, "aidos:// is for reading; aidos.push(directory, name) makes a commit", path)
        details = self.info(path)
        if details["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        options.setdefault("cache_type", "all" if details["size"] <= _WHOLE_BYTES else "readahead")
        return AidosFile(self, path, mode, block_size or "default", cache_options=cache_options, size=details["size"], **options)

    def created(self, path: str) -> datetime:
        """When the commit was made."""
        return self._find(self._strip_protocol(path))[0].commit.created_at

    modified = created

    def ukey(self, path: str) -> str:
        """The content's SHA-256: what caches of fsspec tell versions by."""
        return str(self.info(path).get("sha256"))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look at once where branches point now."""
        self._heads.clear()
        super().invalidate_cache(path)

    def _find(self, path: str) -> tuple[Snapshot, str]:
        """The commit that a path without protocol names, and the path in it. Raises: FileNotFoundError."""
        first, _, inner = path.partition("/")
        name, _, ref = first.partition("@")
        with _own_errors(path):
            commit = self._head(name, ref or "main")
            snapshot = self._snapshots.get(commit.id)
            if snapshot is None:
                snapshot = self._snapshots[commit.id] = Snapshot(self.client, name, commit)
            return snapshot, inner

    def _head(self, name: str, ref: str) -> CommitRead:
        known = self._heads.get((name, ref))
        if known and known[1] > time.monotonic():
            return known[0]
        wanted = pinned_ref(name, ref)
        commit = self.client.datasets.show(name, wanted)
        fixed = str(commit.id) == wanted
        self._heads[name, ref] = (commit, time.monotonic() + (float("inf") if fixed else _MOVES_S))
        return commit

    @staticmethod
    def _entry(name: str, file: FileRead | None) -> dict[str, Any]:
        if file is None:
            return {"name": name, "size": 0, "type": "directory"}
        return {"name": name, "size": file.size_bytes, "type": "file", "sha256": file.sha256}


class AidosFile(AbstractBufferedFile):
    """A file of a commit, read by ranges."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.cat_file(self.path, start, end)


@contextmanager
def _own_errors(path: str) -> Iterator[None]:
    """What is not found, as file systems say it."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
