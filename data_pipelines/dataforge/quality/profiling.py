"""A commit's profile in parts that merge: one unit of files in, what was seen of them out. No Ray."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from data_pipelines.dataforge.files.kinds import TABLES, kind_of, split_of
from data_pipelines.dataforge.files.pieces import Piece
from data_pipelines.dataforge.files.quarantine import BadFile, Quarantine
from data_pipelines.dataforge.files.tables import TableReader
from data_pipelines.dataforge.files.unpacking import check_archive
from data_pipelines.dataforge.quality.columns import ColumnProfile
from data_pipelines.dataforge.quality.images import ImageProfile
from data_pipelines.dataforge.quality.rows import RowSample
from data_pipelines.dataforge.quality.texts import TextProfile

MAX_DOCUMENT_BYTES = 64 * 2**20
BRIEF_COLUMNS = 100
_READERS = 8
_JOINED_ROWS = 500_000


@dataclass
class Profile:
    """What was seen of some files."""

    rows: int = 0
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    schemas: Counter[tuple[str, ...]] = field(default_factory=Counter)
    sample: RowSample = field(default_factory=RowSample)
    images: ImageProfile = field(default_factory=ImageProfile)
    texts: TextProfile = field(default_factory=TextProfile)
    column_texts: TextProfile = field(default_factory=TextProfile)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    quarantine: Quarantine = field(default_factory=Quarantine)

    def merge(self, other: Profile) -> None:
        self.rows += other.rows
        self.schemas.update(other.schemas)
        for name, column in other.columns.items():
            self.columns.setdefault(name, ColumnProfile()).merge(column)
        for split, classes in other.labels.items():
            self.labels.setdefault(split, Counter()).update(classes)
        for name in ("sample", "images", "texts", "column_texts", "quarantine"):
            getattr(self, name).merge(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """The profile as it is kept; parts of which there is nothing are absent."""
        found: dict[str, Any] = {"quarantine": self.quarantine.to_json()}
        if self.columns:
            brief = len(self.columns) > BRIEF_COLUMNS
            columns = {name: column.to_json(brief=brief) for name, column in self.columns.items()}
            found["table"] = {
                "rows": self.rows,
                "columns": columns,
                "schemas": len(self.schemas),
                "duplicates": self.sample.duplicates(),
                "leakage": self.sample.leakage(),
            }
            if self.column_texts.signatures:
                found["table"]["alike"] = self.column_texts.alike()
        if self.images.modes:
            found["images"] = self.images.to_json()
        if self.texts.characters.moments.count:
            found["texts"] = self.texts.to_json()
        if self.labels:
            found["labels"] = {split: dict(classes.most_common(200)) for split, classes in sorted(self.labels.items())}
        return found


@dataclass(frozen=True)
class Question:
    """What to look for besides: the columns of labels, of splits and of texts."""

    label: str | None = None
    split: str | None = None
    text: str | None = None


def profile_unit(open: Callable[[str], Any], read: Callable[[str], bytes], question: Question, unit: Sequence[Piece]) -> Profile:
    """Profile some files of one kind; bad ones are set aside."""
    profile = Profile()
    kind = kind_of(unit[0].path)
    if kind in TABLES:
        for piece in unit:
            _guarded(profile, piece.path, functools.partial(_add_table, profile, open, question, piece))
    elif kind in {"image", "text"}:
        with ThreadPoolExecutor(_READERS) as readers:
            for piece, fetched in zip(unit, readers.map(lambda piece: _fetch(read, piece), unit), strict=True):
                _guarded(profile, piece.path, functools.partial(_add_document, profile, kind, piece, fetched))
    elif kind == "archive":
        for piece in unit:
            _guarded(profile, piece.path, functools.partial(_check_archive, open, piece))
    return profile


def _guarded(profile: Profile, path: str, work: Callable[[], None]) -> None:
    try:
        work()
    except BadFile as bad:
        profile.quarantine.add(path, str(bad))


def _fetch(read: Callable[[str], bytes], piece: Piece) -> bytes | BadFile:
    if piece.size_bytes > MAX_DOCUMENT_BYTES:
        return BadFile(f"it has {piece.size_bytes} bytes; {MAX_DOCUMENT_BYTES} is the limit for a document")
    return read(piece.path)


def _check_archive(open: Callable[[str], Any], piece: Piece) -> None:
    with open(piece.path) as file:
        check_archive(file, piece.size_bytes)


def _add_document(profile: Profile, kind: str, piece: Piece, fetched: bytes | BadFile) -> None:
    if isinstance(fetched, BadFile):
        raise fetched
    if kind == "image":
        profile.images.add(piece.path, fetched)
    else:
        try:
            profile.texts.add(piece.path, fetched.decode())
        except UnicodeDecodeError as error:
            raise BadFile(f"byte {error.start} is not UTF-8: it has another encoding, or several") from error
    parts = piece.path.split("/")
    if len(parts) > 1:
        profile.labels.setdefault(split_of(piece.path) or "all", Counter())[parts[-2]] += 1


def _add_table(profile: Profile, open: Callable[[str], Any], question: Question, piece: Piece) -> None:
    reader = TableReader(piece.path, piece.size_bytes, lambda: open(piece.path), piece.row_groups)
    first = piece.first_row
    waiting: list[tuple[np.ndarray, np.ndarray | str]] = []
    try:
        for batch in reader.batches():
            hashes = hash_batch(batch, leave_out=question.split)
            split = _splits(batch, question.split, piece.path)
            _add_batch(profile, batch, hashes, split, question)
            _sign_texts(profile, batch, question, piece.path, first + sum(each.size for each, _ in waiting))
            waiting.append((hashes["row"], split))
            if sum(each.size for each, _ in waiting) > _JOINED_ROWS:
                first = _join_rows(profile, piece.path, first, waiting)
    finally:
        _join_rows(profile, piece.path, first, waiting)
        if reader.broken.count:
            profile.quarantine.add(piece.path, str(reader.broken))


def _join_rows(profile: Profile, path: str, first: int, waiting: list[tuple[np.ndarray, np.ndarray | str]]) -> int:
    """Put the waiting hashes into the sample together; the number of the next row."""
    if not waiting:
        return first
    hashes = np.concatenate([each for each, _ in waiting])
    same = {split for _, split in waiting if isinstance(split, str)}
    split: Any = same.pop() if len(same) == 1 else np.concatenate([np.asarray(split, dtype=object) for _, split in waiting])
    waiting.clear()
    profile.sample.add(path, first, hashes, split)
    return first + hashes.size


def _add_batch(profile: Profile, batch: pa.RecordBatch, hashes: dict[str, np.ndarray], split: np.ndarray | str, question: Question) -> None:
    profile.rows += batch.num_rows
    profile.schemas[tuple(f"{column.name}:{column.type}" for column in batch.schema)] = 1
    for at, name in enumerate(batch.schema.names):
        profile.columns.setdefault(name, ColumnProfile()).add(batch.column(at), hashes[f"h{at}"])
    if question.label in batch.schema.names:
        labels = batch.column(question.label).cast(pa.string()).to_pylist()
        names = [split] * len(labels) if isinstance(split, str) else split
        for name, label in Counter(zip(names, labels, strict=True)).items():
            profile.labels.setdefault(name[0], Counter())[str(name[1])] += label


def _sign_texts(profile: Profile, batch: pa.RecordBatch, question: Question, path: str, first_row: int) -> None:
    if question.text in batch.schema.names:
        for number, text in enumerate(batch.column(question.text).cast(pa.string()).to_pylist(), first_row + 1):
            if text:
                profile.column_texts.sign(f"{path}:{number}", text)


def _splits(batch: pa.RecordBatch, column: str | None, path: str) -> np.ndarray | str:
    if column is None or column not in batch.schema.names:
        return split_of(path) or "all"
    return np.asarray([str(value) for value in batch.column(column).to_pylist()], dtype=object)


def hash_batch(batch: pa.RecordBatch, leave_out: str | None = None) -> dict[str, np.ndarray]:
    """64-bit hashes of each column's values (``h0``, ``h1``, …) and of whole rows (``row``), by DuckDB: alike in every process."""
    columns = [f'"{name}"' for name in (f"c{at}" for at in range(batch.num_columns))]
    rows = [column for column, name in zip(columns, batch.schema.names, strict=True) if name != leave_out] or columns
    each = ", ".join(f"hash({column}) AS h{at}" for at, column in enumerate(columns))
    renamed = pa.RecordBatch.from_arrays(batch.columns, names=[f"c{at}" for at in range(batch.num_columns)])
    relation = _engine().from_arrow(renamed)
    return dict(relation.project(f"{each}, hash({', '.join(rows)}) AS row").fetchnumpy())


@functools.cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One for the process; its work is its caller's thread's."""
    return duckdb.connect(config={"threads": 1})
