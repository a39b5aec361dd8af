"""Manifests against plain dictionaries: any history of edits equals the tree built at once."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.dataforge import manifest
from data_pipelines.dataforge.manifest import EMPTY, Differing, Manifests, Steps, T
from data_pipelines.dataforge.nodes import Entry, Node, decode, encode


class Store:
    """Nodes by digest, as PostgreSQL keeps them; counts what is read."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.reads = 0

    def run(self, manifests: Manifests, steps: Steps[T]) -> T:
        try:
            needed = next(steps)
            while True:
                self.reads += len(needed)
                manifests.add({digest: self.kept[digest] for digest in needed})
                needed = steps.send(None)
        except StopIteration as done:
            return done.value

    def edit(self, root: bytes, changes: dict[str, Entry | None]) -> bytes:
        manifests = Manifests()
        edited = self.run(manifests, manifests.edit(root, changes))
        self.kept |= manifests.made
        assert edited.root == self.run(manifests, manifests.summary(edited.root.digest))
        return edited.root.digest

    def files(self, root: bytes) -> dict[str, Entry]:
        manifests = Manifests()
        return dict(self.run(manifests, manifests.scan(root)))


def entry(content: int) -> Entry:
    return Entry(hashlib.sha256(str(content).encode()).digest(), 1, content)


def tree_of(files: dict[str, Entry]) -> tuple[Store, bytes]:
    store = Store()
    return store, store.edit(EMPTY, dict(files))


@functools.cache
def _large_nodes(_level_bits: int) -> tuple[dict[bytes, bytes], bytes]:
    store, root = tree_of({f"{i:06}": entry(i) for i in range(5000)})
    return store.kept, root


def large_tree() -> tuple[Store, bytes]:
    """5,000 files, made once for each size of a node."""
    store = Store()
    kept, root = _large_nodes(manifest._LEVEL_BITS)
    store.kept |= kept
    return store, root


PATHS = st.text(st.sampled_from("abé/.0"), min_size=1, max_size=4)
ENTRIES = st.integers(0, 5).map(entry)
EDITS = st.dictionaries(PATHS, st.none() | ENTRIES, max_size=25)


@pytest.fixture(autouse=True, params=[1, 2, 5], ids=lambda bits: f"{2**bits} a node")
def node_size(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small nodes make deep trees of few paths."""
    patch = pytest.MonkeyPatch()
    patch.setattr(manifest, "_LEVEL_BITS", request.param)
    yield
    patch.undo()


class TestEdit:
    @given(st.lists(EDITS, max_size=8))
    def test_any_history_equals_a_dictionary_and_the_tree_built_at_once(self, history: list[dict[str, Entry | None]]) -> None:
        store, root, model = Store(), EMPTY, {}
        for edits in history:
            manifests = Manifests()
            added = store.run(manifests, manifests.edit(root, edits)).added
            assert added == [path for path, e in edits.items() if e is not None and path not in model]
            root = store.edit(root, edits)
            model = {path: e for path, e in (model | edits).items() if e is not None}
            assert store.files(root) == model
            assert list(store.files(root)) == sorted(model)
            assert root == tree_of(model)[1]

    def test_a_change_of_a_large_tree_writes_one_node_a_level(self) -> None:
        store, root = large_tree()
        before = len(store.kept)
        store.edit(root, {"001234": entry(7)})
        manifests = Manifests()
        top = store.run(manifests, manifests.summary(root))
        assert top == Entry(root, 5000, sum(range(5000)))
        assert len(store.kept) - before <= manifests.nodes[root].level + 1

    def test_an_edit_that_changes_nothing_gives_the_same_root_and_no_nodes(self) -> None:
        store, root = tree_of({f"{i}": entry(i) for i in range(500)})
        manifests = Manifests()
        assert store.run(manifests, manifests.edit(root, {"17": entry(17), "absent": None})).root.digest == root
        assert not manifests.made

    def test_removing_all_files_gives_the_empty_tree(self) -> None:
        store, root = tree_of({f"{i}": entry(i) for i in range(300)})
        assert store.edit(root, {f"{i}": None for i in range(300)}) == EMPTY


class TestReads:
    @given(st.dictionaries(PATHS, ENTRIES, max_size=60), PATHS | st.just(""), PATHS | st.just(""), st.none() | st.integers(1, 9))
    def test_scan_equals_a_filtered_dictionary(self, files: dict[str, Entry], after: str, prefix: str, limit: int | None) -> None:
        store, root = tree_of(files)
        manifests = Manifests()
        found = store.run(manifests, manifests.scan(root, after=after, prefix=prefix, limit=limit))
        assert found == sorted((p, e) for p, e in files.items() if p > after and p.startswith(prefix))[:limit]

    @given(st.dictionaries(PATHS, ENTRIES, max_size=60), st.lists(PATHS, max_size=20))
    def test_find_and_following_equal_a_dictionary(self, files: dict[str, Entry], keys: list[str]) -> None:
        store, root = tree_of(files)
        manifests = Manifests()
        assert store.run(manifests, manifests.find(root, keys)) == {key: files[key] for key in keys if key in files}
        later = {key: min(path for path in files if path >= key) for key in keys if any(path >= key for path in files)}
        assert store.run(manifests, manifests.following(root, keys)) == later

    def test_a_page_reads_few_nodes(self) -> None:
        store, root = large_tree()
        store.reads = 0
        manifests = Manifests()
        page = store.run(manifests, manifests.scan(root, after="002000", limit=100))
        assert [path for path, _ in page] == [f"{i:06}" for i in range(2001, 2101)]
        assert store.reads < 500


class TestCompare:
    @given(st.dictionaries(PATHS, ENTRIES, max_size=60), EDITS)
    def test_equals_the_difference_of_dictionaries(self, files: dict[str, Entry], edits: dict[str, Entry | None]) -> None:
        store, old = tree_of(files)
        new = store.edit(old, edits)
        after = store.files(new)
        manifests = Manifests()
        expected = [Differing(p, files.get(p), after.get(p)) for p in sorted({*files, *after}) if files.get(p) != after.get(p)]
        assert store.run(manifests, manifests.compare(old, new)) == expected

    def test_equal_parts_are_not_read(self) -> None:
        store, old = large_tree()
        new = store.edit(old, {"001234": None})
        store.reads = 0
        manifests = Manifests()
        assert store.run(manifests, manifests.compare(old, new)) == [Differing("001234", entry(1234), None)]
        assert store.reads <= 2 * (manifests.nodes[old].level + 2)


class TestHolding:
    @given(st.lists(EDITS, min_size=1, max_size=6), ENTRIES, st.sets(PATHS, max_size=8))
    def test_names_the_trees_where_a_path_leads_to_the_content(
        self, history: list[dict[str, Entry | None]], wanted: Entry, paths: set[str]
    ) -> None:
        store, roots = Store(), [EMPTY]
        for edits in history:
            roots.append(store.edit(roots[-1], edits))
        manifests = Manifests()
        found = store.run(manifests, manifests.holding(set(roots), paths, wanted.digest))
        held = {root: store.files(root) for root in roots}
        assert found == {root for root, files in held.items() if any(files.get(path) == wanted for path in paths)}

    def test_what_trees_have_in_common_is_read_once(self) -> None:
        store, first = large_tree()
        roots = {first, *(store.edit(first, {"004999": entry(i)}) for i in range(20))}
        store.reads = 0
        manifests = Manifests()
        assert store.run(manifests, manifests.holding(roots, {"000001"}, entry(1).digest)) == roots
        assert store.reads <= len(roots) + manifests.nodes[first].level


class TestWhatIsAtHand:
    def test_saves_reading_it(self) -> None:
        store, root = large_tree()
        first = Manifests()
        store.run(first, first.find(root, ["001234"]))
        store.reads = 0
        second = Manifests(first.nodes.get)
        assert store.run(second, second.find(root, ["001234"])) == {"001234": entry(1234)}
        assert store.reads == 0

    def test_is_stored_again_by_who_makes_it(self) -> None:
        """The store may have lost it since: a collector takes what no commit leads to."""
        store, root = tree_of({f"{i:06}": entry(i) for i in range(500)})
        known = {digest: decode(data) for digest, data in store.kept.items()}
        again = Manifests(known.get)
        edited = store.run(again, again.edit(EMPTY, {f"{i:06}": entry(i) for i in range(500)}))
        assert edited.root.digest == root
        assert again.made == store.kept


class TestEncode:
    def test_round_trip_keeps_unicode_and_empty_nodes(self) -> None:
        for level in (0, 1):
            node = Node.of(level, [("a", entry(1)), ("é/日本", entry(2)), ("🙂", entry(2**60))])
            assert decode(encode(node)) == node
        assert decode(encode(Node.of(0, []))) == Node.of(0, [])

    def test_a_damaged_node_is_refused(self) -> None:
        with pytest.raises(ValueError, match="damaged"):
            Manifests().add({EMPTY: b"\1\0"})
