"""Uniqueness and references across all files of a table, exactly and in bounded memory. No Ray.

Values are compared by 64-bit hashes of their text. A round takes the hashes that are ``round`` modulo ``rounds``: with enough rounds
those of any table fit into memory, and each round reads the key columns alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipelines.dataforge.files.pieces import Piece
from data_pipelines.dataforge.files.quarantine import BadFile
from data_pipelines.dataforge.files.tables import TableReader
from data_pipelines.dataforge.quality.expectations import EXAMPLES, Broken
from data_pipelines.dataforge.quality.profiling import hash_batch

ROUND_ROWS = 20_000_000


def count_rounds(rows: int) -> int:
    return max(1, -(-rows // ROUND_ROWS))


@dataclass
class Keys:
    """Hashes of one file's keys in this round, with the row (from 1) of each."""

    path: str
    hashes: np.ndarray
    rows: np.ndarray


def read_keys(open: Callable[[str], Any], columns: tuple[str, ...], round: int, rounds: int, unit: Sequence[Piece]) -> list[Keys]:
    """The keys of some files. Rows in which one of the columns is missing have none; files that are bad or lack a column neither."""
    found = []
    for piece in unit:
        reader = TableReader(piece.path, piece.size_bytes, lambda path=piece.path: open(path), piece.row_groups)  # type: ignore[misc]  # bound now
        first, hashes, rows = piece.first_row, [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        try:
            for batch in reader.batches():
                if not set(columns) <= set(batch.schema.names):
                    break
                part = pa.RecordBatch.from_arrays([batch.column(name).cast(pa.string()) for name in columns], names=list(columns))
                keys = hash_batch(part)["row"]
                chosen = keys % np.uint64(rounds) == round
                for name in columns:
                    chosen &= part.column(name).is_valid().to_numpy(zero_copy_only=False)
                hashes.append(keys[chosen])
                rows.append(np.flatnonzero(chosen) + first + 1)
                first += batch.num_rows
        except BadFile:
            pass  # the row by row checks have told
        found.append(Keys(piece.path, np.concatenate(hashes), np.concatenate(rows)))
    return found


def find_repeated(parts: Iterable[Keys]) -> Broken:
    """Keys that were there before."""
    held = sorted(parts, key=lambda part: (part.path, part.rows[:1].tolist()))
    hashes = np.concatenate([part.hashes for part in held]) if held else np.empty(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    again = np.zeros(hashes.size, dtype=bool)
    again[order[1:]] = hashes[order[1:]] == hashes[order[:-1]]
    return _broken(held, again)


def find_dangling(parts: Iterable[Keys], known: Iterable[Keys]) -> Broken:
    """Keys that are not among the known ones."""
    held = sorted(parts, key=lambda part: (part.path, part.rows[:1].tolist()))
    hashes = np.concatenate([part.hashes for part in held]) if held else np.empty(0, np.uint64)
    there = np.unique(np.concatenate([np.empty(0, np.uint64), *(part.hashes for part in known)]))
    return _broken(held, ~np.isin(hashes, there))


def _broken(held: Sequence[Keys], bad: np.ndarray) -> Broken:
    found, at = Broken(), 0
    for part in held:
        found.add(part.hashes.size, part.rows[bad[at : at + part.hashes.size]], part.path)
        at += part.hashes.size
    found.places = found.places[:EXAMPLES]
    return found
