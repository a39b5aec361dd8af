"""Lines of a job's log with a word in them, found while the log goes by piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST_LINE_BYTES = 2**20
"""Of a longer line the beginning is searched and shown: one without an end must not fill the memory."""
# Ray's words before a line of a worker: the name of a task or an actor, its process, and its node where that is another.
_WORKER = re.compile(r"\((?:rank (?P<rank>\d+) |.+? )?pid=\d+(?:, ip=[^)]+)?\) ")


@dataclass(frozen=True)
class LogLine:
    """A line of a log: its number from 1, the rank of the worker that printed it (None: none did), and its text as it was printed."""

    number: int
    rank: int | None
    text: str


class LogSearch:
    """The lines with this word in them, upper or lower case, that this rank printed; all ranks and the driver where it is None."""

    def __init__(self, word: str = "", rank: int | None = None) -> None:
        self._wanted, self._rank = word.casefold(), rank
        self._number, self._begun = 0, b""

    def feed(self, piece: bytes) -> list[LogLine]:
        """Those that end in this piece; a line may have begun in one before."""
        *whole, begun = (self._begun + piece).split(b"\n")
        self._begun = begun[:LONGEST_LINE_BYTES]
        return list(self._find(whole))

    def end(self) -> list[LogLine]:
        """The last line, where it has no end and is one of them."""
        return list(self._find([self._begun] if self._begun else []))

    def _find(self, lines: Iterable[bytes]) -> Iterator[LogLine]:
        for line in lines:
            self._number += 1
            text = line[:LONGEST_LINE_BYTES].decode(errors="replace")
            if self._wanted not in text.casefold():
                continue
            printed = _WORKER.match(text)
            rank = int(printed["rank"]) if printed and printed["rank"] else None
            if self._rank in (None, rank):
                yield LogLine(self._number, rank, text)
