"""Examples as vectors: what a model, or a distance, can be computed from. Files in, arrays out; no Ray.

Images become 16 × 16 grey values; rows their numbers, with frequent categories one by one; an embedding column is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipelines.dataforge.files.images import encode_image
from data_pipelines.dataforge.files.kinds import TABLES, folder_of, kind_of
from data_pipelines.dataforge.files.pieces import Piece
from data_pipelines.dataforge.files.quarantine import BadFile, Quarantine
from data_pipelines.dataforge.files.tables import TableReader
from data_pipelines.dataforge.quality.columns import to_float
from data_pipelines.dataforge.quality.expectations import as_numbers

_LIST = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True)
class Encoding:
    """How a row becomes a vector, alike in every worker: its numeric columns, and its categories by column."""

    numeric: tuple[str, ...] = ()
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    embedding: str | None = None

    @property
    def width(self) -> int:
        return len(self.numeric) + sum(len(values) for _, values in self.categories)


@dataclass
class Examples:
    """Vectors with their places and labels (empty where none is asked for)."""

    places: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    quarantine: Quarantine = field(default_factory=Quarantine)

    def merge(self, other: Examples) -> None:
        self.places += other.places
        self.labels += other.labels
        self.vectors += other.vectors
        self.quarantine.merge(other.quarantine)

    def matrix(self) -> np.ndarray:
        """[examples, features], missing values as their column's mean. Raises: ValueError where vectors differ in length."""
        if not self.vectors:
            return np.empty((0, 0), np.float32)
        found = np.concatenate(self.vectors)
        means = np.nan_to_num(np.nanmean(found, axis=0)) if np.isnan(found).any() else np.zeros(found.shape[1])
        return np.where(np.isnan(found), means, found).astype(np.float32)


def encode_unit(
    open: Callable[[str], Any], read: Callable[[str], bytes], encoding: Encoding, label: str | None, share: float, unit: Sequence[Piece]
) -> Examples:
    """The examples of some files, about ``share`` of them: chosen alike whenever it is done again."""
    found = Examples()
    for piece in unit:
        try:
            if kind_of(piece.path) in TABLES:
                _encode_table(found, open, encoding, label, share, piece)
            elif _chosen(piece.path, 1, share)[0]:
                found.vectors.append(encode_image(read(piece.path)))
                found.places.append(piece.path)
                found.labels.append(folder_of(piece.path))
        except BadFile as bad:
            found.quarantine.add(piece.path, str(bad))
    return found


def _encode_table(found: Examples, open: Callable[[str], Any], encoding: Encoding, label: str | None, share: float, piece: Piece) -> None:
    reader = TableReader(piece.path, piece.size_bytes, lambda: open(piece.path), piece.row_groups)
    first = piece.first_row
    for batch in reader.batches():
        chosen = _chosen(f"{piece.path}:{first}", batch.num_rows, share)
        if label is not None:
            if label not in batch.schema.names:
                raise BadFile(f"it has no column {label!r}")
            chosen &= batch.column(label).is_valid().to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(chosen)
        part = batch.take(pa.array(rows))
        if rows.size:
            found.vectors.append(encode_batch(part, encoding))
            found.places += [f"{piece.path}:{first + row + 1}" for row in rows]
            found.labels += part.column(label).cast(pa.string()).to_pylist() if label is not None else [""] * rows.size
        first += batch.num_rows
    if reader.broken.count:
        found.quarantine.add(piece.path, str(reader.broken))


def encode_batch(batch: pa.RecordBatch, encoding: Encoding) -> np.ndarray:
    """[rows, features]. Raises: BadFile where the embedding column is not there, or not as long in every row."""
    if encoding.embedding is not None:
        return _encode_embedding(batch, encoding.embedding)
    vectors = np.full((batch.num_rows, encoding.width), np.nan, np.float32)
    for at, name in enumerate(encoding.numeric):
        if name in batch.schema.names:
            vectors[:, at] = as_numbers(batch.column(name))
    at = len(encoding.numeric)
    for name, values in encoding.categories:
        if name in batch.schema.names:
            texts = np.array(batch.column(name).cast(pa.string()).to_pylist(), dtype=object)
            vectors[:, at : at + len(values)] = texts[:, None] == np.array(values, dtype=object)[None, :]
        at += len(values)
    return vectors


def _encode_embedding(batch: pa.RecordBatch, name: str) -> np.ndarray:
    if name not in batch.schema.names:
        raise BadFile(f"it has no column {name!r}")
    values = batch.column(name)
    if not any(is_list(values.type) for is_list in _LIST) or values.null_count:
        raise BadFile(f"column {name!r} is no embedding: it must be a list of numbers in every row, not {values.type}")
    lengths = {len(each) for each in values}
    if len(lengths) != 1:
        raise BadFile(f"the embeddings in {name!r} have different lengths: {sorted(lengths)[:5]}")
    return to_float(values.flatten()).reshape(batch.num_rows, -1).astype(np.float32)


def _chosen(seed: str, rows: int, share: float) -> np.ndarray:
    if share >= 1:
        return np.ones(rows, dtype=bool)
    return np.random.default_rng(list(seed.encode())).random(rows) < share
