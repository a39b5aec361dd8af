"""The inner nodes that a process keeps at hand: the last used, up to a bound, each project's its own."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from data_pipelines.dataforge.node_cache import NodeCache
from data_pipelines.dataforge.nodes import Entry, Node

OURS, THEIRS = UUID(int=1), UUID(int=2)


def node(name: str, level: int = 1) -> tuple[bytes, Node]:
    return sha256(name.encode()).digest(), Node.of(level, [(f"{name}{i}", Entry(bytes(32), 1, 1)) for i in range(10)])


class TestNodeCache:
    def test_gives_what_it_was_given_to_the_same_project_only(self) -> None:
        cache, (digest, kept) = NodeCache(), node("a")
        cache.keep(OURS, [(digest, kept)])
        assert cache.find(OURS, digest) is kept
        assert cache.find(THEIRS, digest) is None

    def test_leaves_do_not_stay(self) -> None:
        cache, (digest, leaf) = NodeCache(), node("a", level=0)
        cache.keep(OURS, [(digest, leaf)])
        assert cache.find(OURS, digest) is None

    def test_over_its_bound_what_was_not_used_longest_goes(self) -> None:
        cache, (first, a), (second, b), (third, c) = NodeCache(most_entries=20), node("a"), node("b"), node("c")
        cache.keep(OURS, [(first, a), (second, b)])
        cache.find(OURS, first)
        cache.keep(OURS, [(third, c), (third, c)])
        assert [cache.find(OURS, digest) for digest in (first, second, third)] == [a, None, c]
