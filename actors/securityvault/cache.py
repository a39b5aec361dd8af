"""What a replica remembers of credentials: for 30 s at most, and until a revocation says otherwise.

Entries are kept under the credential's SHA-256, never the credential, and found again by tag (``account:…``, ``key:…``,
``session:…``, ``job:…``) when the database announces that something about the tag has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class _Entry(Generic[V]):
    value: V
    tags: tuple[str, ...]
    ends: float


class TaggedCache(Generic[V]):
    """Values by key with an end of life and tags. ``generation`` counts announcements, so that a look-up that one overtook is not kept."""

    def __init__(self, max_age_s: float, most: int = 20_000) -> None:
        self.max_age_s, self._most = max_age_s, most
        self._entries: dict[bytes, _Entry[V]] = {}
        self._tagged: dict[str, set[bytes]] = {}
        self.generation = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.ends <= time.monotonic():
            self._drop(key)
            return None
        return entry.value

    def put(self, key: bytes, value: V, tags: tuple[str, ...], generation: int, ends_in_s: float | None = None) -> None:
        """Keep ``value``, unless something was announced since ``generation`` was read (before the look-up)."""
        if generation != self.generation:
            return
        self._drop(key)
        while len(self._entries) >= self._most:
            self._drop(next(iter(self._entries)))
        age_s = self.max_age_s if ends_in_s is None else min(self.max_age_s, ends_in_s)
        self._entries[key] = _Entry(value, tags, time.monotonic() + age_s)
        for tag in tags:
            self._tagged.setdefault(tag, set()).add(key)

    def left_s(self, key: bytes) -> float:
        """How long the entry is still believed; nothing is for 0 s."""
        entry = self._entries.get(key)
        return entry.ends - time.monotonic() if entry else 0.0

    def forget(self, tag: str) -> None:
        """Drop what carries ``tag``."""
        self.generation += 1
        for key in tuple(self._tagged.get(tag, ())):
            self._drop(key)

    def clear(self) -> None:
        self.generation += 1
        self._entries.clear()
        self._tagged.clear()

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        for tag in entry.tags if entry else ():
            self._untag(tag, key)

    def _untag(self, tag: str, key: bytes) -> None:
        keys: Iterable[bytes] | None = self._tagged.get(tag)
        if isinstance(keys, set):
            keys.discard(key)
            if not keys:
                del self._tagged[tag]


class SingleFlight(Generic[V]):
    """Asks once for what many want at the same moment: a busy caller's entry ends for all its requests together."""

    def __init__(self) -> None:
        self._under_way: dict[object, asyncio.Task[V]] = {}

    async def run(self, key: object, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer to ``key``, asked for now or a moment ago. Who gives up does not end the question for the others."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(ask())
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: object, task: asyncio.Task[V]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # looked at, even where everybody who asked has left
