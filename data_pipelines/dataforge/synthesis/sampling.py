"""A uniform sample of all rows of some files, of bounded size, in parts that merge: each row draws a number, the smallest are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataforge.files.pieces import Piece
from data_pipelines.dataforge.files.quarantine import BadFile, Quarantine
from data_pipelines.dataforge.files.tables import TableReader


@dataclass
class Sample:
    """At most ``most`` rows of the ``rows`` that were seen, in the order of the numbers that they drew."""

    most: int
    rows: int = 0
    drawn: np.ndarray = field(default_factory=lambda: np.empty(0))
    table: pa.Table = field(default_factory=lambda: pa.table({}))
    quarantine: Quarantine = field(default_factory=Quarantine)

    def add(self, table: pa.Table, drawn: np.ndarray, rows: int) -> None:
        """Take in rows with their numbers: all of ``rows``, or the smallest of them."""
        self.rows += rows
        if self.drawn.size == self.most:
            inside = drawn < self.drawn[-1]
            table, drawn = table.filter(pa.array(inside)), drawn[inside]
        if drawn.size:
            self.table = join_tables(self.table, table) if self.drawn.size else table
            order = np.argsort(numbers := np.concatenate([self.drawn, drawn]), kind="stable")[: self.most]
            self.table, self.drawn = self.table.take(pa.array(order)), numbers[order]

    def merge(self, other: Sample) -> None:
        self.add(other.table, other.drawn, other.rows)
        self.quarantine.merge(other.quarantine)


def join_tables(one: pa.Table, two: pa.Table) -> pa.Table:
    """One below the other; a column that only one has is missing in the other, and types that do not fit become text."""
    try:
        return pa.concat_tables([one, two], promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        mixed = {
            name for name in set(one.column_names) & set(two.column_names) if one.schema.field(name).type != two.schema.field(name).type
        }
        return pa.concat_tables([_as_texts(table, mixed) for table in (one, two)], promote_options="permissive").combine_chunks()


def _as_texts(table: pa.Table, names: set[str]) -> pa.Table:
    for name in names & set(table.column_names):
        column = table.column(name)
        nested = pa.types.is_nested(column.type) or pa.types.is_binary(column.type)
        texts = (
            pa.array([None if value is None else str(value) for value in column.to_pylist()]) if nested else pc.cast(column, pa.string())
        )
        table = table.set_column(table.schema.get_field_index(name), name, texts)
    return table


def sample_unit(open: Callable[[str], Any], most: int, seed: int, unit: Sequence[Piece]) -> Sample:
    """The sample of some files: the same whenever it is done again, and however files are shared out."""
    found = Sample(most)
    for piece, batch, number in read_unit(open, unit, found.quarantine):
        name = f"{seed}:{piece.path}:{piece.first_row}:{number}".encode()
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:16]))
        found.add(pa.Table.from_batches([batch]), random.random(batch.num_rows), batch.num_rows)
    return found


def read_unit(open: Callable[[str], Any], unit: Sequence[Piece], quarantine: Quarantine) -> Iterator[tuple[Piece, pa.RecordBatch, int]]:
    """The batches of some files, numbered within each; what cannot be read is set aside."""
    for piece in unit:
        reader = TableReader(piece.path, piece.size_bytes, lambda path=piece.path: open(path), piece.row_groups)  # type: ignore[misc]  # bound now
        try:
            for number, batch in enumerate(reader.batches()):
                yield piece, batch, number
        except BadFile as bad:
            quarantine.add(piece.path, str(bad))
        if reader.broken.count:
            quarantine.add(piece.path, str(reader.broken))
