"""Datasets, commits and refs on the real PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from uuid import UUID, uuid4

import pytest

from actors.securityvault.models import Scope
from cluster.db import Connection, Database
from cluster.events import list_events
from cluster.objects import Objects
from data_pipelines.dataforge import service, store
from data_pipelines.dataforge.errors import (
    BlobsMissing,
    DatasetExists,
    DatasetNotFound,
    FileNotFound,
    NothingToCommit,
    PathRepeated,
    PathsCollide,
    RefMoved,
    RefNameInvalid,
    RefNameTaken,
    RefNotFound,
    TagFixed,
    TreeNotFound,
)
from data_pipelines.dataforge.models import ChangeKind, Commit, CommitSpec, File, RefKind, RefSpec, StoredBlob, TreeSpec

pytestmark = pytest.mark.postgres


def file(path: str, content: str = "x") -> File:
    data = content.encode()
    return File(path, hashlib.sha256(data).hexdigest(), len(data))


async def know(conn: Connection, scope: Scope, files: Iterable[File]) -> None:
    """Record the contents as if they had been uploaded."""
    await store.record_blobs(conn, scope.project, [StoredBlob(f.sha256, f.size_bytes) for f in files if f.size_bytes])


async def commit(
    conn: Connection, scope: Scope, *files: File, parent: UUID | None = None, remove: tuple[str, ...] = (), branch: str = "main"
) -> Commit:
    await know(conn, scope, files)
    return await service.create_commit(conn, scope, "digits", CommitSpec(branch, "a message", parent, files, remove))


@pytest.fixture
async def digits(conn: Connection, scope: Scope) -> Connection:
    """A transaction in which the dataset ``digits`` exists."""
    await service.create_dataset(conn, scope, "digits", "Handwritten digits.")
    return conn


class TestDatasets:
    async def test_are_created_found_listed_and_deleted(self, conn: Connection, scope: Scope) -> None:
        made = [await service.create_dataset(conn, scope, f"set-{i}") for i in range(3)]
        assert await service.get_dataset(conn, scope, "set-1") == made[1]
        assert await service.list_datasets(conn, scope, None, 2) == [made[2], made[1]]
        assert await service.list_datasets(conn, scope, made[1].id, 2) == [made[0]]
        await service.delete_dataset(conn, scope, "set-1")
        with pytest.raises(DatasetNotFound):
            await service.get_dataset(conn, scope, "set-1")

    async def test_a_name_is_taken_once_a_project(self, database: Database, scope: Scope, other_scope: Scope) -> None:
        for each in (scope, other_scope):
            async with database.tenant(org_id=each.org_id, project_id=each.project_id) as conn:
                await service.create_dataset(conn, each, "digits")
        with pytest.raises(DatasetExists, match="digits"):
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                await service.create_dataset(conn, scope, "digits")

    async def test_deleting_takes_commits_and_refs_along(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        await commit(digits, scope, file("b"), parent=first.id)
        await service.delete_dataset(digits, scope, "digits")
        assert await store.find_commit(digits, scope.project, first.id) is None

    async def test_another_project_sees_nothing(self, database: Database, scope: Scope, other_scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "digits")
            made = await commit(conn, scope, file("a"))
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as conn:
            assert await service.list_datasets(conn, other_scope) == []
            with pytest.raises(DatasetNotFound):
                await service.get_commit(conn, other_scope, "digits", "main")
            with pytest.raises(RefNotFound):
                await service.list_files(conn, other_scope, made.id)
            assert await service.find_commits_with_blob(conn, other_scope, file("a").sha256) == []
            # The row policies alone, without the queries' own condition.
            rows = await conn.execute("SELECT (SELECT count(*) FROM dataforge.nodes) + (SELECT count(*) FROM dataforge.blobs) AS n")
            assert await rows.fetchone() == {"n": 0}


class TestCreateCommit:
    async def test_moves_the_branch_and_tells_it(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"), file("dir/é", "2"), file("empty", ""))
        assert (first.files, first.size_bytes, first.parent_id, first.author) == (3, 2, None, "ada")
        second = await commit(digits, scope, file("a", "new"), parent=first.id, remove=("empty",))
        assert await service.get_commit(digits, scope, "digits", "main") == second
        assert await service.get_commit(digits, scope, "digits", str(first.id)) == first
        assert await service.list_commits(digits, scope, "digits", "main") == [second, first]
        assert await service.list_files(digits, scope, second.id) == [file("a", "new"), file("dir/é", "2")]
        assert await service.list_files(digits, scope, first.id, prefix="d") == [file("dir/é", "2")]
        types = [event.type for event in await list_events(digits, after_seq=0)]
        assert types == ["dataforge.dataset.created", "dataforge.commit.created", "dataforge.commit.created"]

    async def test_refuses_a_head_that_moved_and_names_both(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        second = await commit(digits, scope, file("b"), parent=first.id)
        for stale in (first.id, None):
            with pytest.raises(RefMoved) as refused:
                await commit(digits, scope, file("c"), parent=stale)
            assert refused.value.fields["expected"] == (str(stale) if stale else None)
            assert refused.value.fields["actual"] == str(second.id)

    async def test_of_two_writers_at_once_one_wins(self, database: Database, scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "digits")
            first = await commit(conn, scope, file("a"))

        async def write(path: str) -> Commit | RefMoved:
            try:
                async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                    return await commit(conn, scope, file(path), parent=first.id)
            except RefMoved as error:
                return error

        results = await asyncio.gather(*(write(f"file-{i}") for i in range(6)))
        (winner,) = [result for result in results if isinstance(result, Commit)]
        losers = [result for result in results if isinstance(result, RefMoved)]
        assert len(losers) == 5
        assert all((e.fields["expected"], e.fields["actual"]) == (str(first.id), str(winner.id)) for e in losers)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert await service.list_commits(conn, scope, "digits", "main") == [winner, first]

    async def test_two_first_commits_at_once_make_one_branch(self, database: Database, scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "digits")

        async def write(path: str) -> Commit | RefMoved:
            try:
                async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                    return await commit(conn, scope, file(path))
            except RefMoved as error:
                return error

        results = await asyncio.gather(*(write(f"file-{i}") for i in range(4)))
        assert sorted(type(result).__name__ for result in results) == ["Commit", "RefMoved", "RefMoved", "RefMoved"]

    async def test_needs_every_content_with_its_size(self, digits: Connection, scope: Scope) -> None:
        await know(digits, scope, [file("a")])
        wrong_size = File("a", file("a").sha256, 7)
        for missing in (file("b", "never uploaded"), wrong_size, File("empty", file("", "").sha256, 1)):
            with pytest.raises(BlobsMissing, match=missing.path):
                await service.create_commit(digits, scope, "digits", CommitSpec("main", "", None, (file("a2"), missing)))

    async def test_refuses_a_path_that_is_a_file_and_a_folder(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a/b/c"), file("a.txt"))
        for path in ("a", "a/b", "a/b/c/d", "a.txt/b"):
            with pytest.raises(PathsCollide):
                await commit(digits, scope, file(path), parent=first.id)
        replaced = await commit(digits, scope, file("a/b"), parent=first.id, remove=("a/b/c",))
        assert [f.path for f in await service.list_files(digits, scope, replaced.id)] == ["a.txt", "a/b"]

    async def test_refuses_a_path_named_twice(self, digits: Connection, scope: Scope) -> None:
        for files, removed in (((file("a"), file("a", "y")), ()), ((file("a"),), ("a",)), ((), ("a", "a"))):
            with pytest.raises(PathRepeated, match="'a'"):
                await commit(digits, scope, *files, remove=removed)

    async def test_refuses_to_write_nothing(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        with pytest.raises(NothingToCommit, match=str(first.id)):
            await commit(digits, scope, file("a"), parent=first.id, remove=("absent",))

    async def test_in_pieces_equals_at_once(self, digits: Connection, scope: Scope) -> None:
        files = [file(f"images/{i:05}.png", str(i)) for i in range(3000)]
        await know(digits, scope, files)
        tree = None
        for start in range(0, len(files), 700):
            piece = await service.create_tree(digits, scope, "digits", TreeSpec(tree, tuple(files[start : start + 700])))
            tree = piece.sha256
        made = await service.create_commit(digits, scope, "digits", CommitSpec("main", "", None, tree=tree))
        whole = await service.create_tree(digits, scope, "digits", TreeSpec(None, tuple(files)))
        assert (made.tree.hex(), made.files) == (whole.sha256, 3000)
        with pytest.raises(TreeNotFound):
            await service.create_tree(digits, scope, "digits", TreeSpec("0" * 64, (files[0],)))

    async def test_stores_what_changes(self, digits: Connection, scope: Scope) -> None:
        files = [file(f"{i:05}", str(i)) for i in range(5000)]
        first = await commit(digits, scope, *files)
        before = await (await digits.execute("SELECT count(*) AS n FROM dataforge.nodes")).fetchone()
        await commit(digits, scope, file("02500", "new"), parent=first.id)
        after = await (await digits.execute("SELECT count(*) AS n FROM dataforge.nodes")).fetchone()
        assert before and after and 1 <= after["n"] - before["n"] <= 4


class TestRefs:
    async def test_branches_move_and_tags_stay(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        branch = await service.set_ref(digits, scope, "digits", "dev", RefSpec(RefKind.BRANCH, "main"))
        await service.set_ref(digits, scope, "digits", "v1", RefSpec(RefKind.TAG, str(first.id)))
        second = await commit(digits, scope, file("b"), parent=first.id, branch="dev")
        assert (branch.commit_id, (await service.get_commit(digits, scope, "digits", "dev")).id) == (first.id, second.id)
        assert await service.get_commit(digits, scope, "digits", "main") == first
        assert [ref.name for ref in await service.list_refs(digits, scope, "digits")] == ["dev", "main", "v1"]
        with pytest.raises(TagFixed, match=str(first.id)):
            await service.set_ref(digits, scope, "digits", "v1", RefSpec(RefKind.TAG, "dev"))
        with pytest.raises(RefNameTaken, match="tag"):
            await commit(digits, scope, file("c"), parent=first.id, branch="v1")
        with pytest.raises(RefMoved):
            await service.set_ref(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, "dev", expected=second.id))
        moved = await service.set_ref(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, "dev", expected=first.id))
        assert moved.commit_id == second.id
        again = await service.set_ref(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, "dev", expected=first.id))
        assert again == moved

    async def test_a_deleted_branch_leaves_its_commits(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        await service.delete_ref(digits, scope, "digits", "main")
        with pytest.raises(RefNotFound, match="main"):
            await service.get_commit(digits, scope, "digits", "main")
        assert await service.get_commit(digits, scope, "digits", first.id.hex) == first
        with pytest.raises(RefNotFound):
            await service.delete_ref(digits, scope, "digits", "main")

    async def test_a_name_cannot_look_like_a_commit(self, digits: Connection, scope: Scope) -> None:
        await commit(digits, scope, file("a"))
        with pytest.raises(RefNameInvalid):
            await service.set_ref(digits, scope, "digits", str(uuid4()), RefSpec(RefKind.BRANCH, "main"))
        with pytest.raises(RefNameInvalid):
            await commit(digits, scope, file("a"), branch=uuid4().hex)

    async def test_a_commit_of_another_dataset_is_not_found(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        await service.create_dataset(digits, scope, "other")
        with pytest.raises(RefNotFound):
            await service.get_commit(digits, scope, "other", str(first.id))


class TestCompareCommits:
    async def test_says_what_was_added_changed_and_removed(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"), file("b"), file("c"))
        second = await commit(digits, scope, file("a", "yy"), file("d"), parent=first.id, remove=("b",))
        changes = await service.compare_commits(digits, scope, "digits", str(first.id), str(second.id))
        assert [(change.path, change.kind) for change in changes] == [
            ("a", ChangeKind.CHANGED),
            ("b", ChangeKind.REMOVED),
            ("d", ChangeKind.ADDED),
        ]
        assert (changes[0].old_size_bytes, changes[0].new_size_bytes, changes[0].new_sha256) == (1, 2, file("a", "yy").sha256)


class TestFindCommitsWithBlob:
    async def test_names_every_commit_that_holds_the_content(self, digits: Connection, scope: Scope) -> None:
        files = [file(f"{i:05}", str(i)) for i in range(5000)]
        first = await commit(digits, scope, *files)
        poisoned = file("02500", "poison")
        second = await commit(digits, scope, poisoned, parent=first.id)
        third = await commit(digits, scope, file("00001", "other"), parent=second.id)
        fourth = await commit(digits, scope, files[2500], parent=third.id)
        assert await service.find_commits_with_blob(digits, scope, poisoned.sha256) == [third, second]
        assert await service.find_commits_with_blob(digits, scope, files[2500].sha256) == [fourth, first]
        assert await service.find_commits_with_blob(digits, scope, file("", "nowhere").sha256) == []


class TestCreateDownloads:
    async def test_gives_one_source_for_files_of_one_pack(self, digits: Connection, scope: Scope, objects: Objects) -> None:
        pack = hashlib.sha256(b"pack").hexdigest()
        files = [file("a", "1"), file("b", "2"), file("c", "alone"), file("e", "")]
        await store.record_blobs(digits, scope.project, [StoredBlob(f.sha256, 1, pack, i) for i, f in enumerate(files[:2])])
        await commit(digits, scope, *files)
        found = await service.create_downloads(digits, scope, objects, "digits", "main", ["c", "b", "a", "e"])
        assert [(f.path, f.source, f.offset_bytes) for f in found.files] == [("c", 0, 0), ("b", 1, 1), ("a", 1, 0), ("e", None, 0)]
        assert len(found.sources) == 2 and pack in found.sources[1]
        with pytest.raises(FileNotFound, match="nowhere"):
            await service.create_downloads(digits, scope, objects, "digits", "main", ["a", "nowhere"])
