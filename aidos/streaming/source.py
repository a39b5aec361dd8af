"""What a stream reads: files whole, or the rows of Parquet, CSV and JSON Lines files. Each has an ordinal, and an id that names it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any

from aidos import optional
from aidos.errors import InvalidRequest
from aidos.schemas.dataforge.expectations import ABOUT
from aidos.schemas.dataforge.versions import FileRead
from aidos.streaming.chunks import ID, Chunk, TableChunk
from aidos.streaming.order import Order, Ordinals
from aidos.streaming.tables import FORMATS, Block, TableReader, format_of
from aidos.transfers.concurrent import each
from aidos.transfers.filesystem import AidosFileSystem

_LISTED_AT_ONCE = 4096
_BATCH_FILES = 2048
_BATCH_BYTES = 16 * 2**20
_THREADS = 8


class NothingToRead(InvalidRequest):
    title = "Nothing to read"
    detail = "No file of {source} matches '{pattern}'. 'aidos dataset files {source}' shows what there is."


class FilesMixed(InvalidRequest):
    title = "Files are not all tables"
    detail = (
        "{source} has rows ({rows}) and other files ({other}) that match '{pattern}'. "
        "Choose with a pattern, such as '*.parquet', or read files whole with rows=False."
    )


class Source(ABC):
    """Files of one commit, in the order of their paths. Pickles, so that worker processes read by themselves."""

    window: int | None = None

    def __init__(self, filesystem: AidosFileSystem, dataset: str, commit_id: str, files: Sequence[FileRead]) -> None:
        self.filesystem, self.dataset, self.commit_id, self.files = filesystem, dataset, commit_id, list(files)

    @property
    @abstractmethod
    def size(self) -> int:
        """How many ordinals there are."""

    @property
    @abstractmethod
    def rows(self) -> list[int]:
        """How many ordinals each file has."""

    @abstractmethod
    def order(self, seed: int | None, epoch: int, window: int) -> Order:
        """The order of an epoch."""

    @abstractmethod
    def portions(self, ordinals: Ordinals | list[int]) -> Iterator[list[int]]:
        """Ordinals of one part of the order, as many at a time as are fetched together."""

    @abstractmethod
    def fetch(self, ordinals: list[int]) -> Chunk:
        """What stands at the ordinals, in their order. Raises: FileDamaged, RowsUnreadable."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the ordinals mean: the contents in order and their rows, wherever they lie."""
        text = "".join(f"{file.sha256} {rows}\n" for file, rows in zip(self.files, self.rows, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def url(self, file: FileRead) -> str:
        return f"{self.dataset}@{self.commit_id}/{file.path}"

    def __str__(self) -> str:
        return f"{self.dataset}@{self.commit_id}"


class Files(Source):
    """Each file is a sample: ``_id`` is its path, ``data`` its bytes."""

    size = property(lambda self: len(self.files))
    rows = property(lambda self: [1] * len(self.files))

    def order(self, seed: int | None, epoch: int, window: int) -> Order:
        return Order(self.size, None, seed, epoch, window)

    def portions(self, ordinals: Ordinals | list[int]) -> Iterator[list[int]]:
        for first in range(0, len(ordinals), _LISTED_AT_ONCE):
            portion: list[int] = []
            size_bytes = 0
            for ordinal in _listed(ordinals[first : first + _LISTED_AT_ONCE]):
                portion.append(ordinal)
                size_bytes += self.files[ordinal].size_bytes
                if len(portion) == _BATCH_FILES or size_bytes >= _BATCH_BYTES:
                    yield portion
                    portion, size_bytes = [], 0
            if portion:
                yield portion

    def fetch(self, ordinals: list[int]) -> Chunk:
        files = [self.files[ordinal] for ordinal in ordinals]
        found = self.filesystem.cat_ranges([self.url(file) for file in files], None, None, on_error="raise")
        return Chunk(ordinals, [{ID: file.path, "data": data} for file, data in zip(files, found, strict=True)])


class Rows(Source):
    """Each row is a sample: ``_id`` is ``path#row``, the rest its columns. ``columns``: only these are read."""

    def __init__(
        self,
        filesystem: AidosFileSystem,
        dataset: str,
        commit_id: str,
        files: Sequence[FileRead],
        columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(filesystem, dataset, commit_id, files)
        self._reader = TableReader(filesystem, columns)
        self.blocks: list[list[Block]] = each(lambda file: self._reader.blocks(file, self.url(file)), self.files, _THREADS)
        self._flat = [(number, block) for number, blocks in enumerate(self.blocks) for block in blocks]
        self._block_starts = [0, *accumulate(block.rows for _, block in self._flat)]
        self._file_starts = [0, *accumulate(self.rows)]

    size = property(lambda self: self._block_starts[-1])
    rows = property(lambda self: [sum(block.rows for block in blocks) for blocks in self.blocks])

    def order(self, seed: int | None, epoch: int, window: int) -> Order:
        return Order(self.size, [block.rows for _, block in self._flat], seed, epoch, window)

    def portions(self, ordinals: Ordinals | list[int]) -> Iterator[list[int]]:
        if listed := _listed(ordinals):
            yield listed

    def fetch(self, ordinals: list[int]) -> Chunk:
        blocks = _places(self._block_starts, ordinals)
        needed = sorted(set(blocks))
        tables = each(self._read_block, needed, _THREADS)
        # Where the rows of a block begin when the blocks that are needed stand one after the other.
        moved = {
            block: start - self._block_starts[block]
            for block, start in zip(needed, accumulate((len(table) for table in tables), initial=0), strict=False)
        }
        paths = [self.files[self._flat[block][0]].path for block in needed]
        rows = self._reader.take(tables, paths, [ordinal + moved[block] for ordinal, block in zip(ordinals, blocks, strict=True)])
        files = {block: self._flat[block][0] for block in needed}
        marks = {block: (f"{self.files[number].path}#", self._file_starts[number]) for block, number in files.items()}
        ids = [f"{path}{ordinal - first}" for ordinal, (path, first) in zip(ordinals, map(marks.__getitem__, blocks), strict=True)]
        if isinstance(rows, list):
            return Chunk(ordinals, [{ID: id, **row} for id, row in zip(ids, rows, strict=True)])
        return TableChunk(ordinals, ids, rows)

    def _read_block(self, index: int) -> Any:
        number, block = self._flat[index]
        return self._reader.read(self.files[number], self.url(self.files[number]), block)


def _places(starts: list[int], ordinals: list[int]) -> list[int]:
    """Of each ordinal the last start that is not after it; all together where numpy is there."""
    numpy = optional.find("numpy")
    if numpy is None:
        return [bisect_right(starts, ordinal) - 1 for ordinal in ordinals]
    found: list[int] = (numpy.searchsorted(starts, ordinals, side="right") - 1).tolist()
    return found


def _listed(ordinals: Ordinals | list[int]) -> list[int]:
    return ordinals if isinstance(ordinals, list) else ordinals.tolist()


def open_source(
    filesystem: AidosFileSystem,
    dataset: str,
    commit_id: str,
    files: Sequence[FileRead],
    *,
    pattern: str = "*",
    rows: bool | None = None,
    columns: Sequence[str] | None = None,
) -> Source:
    """Rows where all files that match are tables (or ``rows`` says so), else files. ``*`` in a pattern matches ``/`` too.

    What a dataset says about itself (``.aidos/``) is no sample, unless the pattern names it.

    Raises: NothingToRead, FilesMixed, RowsUnreadable, LibraryMissing.
    """
    about = pattern.startswith(ABOUT)
    chosen = [file for file in files if fnmatchcase(file.path, pattern) and file.path.startswith(ABOUT) is about]
    name = f"{dataset}@{commit_id}"
    if not chosen:
        raise NothingToRead(source=name, pattern=pattern)
    tables = [file for file in chosen if format_of(file.path)]
    if rows is None and tables and len(tables) < len(chosen):
        other = next(file for file in chosen if not format_of(file.path))
        raise FilesMixed(source=name, rows=tables[0].path, other=other.path, pattern=pattern)
    if rows is False or not tables:
        if rows:
            raise NothingToRead(source=name, pattern=f"{pattern}' as {', '.join(FORMATS)} with '{pattern}")
        return Files(filesystem, dataset, commit_id, chosen)
    return Rows(filesystem, dataset, commit_id, tables, columns)
