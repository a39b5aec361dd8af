"""A shuffle that is computed, not stored: the n-th of a million in a microsecond, the same on every machine.

A Feistel network over the next even power of two, walked until the value lies in the range (Black and Rogaway, "Ciphers with
Arbitrary Finite Domains", CT-RSA 2002). Mixing is SplitMix64's (Steele, Lea and Flood, OOPSLA 2014). It shuffles; it hides nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

_MASK = 2**64 - 1
_ROUNDS = 4


class Permutation:
    """A permutation of ``range(size)`` that is chosen by ``words``, anything that prints alike everywhere."""

    def __init__(self, size: int, *words: object) -> None:
        self.size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
        self._keys = [int.from_bytes(digest[8 * n : 8 * n + 8], "little") for n in range(_ROUNDS)]

    def __getitem__(self, index: int) -> int:
        """Where ``index`` goes."""
        while True:
            index = self._encrypt(index)
            if index < self.size:
                return index

    def to_array(self, numpy: Any, start: int, end: int) -> Any:
        """Where ``start`` to ``end`` go, all at once: the same as one by one."""
        values = self._encrypt(numpy.arange(start, end, dtype=numpy.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._encrypt(values[outside])
        return values.astype(numpy.int64)

    def _encrypt(self, value: Any) -> Any:
        half, mask = self._half, self._mask
        left, right = value >> half, value & mask
        for key in self._keys:
            mixed = (right ^ key) & _MASK
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
            left, right = right, left ^ ((mixed ^ (mixed >> 31)) & mask)
        return (left << half) | right
