"""Manifests: immutable trees of sorted paths whose nodes are addressed by SHA-256.

A leaf holds files, an inner node the first path, digest, file count and bytes of each child. Where a node begins is
decided by the hash of the path alone (32 entries a node on average), so equal content gives equal nodes whatever the
history, a change rewrites one node a level, and a comparison skips what is equal. The shape is that of a prolly tree
(https://docs.dolthub.com/architecture/storage-engine/prolly-tree) with a skip list's levels.

Nothing here does I/O: a verb is a generator that yields the digests of the nodes it lacks and goes on when they are in
``Manifests.nodes``; its value is the result.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Steps = Generator[set[bytes], None, T]

_LEVEL_BITS = 5
_HEADER = struct.Struct("<BBII")
_VERSION = 1


class Entry(NamedTuple):
    """What a path leads to: a file's content (``files`` is 1) or a child node."""

    digest: bytes
    files: int
    size_bytes: int


class Differing(NamedTuple):
    """A path with its entry on either side; None where it is absent."""

    path: str
    old: Entry | None
    new: Entry | None


Items = list[tuple[str, Entry]]


@dataclass(frozen=True)
class Node:
    """Level 0: files by path. Above: children by the first path under them."""

    level: int
    paths: list[str]
    entries: list[Entry]

    @property
    def files(self) -> int:
        return sum(entry.files for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)

    def child(self, path: str) -> int:
        """Index of the child that owns ``path``; the first child also owns what sorts before it."""
        return max(0, bisect_right(self.paths, path) - 1)


def encode(node: Node) -> bytes:
    """The stored form: header, paths, digests, sizes and (inner nodes) counts, each as one column."""
    paths = "\0".join(node.paths).encode()
    columns = [
        _HEADER.pack(_VERSION, node.level, len(node.paths), len(paths)),
        paths,
        b"".join(entry.digest for entry in node.entries),
        _column(entry.size_bytes for entry in node.entries),
    ]
    if node.level:
        columns.append(_column(entry.files for entry in node.entries))
    return b"".join(columns)


def decode(data: bytes) -> Node:
    """The node behind ``encode``'s bytes. Raises: ValueError for another version."""
    version, level, count, paths_bytes = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"manifest node of version {version}")
    at = _HEADER.size
    paths = data[at : at + paths_bytes].decode().split("\0") if count else []
    at += paths_bytes
    digests = [data[i : i + 32] for i in range(at, at + 32 * count, 32)]
    at += 32 * count
    sizes = struct.unpack_from(f"<{count}Q", data, at)
    files = struct.unpack_from(f"<{count}Q", data, at + 8 * count) if level else (1,) * count
    return Node(level, paths, [Entry(*row) for row in zip(digests, files, sizes, strict=True)])


def level_of(data: bytes) -> int:
    """The level of an encoded node."""
    return _HEADER.unpack_from(data)[1]


def _column(values: Iterable[int]) -> bytes:
    column = array("Q", values)
    return struct.pack(f"<{len(column)}Q", *column)


def begins_node(path: str, level: int) -> bool:
    """Whether ``path`` is the first of a node at ``level``."""
    mark = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")
    return mark & ((1 << (_LEVEL_BITS * (level + 1))) - 1) == 0


_EMPTY_NODE = Node(0, [], [])
EMPTY = hashlib.sha256(encode(_EMPTY_NODE)).digest()
"""Digest of the tree without files."""


class Manifests:
    """Trees of one project: ``nodes`` are those loaded so far, ``made`` the new ones to be stored."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, Node] = {EMPTY: _EMPTY_NODE}
        self.made: dict[bytes, bytes] = {}

    def add(self, stored: Mapping[bytes, bytes]) -> None:
        """Take over nodes that were asked for. Raises: ValueError when one is not what its digest says."""
        for digest, data in stored.items():
            if hashlib.sha256(data).digest() != digest:
                raise ValueError(f"manifest node {digest.hex()} is damaged")
            self.nodes[digest] = decode(data)

    def summary(self, root: bytes) -> Steps[Entry]:
        """Files and bytes of a tree."""
        (node,) = yield from self._load([root])
        return Entry(root, node.files, node.size_bytes)

    def edit(self, root: bytes, changes: Mapping[str, Entry | None]) -> Steps[bytes]:
        """The tree after ``changes`` (None removes a path); equal to a tree built from the same files at once."""
        (top,) = yield from self._load([root])
        pending = dict(changes)
        for level in range(top.level + 1):
            if not pending:
                return root
            pending = yield from self._rewrite(root, level, pending)
        items = sorted((path, entry) for path, entry in pending.items() if entry is not None)
        level = top.level
        while len(items) > 1:
            level += 1
            items = self._make(level, items, {path for path, _ in items})
        return (yield from self._lowest(items[0][1].digest)) if items else EMPTY

    def _lowest(self, root: bytes) -> Steps[bytes]:
        """The root without a chain of only children above it, so that a tree has one form."""
        (node,) = yield from self._load([root])
        while node.level and len(node.entries) == 1:
            if self.made.pop(root, None) is not None:
                del self.nodes[root]
            root = node.entries[0].digest
            (node,) = yield from self._load([root])
        return root

    def _rewrite(self, root: bytes, level: int, changes: Mapping[str, Entry | None]) -> Steps[dict[str, Entry | None]]:
        """Apply changes at ``level``; what that changes one level up."""
        rewritten: dict[str, tuple[bytes, Items]] = {}
        for digest, paths in (yield from self._owners(root, level, changes)):
            node = self.nodes[digest]
            first = node.paths[0] if node.paths else ""
            rewritten[first] = (digest, _merge(node, {path: changes[path] for path in paths}))
            yield from self._join(root, level, rewritten, first)
        parent: dict[str, Entry | None] = dict.fromkeys(rewritten)
        parent.pop("", None)
        # Inside a node as it was, no path begins one.
        candidates = changes.keys() | rewritten.keys()
        for _, items in rewritten.values():
            parent.update(self._make(level, items, candidates))
        for first, (digest, _) in rewritten.items():
            made = parent.get(first)
            if made is not None and made.digest == digest != root:
                del parent[first]
        return parent

    def _join(self, root: bytes, level: int, rewritten: dict[str, tuple[bytes, Items]], first: str) -> Steps[None]:
        """Where the path that began the node at ``first`` is gone, append the rest to the node before it."""
        digest, items = rewritten[first]
        before = first
        while items and not begins_node(items[0][0], level):
            found = yield from self._before(root, level, before)
            if found is None:
                return
            before, previous = found
            if before not in rewritten:
                node = self.nodes[previous]
                rewritten[before] = (previous, list(zip(node.paths, node.entries, strict=True)))
            if rewritten[before][1]:
                rewritten[before][1].extend(items)
                rewritten[first] = (digest, [])
                return

    def _make(self, level: int, items: Items, candidates: Set[str]) -> Items:
        """Cut items into nodes of ``level``, at ``candidates`` only, and keep the nodes as made; an item a node, for the level above."""
        starts = [0, *(i for i in range(1, len(items)) if items[i][0] in candidates and begins_node(items[i][0], level))] if items else []
        above: Items = []
        for start, end in pairwise([*starts, len(items)]):
            node = Node(level, [path for path, _ in items[start:end]], [entry for _, entry in items[start:end]])
            data = encode(node)
            digest = hashlib.sha256(data).digest()
            if digest not in self.nodes:
                self.nodes[digest] = node
                self.made[digest] = data
            above.append((node.paths[0], Entry(digest, node.files, node.size_bytes)))
        return above

    def _owners(self, root: bytes, level: int, paths: Iterable[str]) -> Steps[list[tuple[bytes, list[str]]]]:
        """The nodes at ``level`` that own the paths, in order and loaded, each with its paths."""
        owners: dict[bytes, list[str]] = {root: sorted(paths)}
        nodes = yield from self._load(list(owners))
        while nodes and nodes[0].level > level:
            below: dict[bytes, list[str]] = {}
            for node, owned in zip(nodes, owners.values(), strict=True):
                for path in owned:
                    below.setdefault(node.entries[node.child(path)].digest, []).append(path)
            owners = below
            nodes = yield from self._load(list(owners))
        return list(owners.items())

    def _before(self, root: bytes, level: int, path: str) -> Steps[tuple[str, bytes] | None]:
        """First path and digest of the last node at ``level`` that begins before ``path``, loaded."""
        digest = root
        (node,) = yield from self._load([digest])
        if not node.paths or node.paths[0] >= path:
            return None
        while node.level > level:
            digest = node.entries[bisect_left(node.paths, path) - 1].digest
            (node,) = yield from self._load([digest])
        return node.paths[0], digest

    def find(self, root: bytes, paths: Iterable[str]) -> Steps[dict[str, Entry]]:
        """The entries of those paths that are files of the tree."""
        found = {}
        for digest, owned in (yield from self._owners(root, 0, paths)):
            node = self.nodes[digest]
            for path in owned:
                at = bisect_left(node.paths, path)
                if at < len(node.paths) and node.paths[at] == path:
                    found[path] = node.entries[at]
        return found

    def following(self, root: bytes, keys: Iterable[str]) -> Steps[dict[str, str]]:
        """For each key the first path of the tree that is not before it; keys after all paths are left out."""
        bounds: dict[str, str] = {}
        owners: dict[bytes, list[str]] = {root: sorted(keys)}
        while owners:
            below: dict[bytes, list[str]] = {}
            for node, owned in zip((yield from self._load(list(owners))), owners.values(), strict=True):
                for key in owned:
                    after = bisect_left(node.paths, key)
                    if after < len(node.paths):
                        bounds[key] = node.paths[after]
                    if node.level:
                        below.setdefault(node.entries[node.child(key)].digest, []).append(key)
            owners = below
        return bounds

    def scan(self, root: bytes, *, after: str = "", prefix: str = "", limit: int | None = None) -> Steps[Items]:
        """Files in the order of their paths: those later than ``after`` that begin with ``prefix``."""
        nodes = yield from self._load([root])
        while nodes and nodes[0].level:
            chosen: list[bytes] = []
            sure = 0
            for node in nodes:
                for i, (first, entry) in enumerate(zip(node.paths, node.entries, strict=True)):
                    too_late = first > prefix and not first.startswith(prefix)
                    if too_late or (limit is not None and sure >= limit):
                        break
                    if i + 1 < len(node.paths) and node.paths[i + 1] <= max(after, prefix):
                        continue
                    chosen.append(entry.digest)
                    # Only a child that lies wholly in the asked range counts for sure.
                    sure += entry.files if first > after and first.startswith(prefix) else 0
            nodes = yield from self._load(chosen)
        files = [
            (path, entry)
            for node in nodes
            for path, entry in zip(node.paths, node.entries, strict=True)
            if path > after and path.startswith(prefix)
        ]
        return files if limit is None else files[:limit]

    def compare(self, old: bytes, new: bytes) -> Steps[list[Differing]]:
        """What differs between two trees, by path; equal nodes are never read."""
        sides = [{old}, {new}]
        while True:
            sides = [sides[0] - sides[1], sides[1] - sides[0]]
            yield from self._load([*sides[0], *sides[1]])
            level = max((self.nodes[digest].level for side in sides for digest in side), default=0)
            if not level:
                break
            sides = [self._descend(side, level) for side in sides]
        left, right = (
            {path: e for d in side for path, e in zip(self.nodes[d].paths, self.nodes[d].entries, strict=True)} for side in sides
        )
        return [Differing(path, left.get(path), right.get(path)) for path in sorted({*left, *right}) if left.get(path) != right.get(path)]

    def _descend(self, side: set[bytes], level: int) -> set[bytes]:
        """The nodes of ``side`` with those at ``level`` replaced by their children."""
        tall = {digest for digest in side if self.nodes[digest].level == level}
        return (side - tall) | {entry.digest for digest in tall for entry in self.nodes[digest].entries}

    def _load(self, digests: list[bytes]) -> Steps[list[Node]]:
        missing = {digest for digest in digests if digest not in self.nodes}
        if missing:
            yield missing
        return [self.nodes[digest] for digest in digests]


def _merge(node: Node, changes: Mapping[str, Entry | None]) -> Items:
    items = dict(zip(node.paths, node.entries, strict=True))
    for path, entry in changes.items():
        if entry is None:
            items.pop(path, None)
        else:
            items[path] = entry
    return sorted(items.items())
