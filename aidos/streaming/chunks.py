"""What was fetched together: samples with their ordinals, one by one as dicts, or cut into batches by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aidos import optional
from aidos.errors import InvalidRequest

Sample = dict[str, Any]
ID = "_id"
_DECODED_AT_ONCE = 1024


class TypesDiffer(InvalidRequest):
    title = "A column has types that do not go together"
    detail = (
        "Column '{column}' is {kind} in '{path}' and {other_kind} in '{other}', so their rows make no table. "
        "Push the files with one type of it, choose files by a pattern, or columns without it."
    )


def join_tables(tables: Sequence[Any], paths: Sequence[str]) -> Any:
    """Arrow tables as one, with all their columns; ``paths``: the file that each is from. Raises: TypesDiffer."""
    pyarrow = optional.load("pyarrow", "Reading rows")
    try:
        return pyarrow.concat_tables(tables, promote_options="permissive")
    except pyarrow.ArrowTypeError:
        known: dict[str, tuple[Any, str]] = {}
        for table, path in zip(tables, paths, strict=True):
            for field in table.schema:
                one, first = known.get(field.name, (field, path))
                try:
                    (both,) = pyarrow.unify_schemas([pyarrow.schema([one]), pyarrow.schema([field])], promote_options="permissive")
                except pyarrow.ArrowTypeError:
                    raise TypesDiffer(column=field.name, kind=str(one.type), path=first, other_kind=str(field.type), other=path) from None
                known[field.name] = both, first
        raise


class Chunk:
    """Samples that are dicts already."""

    def __init__(self, ordinals: list[int], samples: Sequence[Sample]) -> None:
        self.ordinals, self._samples = ordinals, samples

    def cut(self, start: int, end: int) -> Chunk:
        """Those from ``start`` to before ``end``."""
        return Chunk(self.ordinals[start:end], self._samples[start:end])

    def samples(self) -> Iterator[Sample]:
        """One by one."""
        return iter(self._samples)

    def columns(self) -> dict[str, Any] | None:
        """Lists and number arrays by column; None where only samples tell what they hold."""
        return None

    @staticmethod
    def join(chunks: Sequence[Any]) -> Any:
        """Several of one kind as one."""
        return Chunk([n for chunk in chunks for n in chunk.ordinals], [sample for chunk in chunks for sample in chunk.samples()])


class TableChunk(Chunk):
    """Rows of an Arrow table, in order, with their ids."""

    def __init__(self, ordinals: list[int], ids: list[str], table: Any) -> None:
        self.ordinals, self._ids, self._table = ordinals, ids, table

    def cut(self, start: int, end: int) -> Chunk:
        return TableChunk(self.ordinals[start:end], self._ids[start:end], self._table.slice(start, end - start))

    def samples(self) -> Iterator[Sample]:
        for start in range(0, len(self.ordinals), _DECODED_AT_ONCE):
            rows = self._table.slice(start, _DECODED_AT_ONCE).to_pylist()
            yield from ({ID: id, **row} for id, row in zip(self._ids[start : start + _DECODED_AT_ONCE], rows, strict=True))

    def columns(self) -> dict[str, Any] | None:
        """Numbers and truth values as arrays, texts as lists; None where something is null or nested."""
        found: dict[str, Any] = {ID: self._ids}
        types = optional.load("pyarrow.types", "Reading rows")
        for name, column in zip(self._table.column_names, self._table.columns, strict=True):
            if column.null_count or not (
                types.is_primitive(column.type) or types.is_string(column.type) or types.is_large_string(column.type)
            ):
                return None
            number = types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)
            found[name] = column.to_numpy() if number else column.to_pylist()
        return found

    @staticmethod
    def join(chunks: Sequence[Any]) -> Any:
        joined = join_tables([chunk._table for chunk in chunks], [chunk._ids[0].rpartition("#")[0] for chunk in chunks])
        return TableChunk([n for chunk in chunks for n in chunk.ordinals], [id for chunk in chunks for id in chunk._ids], joined)


def batched(chunks: Iterable[Chunk], size: int) -> Iterator[Chunk]:
    """Chunks of exactly ``size`` samples, the last one shorter."""
    waiting: list[Chunk] = []
    missing = size
    for chunk in chunks:
        start, count = 0, len(chunk.ordinals)
        while count - start >= missing:
            whole = [*waiting, chunk.cut(start, start + missing)]
            yield whole[0] if len(whole) == 1 else _join(whole)
            start, waiting, missing = start + missing, [], size
        if start < count:
            waiting.append(chunk.cut(start, count))
            missing -= count - start
    if waiting:
        yield _join(waiting)


def _join(chunks: list[Chunk]) -> Chunk:
    alike = all(isinstance(chunk, TableChunk) for chunk in chunks)
    return TableChunk.join(chunks) if alike else Chunk.join(chunks)
