"""Manifests: immutable trees of sorted paths whose nodes are addressed by SHA-256.

A leaf holds files, an inner node the first path, digest, file count and bytes of each child. Where a node begins is
decided by the hash of the path alone (32 entries a node on average), so equal content gives equal nodes whatever the
history, a change rewrites one node a level, and a comparison skips what is equal. The shape is that of a prolly tree
(https://docs.dolthub.com/architecture/storage-engine/prolly-tree) with a skip list's levels.

Nothing here does I/O: a verb is a generator that yields the digests of the nodes it lacks and goes on when they were given to
``Manifests.add``; its value is the result.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Mapping, Set
from itertools import pairwise
from typing import NamedTuple, TypeVar

from data_pipelines.dataforge.nodes import Entry, Items, Node, decode, encode

T = TypeVar("T")
Steps = Generator[set[bytes], None, T]

_LEVEL_BITS = 5


class Differing(NamedTuple):
    """A path with its entry on either side; None where it is absent."""

    path: str
    old: Entry | None
    new: Entry | None


class Edited(NamedTuple):
    """The tree after an edit, and the paths that are new in it."""

    root: Entry
    added: list[str]


def begins_node(path: str, level: int) -> bool:
    """Whether ``path`` is the first of a node at ``level``."""
    mark = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")
    return mark & ((1 << (_LEVEL_BITS * (level + 1))) - 1) == 0


_EMPTY_NODE = Node.of(0, [])
EMPTY = hashlib.sha256(encode(_EMPTY_NODE)).digest()
"""Digest of the tree without files."""


class Manifests:
    """Trees of one project: ``nodes`` are those reached so far, ``made`` the new ones to be stored. ``known``: what is at hand unread."""

    def __init__(self, known: Callable[[bytes], Node | None] = lambda _: None) -> None:
        self._known = known
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
        return node.total(root)

    def edit(self, root: bytes, changes: Mapping[str, Entry | None]) -> Steps[Edited]:
        """The tree after ``changes`` (None removes a path); equal to a tree built from the same files at once."""
        before = yield from self.find(root, changes)
        added = [path for path, entry in changes.items() if entry is not None and path not in before]
        top = self.nodes[root]
        pending = {path: entry for path, entry in changes.items() if entry != before.get(path)}
        for level in range(top.level + 1):
            if not pending:
                return Edited(top.total(root), added)
            pending = yield from self._rewrite(root, level, pending)
        items = sorted((path, entry) for path, entry in pending.items() if entry is not None)
        level = top.level
        while len(items) > 1:
            level += 1
            items = self._make(Node.of(level, items), {path for path, _ in items})
        entry = items[0][1] if items else _EMPTY_NODE.total(EMPTY)
        return Edited((yield from self._lowest(entry)), added)

    def _lowest(self, root: Entry) -> Steps[Entry]:
        """The root without a chain of only children above it, so that a tree has one form."""
        (node,) = yield from self._load([root.digest])
        while node.level and len(node.paths) == 1:
            if self.made.pop(root.digest, None) is not None:
                del self.nodes[root.digest]
            root = node.entry(0)
            (node,) = yield from self._load([root.digest])
        return root

    def _rewrite(self, root: bytes, level: int, changes: Mapping[str, Entry | None]) -> Steps[dict[str, Entry | None]]:
        """Apply changes at ``level``; what that changes one level up."""
        drafts: dict[str, tuple[bytes, Node]] = {}
        for digest, paths in (yield from self._owners(root, level, changes)):
            node = self.nodes[digest]
            first = node.paths[0] if node.paths else ""
            drafts[first] = (digest, node.edited({path: changes[path] for path in paths}))
            yield from self._join(root, level, drafts, first)
        parent: dict[str, Entry | None] = dict.fromkeys(drafts)
        parent.pop("", None)
        # Inside a node as it was, no path begins one.
        candidates = changes.keys() | drafts.keys()
        for digest, draft in drafts.values():
            parent.update(self._make(draft, candidates if draft.paths is not self.nodes[digest].paths else set()))
        for first, (digest, _) in drafts.items():
            made = parent.get(first)
            if made is not None and made.digest == digest != root:
                del parent[first]
        return parent

    def _join(self, root: bytes, level: int, drafts: dict[str, tuple[bytes, Node]], first: str) -> Steps[None]:
        """Where the path that began the node at ``first`` is gone, append the rest to the node before it."""
        digest, draft = drafts[first]
        if draft.paths and (draft.paths[0] == first or begins_node(draft.paths[0], level)):
            return
        before = first
        while draft.paths:
            found = yield from self._before(root, level, before)
            if found is None:
                return
            before, previous = found
            drafts.setdefault(before, (previous, self.nodes[previous]))
            if drafts[before][1].paths:
                drafts[before] = (drafts[before][0], drafts[before][1].joined(draft))
                drafts[first] = (digest, Node.of(level, []))
                return

    def _make(self, draft: Node, candidates: Set[str]) -> Items:
        """Cut a draft into nodes, at ``candidates`` only, and keep them as made; an item a node, for the level above."""
        paths = draft.paths
        if not paths:
            return []
        inside = (i for i in range(1, len(paths)) if paths[i] in candidates and begins_node(paths[i], draft.level)) if candidates else ()
        above: Items = []
        for start, end in pairwise([0, *inside, len(paths)]):
            node = draft if end - start == len(paths) else draft.part(start, end)
            data = encode(node)
            digest = hashlib.sha256(data).digest()
            if digest not in self.nodes:
                self.nodes[digest] = node
                self.made[digest] = data
            above.append((paths[start], node.total(digest)))
        return above

    def _owners(self, root: bytes, level: int, paths: Iterable[str]) -> Steps[list[tuple[bytes, list[str]]]]:
        """The nodes at ``level`` that own the paths, in order and loaded, each with its paths."""
        owners: dict[bytes, list[str]] = {root: sorted(paths)}
        nodes = yield from self._load(list(owners))
        while nodes and nodes[0].level > level:
            below: dict[bytes, list[str]] = {}
            for node, owned in zip(nodes, owners.values(), strict=True):
                for path in owned:
                    below.setdefault(node.digest(node.child(path)), []).append(path)
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
            digest = node.digest(bisect_left(node.paths, path) - 1)
            (node,) = yield from self._load([digest])
        return node.paths[0], digest

    def find(self, root: bytes, paths: Iterable[str]) -> Steps[dict[str, Entry]]:
        """The entries of those paths that are files of the tree."""
        found = {}
        for digest, owned in (yield from self._owners(root, 0, paths)):
            node = self.nodes[digest]
            for path in owned:
                if entry := node.find(path):
                    found[path] = entry
        return found

    def holding(self, roots: Set[bytes], paths: Set[str], content: bytes) -> Steps[set[bytes]]:
        """Those of the trees in which one of the paths leads to ``content``. What they have in common is read once."""
        above: dict[bytes, set[bytes]] = {}
        holding: set[bytes] = set()
        owned: dict[bytes, Set[str]] = dict.fromkeys(roots, paths)
        while owned:
            below: dict[bytes, set[str]] = {}
            for node, (digest, wanted) in zip((yield from self._load(list(owned))), owned.items(), strict=True):
                if not node.level and any((entry := node.find(path)) and entry.digest == content for path in wanted):
                    holding.add(digest)
                for path in wanted if node.level else ():
                    child = node.digest(node.child(path))
                    below.setdefault(child, set()).add(path)
                    above.setdefault(child, set()).add(digest)
            owned = dict(below)
        rising = holding
        while rising:
            rising = {parent for digest in rising for parent in above.get(digest, ())} - holding
            holding = holding | rising
        return holding & roots

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
                        below.setdefault(node.digest(node.child(key)), []).append(key)
            owners = below
        return bounds

    def scan(self, root: bytes, *, after: str = "", prefix: str = "", limit: int | None = None) -> Steps[Items]:
        """Files in the order of their paths: those later than ``after`` that begin with ``prefix``."""
        nodes = yield from self._load([root])
        while nodes and nodes[0].level:
            chosen: list[bytes] = []
            sure = 0
            for node in nodes:
                for i, first in enumerate(node.paths):
                    too_late = first > prefix and not first.startswith(prefix)
                    if too_late or (limit is not None and sure >= limit):
                        break
                    if i + 1 < len(node.paths) and node.paths[i + 1] <= max(after, prefix):
                        continue
                    chosen.append(node.digest(i))
                    # Only a child that lies wholly in the asked range counts for sure.
                    sure += node.counts[i] if first > after and first.startswith(prefix) else 0
            nodes = yield from self._load(chosen)
        files = [(path, node.entry(i)) for node in nodes for i, path in enumerate(node.paths) if path > after and path.startswith(prefix)]
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
        left, right = (self._files(side) for side in sides)
        old_files = {path: left[path, digest] for path, digest in left.keys() - right.keys()}
        new_files = {path: right[path, digest] for path, digest in right.keys() - left.keys()}
        differing = sorted(old_files.keys() | new_files.keys())
        return [Differing(path, _entry(old_files.get(path)), _entry(new_files.get(path))) for path in differing]

    def _files(self, leaves: set[bytes]) -> dict[tuple[str, bytes], tuple[Node, int]]:
        """Where each file of the leaves stands, by path and content."""
        return {(path, node.digest(i)): (node, i) for node in map(self.nodes.__getitem__, leaves) for i, path in enumerate(node.paths)}

    def _descend(self, side: set[bytes], level: int) -> set[bytes]:
        """The nodes of ``side`` with those at ``level`` replaced by their children."""
        tall = {digest for digest in side if self.nodes[digest].level == level}
        return (side - tall) | {node.digest(i) for node in map(self.nodes.__getitem__, tall) for i in range(len(node.paths))}

    def _load(self, digests: list[bytes]) -> Steps[list[Node]]:
        missing = set()
        for digest in digests:
            if digest not in self.nodes:
                if node := self._known(digest):
                    self.nodes[digest] = node
                else:
                    missing.add(digest)
        if missing:
            yield missing
        return [self.nodes[digest] for digest in digests]


def _entry(place: tuple[Node, int] | None) -> Entry | None:
    return place[0].entry(place[1]) if place else None
