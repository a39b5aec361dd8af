"""fsspec: ``aidos://[project/]dataset@ref/path`` for pandas, polars, pyarrow, Ray Data and torch. ``aidos.push`` writes.

A commit never changes, so its listing and the places of its bytes are kept; bytes come straight from S3 by presigned
URLs. Files of one folder are asked for together, so that reading them one by one costs one question, not one each.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from aidos.client import Client
from aidos.errors import AidosError, InvalidPayload, NotFound
from aidos.schemas.dataforge.versions import CommitRead, FileRead
from aidos.transfers.listing import pinned_ref
from aidos.transfers.readahead import GrowingReadAhead
from aidos.transfers.snapshot import Snapshot

_MOVES_S = 5.0
_WHOLE_BYTES = 2**20
_MOST_AHEAD_BYTES = 8 * 2**20


class Place(NamedTuple):
    """What a path may name. Without a project it is the client's own."""

    project: str | None
    dataset: str
    ref: str
    inner: str


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
        self._heads: dict[tuple[str | None, str, str], tuple[CommitRead | AidosError, float]] = {}
        self._snapshots: dict[UUID, Snapshot] = {}

    def using(self, client: Client) -> AidosFileSystem:
        """This, with a client that there is already; other processes make their own."""
        self._client, self._process = client, os.getpid()
        return self

    @property
    def client(self) -> Client:
        """A client of this process: a forked one must not share its parent's connections."""
        if self._client is None or self._process != os.getpid():
            self._client, self._process = Client(*self._options), os.getpid()
            self._snapshots.clear()
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
        """Bytes ``start`` to ``end`` of a file, as slices count them; all of them are checked.

        Raises: FileNotFoundError, IsADirectoryError, FileDamaged, ImportedObjectChanged.
        """
        path = self._strip_protocol(path)
        snapshot, file = self._find_file(path)
        first, last, _step = slice(start, end).indices(file.size_bytes)
        with _own_errors(path):
            return snapshot.read(file.path, first, last)

    def cat_ranges(
        self, paths: list[str], starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **_: Any
    ) -> list[Any]:
        """``cat_file`` of many: files that lie side by side in S3 come by one request. ``max_gap`` is chosen here.

        Raises: what ``cat_file`` does, with ``on_error="raise"``; else the errors stand in the list.
        """
        found: list[Any] = [None] * len(paths)
        wanted: dict[UUID, tuple[Snapshot, list[tuple[int, FileRead, int, int]]]] = {}
        firsts, lasts = (each if isinstance(each, list) else [each] * len(paths) for each in (starts, ends))
        for index, (path, start, end) in enumerate(zip(paths, firsts, lasts, strict=True)):
            try:
                snapshot, file = self._find_file(self._strip_protocol(path))
            except OSError as error:
                if on_error == "raise":
                    raise
                found[index] = error
                continue
            first, last, _step = slice(start, end).indices(file.size_bytes)
            wanted.setdefault(snapshot.commit.id, (snapshot, []))[1].append((index, file, first, max(first, last)))
        for snapshot, ranges in wanted.values():
            read = snapshot.read_many([(file.path, first, last) for _index, file, first, last in ranges])
            for (index, _file, _first, _last), data in zip(ranges, read, strict=True):
                found[index] = data
        return found

    def cat(self, path: str | list[str], recursive: bool = False, on_error: str = "raise", **_: Any) -> Any:
        """Contents of a file, or by path of several: a list, a pattern, a folder with ``recursive``."""
        paths = self.expand_path(path, recursive=recursive)
        if isinstance(path, str) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0])
        files = [each for each in paths if not (recursive and self.isdir(each))]
        found = dict(zip(files, self.cat_ranges(files, None, None, on_error=on_error), strict=True))
        return {name: data for name, data in found.items() if on_error != "omit" or not isinstance(data, Exception)}

    def _open(
        self, path: str, mode: str = "rb", block_size: int | str | None = None, cache_options: Any = None, **options: Any
    ) -> AbstractBufferedFile:
        if mode != "rb":
            self._refuse_writing(path)
        details = self.info(path)
        if details["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        options.setdefault("cache_type", "all" if details["size"] <= _WHOLE_BYTES else GrowingReadAhead.name)
        return AidosFile(self, path, mode, block_size or _MOST_AHEAD_BYTES, cache_options=cache_options, size=details["size"], **options)

    def _refuse_writing(self, path: Any = "", *_: Any, **__: Any) -> NoReturn:
        """A commit is made by a push, as a whole. Raises: OSError (EROFS)."""
        raise OSError(errno.EROFS, "aidos:// is for reading; aidos.push(directory, name) makes a commit", str(path))

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = mv = touch = pipe_file = put_file = _refuse_writing

    def created(self, path: str) -> datetime:
        """When the commit was made."""
        return self._find(self._strip_protocol(path))[0].commit.created_at

    modified = created

    def ukey(self, path: str) -> str:
        """The content's id, its SHA-256 if it does not lie in place: what caches of fsspec tell versions by."""
        return str(self.info(path).get("sha256"))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look at once where branches point now."""
        self._heads.clear()
        super().invalidate_cache(path)

    def _find(self, path: str) -> tuple[Snapshot, str]:
        """The commit that a path without protocol names, and the path in it. Raises: FileNotFoundError."""
        refusal: AidosError | None = None
        with _own_errors(path):
            for place in places_of(path):
                try:
                    return self._snapshot(place), place.inner
                except (NotFound, InvalidPayload) as error:
                    refusal = refusal or error
            assert refusal is not None
            raise refusal

    def _find_file(self, path: str) -> tuple[Snapshot, FileRead]:
        """Raises: FileNotFoundError, IsADirectoryError."""
        snapshot, inner = self._find(path)
        file = snapshot.find(inner)
        if file is None:
            code = errno.EISDIR if inner in snapshot.folders else errno.ENOENT
            raise OSError(code, os.strerror(code), path)
        return snapshot, file

    def _snapshot(self, place: Place) -> Snapshot:
        client, commit = self._client_of(place.project), self._head(place)
        snapshot = self._snapshots.get(commit.id)
        if snapshot is None:
            snapshot = self._snapshots[commit.id] = Snapshot(client, place.dataset, commit)
        return snapshot

    def _client_of(self, project: str | None) -> Client:
        return self.client.with_options(headers={"X-Aidos-Project": project}) if project else self.client

    def _head(self, place: Place) -> CommitRead:
        """The commit behind a ref: for ever where it names the commit, else for a moment; so too that there is none."""
        key = (place.project, place.dataset, place.ref)
        known = self._heads.get(key)
        if known is None or known[1] < time.monotonic():
            known = self._heads[key] = self._ask_head(place)
        if isinstance(known[0], AidosError):
            raise known[0]
        return known[0]

    def _ask_head(self, place: Place) -> tuple[CommitRead | AidosError, float]:
        wanted = place.ref if place.project else pinned_ref(place.dataset, place.ref)
        soon = time.monotonic() + _MOVES_S
        try:
            commit = self._client_of(place.project).datasets.show(place.dataset, wanted)
        except (NotFound, InvalidPayload) as error:
            return error, soon
        return commit, float("inf") if str(commit.id) == wanted else soon

    @staticmethod
    def _entry(name: str, file: FileRead | None) -> dict[str, Any]:
        if file is None:
            return {"name": name, "size": 0, "type": "directory"}
        return {"name": name, "size": file.size_bytes, "type": "file", "sha256": file.sha256}


class AidosFile(AbstractBufferedFile):
    """A file of a commit, read by ranges."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.cat_file(self.path, start, end)


def places_of(path: str) -> Iterator[Place]:
    """What a path may mean, the likeliest first: ``project/dataset@ref/inner`` has its first @ in the second part."""
    first, _, rest = path.partition("/")
    second, _, inner = rest.partition("/")
    if "@" not in first and "@" in second:
        name, _, ref = second.partition("@")
        yield Place(first, name, ref or "main", inner)
    name, _, ref = first.partition("@")
    yield Place(None, name, ref or "main", rest)


@contextmanager
def _own_errors(path: str) -> Iterator[None]:
    """What is not found, as file systems say it."""
    try:
        yield
    except (NotFound, InvalidPayload) as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
