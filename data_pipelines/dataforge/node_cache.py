"""Inner nodes that this process has seen: they lead to a million files in three megabytes, and every verb begins at them.

A node never changes and is looked for by its digest only, which a live tree gave: so nothing here is ever stale, whatever
other processes write or collect. What a verb makes is stored all the same, for it compares with what it reached and not with this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from uuid import UUID

from data_pipelines.dataforge.nodes import Node

_MOST_ENTRIES = 500_000
"""About 80 MB, the inner nodes of fifteen million files."""


class NodeCache:
    """The nodes last used, by project and digest, up to ``most_entries`` entries of them together. Safe among threads."""

    def __init__(self, most_entries: int = _MOST_ENTRIES) -> None:
        self._most, self._held, self._lock = most_entries, 0, Lock()
        self._nodes: OrderedDict[tuple[UUID, bytes], Node] = OrderedDict()

    def find(self, project_id: UUID, digest: bytes) -> Node | None:
        """None where it has to be read."""
        with self._lock:
            node = self._nodes.get((project_id, digest))
            if node:
                self._nodes.move_to_end((project_id, digest))
            return node

    def keep(self, project_id: UUID, nodes: Iterable[tuple[bytes, Node]]) -> None:
        """Inner nodes of these stay; leaves are many, and each is read seldom."""
        with self._lock:
            for digest, node in nodes:
                if node.level and (project_id, digest) not in self._nodes:
                    self._nodes[project_id, digest] = node
                    self._held += len(node.paths)
            while self._held > self._most:
                _, dropped = self._nodes.popitem(last=False)
                self._held -= len(dropped.paths)
