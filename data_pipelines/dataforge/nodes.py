"""A node of a manifest: sorted paths and what they lead to, kept as columns and stored as they are."""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_HEADER = struct.Struct("<BBII")
_VERSION = 1
_DIGEST_BYTES = 32


class Entry(NamedTuple):
    """What a path leads to: a file's content (``files`` is 1) or a child node."""

    digest: bytes
    files: int
    size_bytes: int


Items = list[tuple[str, Entry]]


@dataclass(frozen=True)
class Node:
    """Level 0: files by path. Above: children by the first path under them. The n-th path's digest is the n-th 32 bytes.

    Columns and not entries: an edit of a few of them costs no object for each of the others.
    """

    level: int
    paths: list[str]
    digests: bytes
    sizes: array[int]
    counts: array[int]
    """Files under each child; empty at level 0, where each is one."""

    @classmethod
    def of(cls, level: int, items: Items) -> Node:
        """The node of these items, which are in order."""
        entries = [entry for _, entry in items]
        counts = [entry.files for entry in entries] if level else ()
        digests = b"".join(entry.digest for entry in entries)
        return cls(level, [path for path, _ in items], digests, array("Q", [entry.size_bytes for entry in entries]), array("Q", counts))

    def total(self, digest: bytes) -> Entry:
        """What leads to this node, whose digest is given."""
        return Entry(digest, sum(self.counts) if self.level else len(self.paths), sum(self.sizes))

    def digest(self, at: int) -> bytes:
        return self.digests[_DIGEST_BYTES * at : _DIGEST_BYTES * (at + 1)]

    def entry(self, at: int) -> Entry:
        return Entry(self.digest(at), self.counts[at] if self.level else 1, self.sizes[at])

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Paths and entries in order."""
        return ((path, self.entry(at)) for at, path in enumerate(self.paths))

    def child(self, path: str) -> int:
        """Index of the child that owns ``path``; the first child also owns what sorts before it."""
        return max(0, bisect_right(self.paths, path) - 1)

    def find(self, path: str) -> Entry | None:
        """The entry of exactly this path."""
        at = bisect_left(self.paths, path)
        return self.entry(at) if at < len(self.paths) and self.paths[at] == path else None

    def edited(self, changes: Mapping[str, Entry | None]) -> Node:
        """The node after ``changes``; one with the same paths shares their list."""
        digests, sizes, counts = bytearray(self.digests), self.sizes[:], self.counts[:]
        for path, entry in changes.items():
            at = bisect_left(self.paths, path)
            if entry is None or at == len(self.paths) or self.paths[at] != path:
                return self._rebuilt(changes)
            digests[_DIGEST_BYTES * at : _DIGEST_BYTES * (at + 1)] = entry.digest
            sizes[at] = entry.size_bytes
            if self.level:
                counts[at] = entry.files
        return Node(self.level, self.paths, bytes(digests), sizes, counts)

    def _rebuilt(self, changes: Mapping[str, Entry | None]) -> Node:
        items: dict[str, Entry | None] = {**dict(self.items()), **changes}
        return Node.of(self.level, sorted((path, entry) for path, entry in items.items() if entry is not None))

    def joined(self, after: Node) -> Node:
        """This node and the one that follows it as one."""
        return Node(
            self.level, self.paths + after.paths, self.digests + after.digests, self.sizes + after.sizes, self.counts + after.counts
        )

    def part(self, start: int, end: int) -> Node:
        """The entries from ``start`` to before ``end``."""
        digests = self.digests[_DIGEST_BYTES * start : _DIGEST_BYTES * end]
        return Node(self.level, self.paths[start:end], digests, self.sizes[start:end], self.counts[start:end])


def encode(node: Node) -> bytes:
    """The stored form: header, paths, digests, sizes and (inner nodes) counts, each as one column."""
    paths = "\0".join(node.paths).encode()
    header = _HEADER.pack(_VERSION, node.level, len(node.paths), len(paths))
    return b"".join((header, paths, node.digests, _to_bytes(node.sizes), _to_bytes(node.counts)))


def decode(data: bytes) -> Node:
    """The node behind ``encode``'s bytes. Raises: ValueError for another version."""
    version, level, count, paths_bytes = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"manifest node of version {version}")
    digests = _HEADER.size + paths_bytes
    sizes = digests + _DIGEST_BYTES * count
    counts = sizes + 8 * count
    paths = data[_HEADER.size : digests].decode().split("\0") if count else []
    return Node(level, paths, data[digests:sizes], _from_bytes(data[sizes:counts]), _from_bytes(data[counts:]))


def level_of(data: bytes) -> int:
    """The level of an encoded node."""
    return int(_HEADER.unpack_from(data)[1])


def _to_bytes(column: array[int]) -> bytes:
    return _from_bytes(column.tobytes()).tobytes() if sys.byteorder == "big" else column.tobytes()


def _from_bytes(data: bytes) -> array[int]:
    """Little-endian, whatever the machine."""
    column = array("Q", data)
    if sys.byteorder == "big":
        column.byteswap()
    return column
