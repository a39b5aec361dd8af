"""How the files of a commit are shared out among workers: small ones together, large Parquet files by their row groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from aidos.schemas.dataforge.versions import FileRead
from data_pipelines.dataforge.files.kinds import TABLES, kind_of, matching
from data_pipelines.dataforge.files.quarantine import BadFile
from data_pipelines.dataforge.files.tables import DATA_ERRORS, open_parquet
from data_pipelines.dataforge.reports.source import Source, Tree

UNIT_BYTES = 128 * 2**20
UNIT_FILES = 500


@dataclass(frozen=True)
class Piece:
    """A file of ``size_bytes``, or some row groups of a Parquet file: ``part_bytes`` of it, from row ``first_row`` on."""

    path: str
    size_bytes: int
    row_groups: tuple[int, ...] | None = None
    part_bytes: int | None = None
    first_row: int = 0

    @property
    def load_bytes(self) -> int:
        return self.size_bytes if self.part_bytes is None else self.part_bytes


def share_out(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Units of some 128 MB or 500 files, each of one kind."""
    units: list[list[Piece]] = []
    room: dict[str, int] = {}
    latest: dict[str, list[Piece]] = {}
    for piece in pieces:
        kind = kind_of(piece.path)
        if kind not in latest or room[kind] < piece.load_bytes or len(latest[kind]) >= UNIT_FILES:
            latest[kind] = []
            room[kind] = UNIT_BYTES
            units.append(latest[kind])
        latest[kind].append(piece)
        room[kind] -= piece.load_bytes
    return units


def matching_tables(files: Sequence[FileRead], pattern: str) -> list[FileRead]:
    """The tables among the files whose paths match."""
    paths = set(matching(pattern, [file.path for file in files if kind_of(file.path) in TABLES]))
    return [file for file in files if file.path in paths]


def split_pieces(source: Source, tree: Tree, files: Sequence[FileRead]) -> list[Piece]:
    """What workers share: files, large Parquet files by their row groups."""
    known = [file for file in files if kind_of(file.path) != "other" and file.size_bytes]
    large = [file for file in known if kind_of(file.path) == "parquet" and file.size_bytes > UNIT_BYTES]
    pieces = [Piece(file.path, file.size_bytes) for file in known if file not in large]
    for found in source.each("footers", large, partial(_split_parquet, tree)):
        pieces += found
    return sorted(pieces, key=lambda piece: piece.path)


def _split_parquet(tree: Tree, file: FileRead) -> list[Piece]:
    """Pieces of some 128 MB; a file whose footer is bad stays whole, for the profile to set aside."""
    try:
        with tree.open(file.path) as opened:
            metadata = open_parquet(opened, file.path, file.size_bytes).metadata
    except (BadFile, *DATA_ERRORS):
        return [Piece(file.path, file.size_bytes)]
    pieces: list[Piece] = []
    groups: list[int] = []
    part_bytes = first_row = rows = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size_bytes = sum(group.column(at).total_compressed_size for at in range(group.num_columns))
        if groups and part_bytes + size_bytes > UNIT_BYTES:
            pieces.append(Piece(file.path, file.size_bytes, tuple(groups), part_bytes, first_row))
            groups, part_bytes, first_row = [], 0, rows
        groups.append(number)
        part_bytes, rows = part_bytes + size_bytes, rows + group.num_rows
    return [*pieces, Piece(file.path, file.size_bytes, tuple(groups), part_bytes, first_row)]
