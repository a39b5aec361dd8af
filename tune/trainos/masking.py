"""What a job prints, without its secrets: ``***`` in their place. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASKED = b"***"
SHORTEST_BYTES = 4
"""A shorter value is in too many words that are none."""


class Mask:
    """Replaces each line of each value in bytes that come piece by piece, also one that begins in one piece and ends in a later one."""

    def __init__(self, values: Iterable[str]) -> None:
        lines = {line.strip() for value in values for line in value.encode().splitlines()}
        # Of two that begin alike the longer one is looked for first.
        self._hidden = sorted((line for line in lines if len(line) >= SHORTEST_BYTES), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._hidden))) if self._hidden else None
        self._kept = b""

    @property
    def hides(self) -> bool:
        """Whether there is anything to be masked."""
        return self._pattern is not None

    def feed(self, piece: bytes) -> bytes:
        """What of this piece, and of those before, may be shown now. An end that may be the beginning of a value is kept back."""
        if self._pattern is None:
            return piece
        found = self._kept + piece
        cut = self._find_beginning(found)
        cut = next((match.start() for match in self._pattern.finditer(found) if match.start() < cut < match.end()), cut)
        self._kept = found[cut:]
        return self._pattern.sub(MASKED, found[:cut])

    def rest(self) -> bytes:
        """What was kept back, at the end."""
        kept, self._kept = self._kept, b""
        return self._pattern.sub(MASKED, kept) if self._pattern else kept

    def _find_beginning(self, found: bytes) -> int:
        """Where the longest end begins that is a part of a value, from its beginning on."""
        starts = [len(found)]
        for hidden in self._hidden:
            start = found.find(hidden[:1], max(0, len(found) - len(hidden) + 1))
            while start >= 0 and not hidden.startswith(found[start:]):
                start = found.find(hidden[:1], start + 1)
            if start >= 0:
                starts.append(start)
        return min(starts)
