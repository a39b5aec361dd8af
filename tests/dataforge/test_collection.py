"""Garbage collection on the real PostgreSQL and S3: what nothing leads to goes, what anybody relies on stays."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from actors.securityvault.models import Scope
from aidos.client import Client
from aidos.errors import AidosError, Unavailable
from aidos.schemas.dataforge.storage import CollectionRead
from aidos.transfers import directories
from api.collection import held_commits
from cluster.db import Connection, Database
from cluster.objects import Objects, blob_key, prefix_key
from data_pipelines.dataforge import service, trees
from data_pipelines.dataforge.collection import service as collection
from data_pipelines.dataforge.collection.errors import CollectionRunning
from data_pipelines.dataforge.collection.models import Collection, CollectionSpec
from data_pipelines.dataforge.collection.reconciler import CollectionReconciler
from data_pipelines.dataforge.errors import BlobsMissing, PackInvalid, RefNotFound, TreeNotFound
from data_pipelines.dataforge.models import Blob, Commit, CommitSpec, File, Pack, RefKind, RefSpec, StoredBlob, TreeSpec
from data_pipelines.dataforge.node_cache import NodeCache

pytestmark = pytest.mark.postgres
NOW = CollectionSpec(keep_days=0)


class CutOff(Exception):
    """The process died here."""


@dataclass
class Store:
    """A project with the dataset ``digits``, its contents really in S3."""

    db: Database
    objects: Objects
    scope: Scope
    held: tuple[UUID, ...] = ()
    left: int = -1

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self.db.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id)

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """The platform's transactions; the one before which ``left`` has run out is where the process dies."""
        if self.left == 0:
            raise CutOff
        self.left -= 1
        async with self.db.platform() as conn:
            yield conn

    async def upload(self, *contents: str) -> list[File]:
        """Each a file of its own name, in an object of its own."""
        for content in contents:
            await self.objects.put_blob(self.scope.project, content.encode())
        blobs = [Blob(hashlib.sha256(content.encode()).hexdigest(), len(content)) for content in contents]
        async with self.transaction() as conn:
            await service.request_uploads(conn, self.scope, self.objects, "digits", blobs, presign=False)
        await service.complete_uploads(self.transaction, self.transaction, self.scope, self.objects, "digits", blobs, ())
        return [File(content, blob.sha256, blob.size_bytes) for content, blob in zip(contents, blobs, strict=True)]

    async def upload_pack(self, *contents: str) -> list[File]:
        data = "".join(contents).encode()
        sha256 = await self.objects.put_blob(self.scope.project, data)
        entries, offset = [], 0
        for content in contents:
            entries.append(StoredBlob(hashlib.sha256(content.encode()).hexdigest(), len(content), sha256, offset))
            offset += len(content)
        pack = Pack(sha256, len(data), tuple(entries))
        await service.complete_uploads(self.transaction, self.transaction, self.scope, self.objects, "digits", (), (pack,))
        return [File(content, entry.sha256, entry.size_bytes) for content, entry in zip(contents, entries, strict=True)]

    async def commit(self, files: list[File], parent: Commit | None = None, branch: str = "main", remove: tuple[str, ...] = ()) -> Commit:
        async with self.transaction() as conn:
            spec = CommitSpec(branch, "", parent.id if parent else None, tuple(files), remove)
            return await service.create_commit(conn, self.scope, "digits", spec)

    async def branch(self, name: str, at: Commit) -> None:
        async with self.transaction() as conn:
            await service.set_ref(conn, self.scope, "digits", name, RefSpec(RefKind.BRANCH, str(at.id)))

    async def delete_branch(self, name: str) -> None:
        async with self.transaction() as conn:
            await service.delete_ref(conn, self.scope, "digits", name)

    async def age(self) -> None:
        """Two days pass in which nobody does anything."""
        async with self.db.platform() as conn:
            for table, column in (("nodes", "touched_at"), ("blobs", "touched_at"), ("commits", "unreachable_since")):
                await conn.execute(f"UPDATE dataforge.{table} SET {column} = {column} - interval '2 days'")

    async def hold(self, conn: Connection, project_id: UUID) -> tuple[UUID, ...]:
        return self.held

    async def ask(self, spec: CollectionSpec = NOW) -> Collection:
        async with self.transaction() as conn:
            return await collection.request_collection(conn, self.scope, spec)

    async def collect(self, spec: CollectionSpec = NOW) -> Collection:
        """A collection from the asking to its end, by the reconciler."""
        asked = await self.ask(spec)
        assert await CollectionReconciler(self.db, self.objects, self.hold).run_once() == 1
        async with self.transaction() as conn:
            done = await collection.get_collection(conn, self.scope, asked.id)
        assert done.finished_at, done.last_error
        return done

    async def garbage(self, spec: CollectionSpec = NOW) -> Collection:
        """What a dry run finds."""
        asked = await self.ask(replace(spec, dry_run=True))
        await collection.collect(self.db.platform, self.objects, asked, self.hold)
        async with self.db.platform() as conn:
            await conn.execute("UPDATE dataforge.collections SET finished_at = now()")
        async with self.transaction() as conn:
            return await collection.get_collection(conn, self.scope, asked.id)

    async def left_over(self, content: str) -> str:
        """An object that was uploaded by one PUT, and never reported."""
        return await self.objects.put_blob(self.scope.project, content.encode())

    async def waits(self) -> bool:
        """Whether somebody waits for another's lock."""
        async with self.db.platform() as conn:
            row = await (await conn.execute("SELECT count(*) AS n FROM pg_locks WHERE NOT granted")).fetchone()
        return bool(row and row["n"])

    async def stored(self, file: File) -> bool:
        return await self.objects.find(blob_key(self.scope.project, file.sha256)) is not None

    async def read(self, commit: Commit) -> dict[str, str]:
        """Every file of the commit, its bytes fetched and checked."""
        async with self.transaction() as conn:
            files = await service.list_files(conn, self.scope, commit.id, limit=None)
            paths = [file.path for file in files]
            downloads = await service.create_downloads(conn, self.scope, self.objects, "digits", str(commit.id), paths)
            rows = await (
                await conn.execute("SELECT encode(sha256, 'hex') AS s, encode(pack_sha256, 'hex') AS p FROM dataforge.blobs")
            ).fetchall()
        places = {row["s"]: row["p"] or row["s"] for row in rows}
        found = {}
        for file in downloads.files:
            data = await self.objects.get(blob_key(self.scope.project, places[file.sha256]), file.offset_bytes, file.size_bytes)
            assert hashlib.sha256(data).hexdigest() == file.sha256
            found[file.path] = data.decode()
        return found


@pytest.fixture
async def digits(database: Database, objects: Objects, scope: Scope) -> Store:
    made = Store(database, objects, scope)
    async with made.transaction() as conn:
        await service.create_dataset(conn, scope, "digits")
    return made


class TestCollect:
    async def test_deletes_what_no_ref_leads_to_and_nothing_else(self, digits: Store) -> None:
        first = await digits.commit(await digits.upload("one", "two"))
        lost_files = await digits.upload("lost", "two")
        await digits.branch("topic", first)
        lost = await digits.commit(lost_files, first, "topic")
        second = await digits.commit(await digits.upload("three"), first, remove=("one",))
        await digits.delete_branch("topic")
        await digits.age()
        would = await digits.garbage()
        assert (would.commits, would.unreachable, would.contents, would.size_bytes) == (1, [lost.id], 1, 4)
        again = await digits.garbage()
        assert (again.commits, again.nodes, again.contents, again.size_bytes) == (1, would.nodes, 1, 4)
        done = await digits.collect()
        assert (done.commits, done.contents) == (1, 0)  # its files stay a day longer
        await digits.age()
        done = await digits.collect()
        assert (done.commits, done.nodes, done.contents, done.size_bytes) == (0, would.nodes, 1, 4)
        assert would.nodes > 0
        assert not await digits.stored(lost_files[0])
        async with digits.db.platform() as conn:
            rows = await (await conn.execute("SELECT path FROM dataforge.content_paths ORDER BY path")).fetchall()
        assert [row["path"] for row in rows] == ["one", "three", "two"]
        assert await digits.read(first) == {"one": "one", "two": "two"}  # the log leads to it
        assert await digits.read(second) == {"two": "two", "three": "three"}
        with pytest.raises(RefNotFound):
            async with digits.transaction() as conn:
                await service.get_commit(conn, digits.scope, "digits", str(lost.id))
        assert (await digits.garbage()).contents == 0

    async def test_an_unreachable_commit_stays_for_the_retention(self, digits: Store) -> None:
        first = await digits.commit(await digits.upload("one"))
        await digits.branch("topic", first)
        old = await digits.commit(await digits.upload("old"), first, "topic")
        new = await digits.commit(await digits.upload("new"), old, "topic")
        await digits.delete_branch("topic")
        async with digits.transaction() as conn:
            assert (await collection.get_retention(conn, digits.scope, "digits")).keep_days == 30
            await collection.set_retention(conn, digits.scope, "digits", 3)
        as_said = CollectionSpec()
        assert (await digits.collect(as_said)).commits == 0
        await digits.age()  # two days since it was found unreachable
        assert (await digits.collect(as_said)).commits == 0
        assert await digits.read(new) == {"one": "one", "old": "old", "new": "new"}
        await digits.age()
        assert (await digits.collect(as_said)).commits == 2

    async def test_what_is_reachable_again_starts_anew(self, digits: Store) -> None:
        first = await digits.commit(await digits.upload("one"))
        await digits.branch("topic", first)
        lost = await digits.commit(await digits.upload("lost"), first, "topic")
        await digits.delete_branch("topic")
        spec = CollectionSpec(keep_days=3)
        await digits.collect(spec)
        await digits.age()
        await digits.branch("again", lost)
        await digits.collect(spec)
        await digits.delete_branch("again")
        await digits.age()
        assert (await digits.collect(spec)).commits == 0

    async def test_a_commit_that_a_run_read_stays_unless_forced(self, digits: Store) -> None:
        first = await digits.commit(await digits.upload("one"))
        await digits.branch("topic", first)
        read = await digits.commit(await digits.upload("read"), first, "topic")
        await digits.delete_branch("topic")
        digits.held = (read.id,)
        assert (await digits.collect()).commits == 0
        await digits.age()
        assert await digits.read(read) == {"one": "one", "read": "read"}
        assert (await digits.garbage(CollectionSpec(keep_days=0, force=True))).unreachable == [read.id]
        assert (await digits.collect(CollectionSpec(keep_days=0, force=True))).commits == 1

    async def test_a_pack_stays_whole_until_all_in_it_is_dead(self, digits: Store) -> None:
        packed = await digits.upload_pack("aa", "bb")
        first = await digits.commit(packed[:1])
        await digits.age()
        assert (await digits.collect()).contents == 0
        assert await digits.read(first) == {"aa": "aa"}
        async with digits.transaction() as conn:
            await service.delete_dataset(conn, digits.scope, "digits")
        await digits.age()
        assert (await digits.collect()).contents == 2

    async def test_what_was_collected_is_stored_again_when_it_comes_again(self, digits: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"{number:03}" for number in range(120)]
        await digits.commit(await digits.upload(*names))
        async with digits.transaction() as conn:
            await service.delete_dataset(conn, digits.scope, "digits")
        await digits.age()
        assert (await digits.collect()).nodes > 1
        async with digits.transaction() as conn:
            await service.create_dataset(conn, digits.scope, "digits")
        again = await digits.commit(await digits.upload(*names))
        monkeypatch.setattr(trees, "_CACHE", NodeCache())  # another process reads, which has seen none of it
        assert await digits.read(again) == {name: name for name in names}

    async def test_one_at_a_time(self, digits: Store) -> None:
        asked = await digits.ask()
        with pytest.raises(CollectionRunning, match=str(asked.id)):
            await digits.ask()
        looking = await digits.ask(CollectionSpec(dry_run=True))  # beside it
        with pytest.raises(CollectionRunning, match=str(looking.id)):
            await digits.ask(CollectionSpec(dry_run=True))

    async def test_every_project_is_collected_daily_without_being_asked(self, digits: Store) -> None:
        await digits.upload("garbage")
        await digits.age()
        await digits.garbage()  # does not count as one
        reconciler = CollectionReconciler(digits.db, digits.objects, digits.hold)
        assert await reconciler.run_once() == 1
        assert await reconciler.run_once() == 0
        async with digits.transaction() as conn:
            done, _ = await collection.list_collections(conn, digits.scope)
        assert (done.created_by, done.contents) == ("platform:dataforge", 1)

    async def test_uploads_that_nobody_completed_are_dropped(self, digits: Store) -> None:
        blob = Blob(hashlib.sha256(b"large").hexdigest(), 100 * 2**20)
        await service.request_parts(digits.transaction, digits.scope, digits.objects, "digits", blob)
        assert (await digits.collect()).uploads == 0
        async with digits.db.platform() as conn:
            row = await (
                await conn.execute("UPDATE dataforge.uploads SET created_at = created_at - interval '8 days' RETURNING upload_id")
            ).fetchone()
        assert row and (await digits.garbage()).uploads == 1
        assert (await digits.collect()).uploads == 1
        assert await digits.objects.find_parts(blob_key(digits.scope.project, blob.sha256), row["upload_id"]) is None

    async def test_objects_that_nobody_reported_are_dropped(self, digits: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        first = await digits.commit(await digits.upload("one") + await digits.upload_pack("two", "three"))
        sha256 = await digits.left_over("left")
        key, elsewhere = blob_key(digits.scope.project, sha256), prefix_key(digits.scope.project, "code", digits.scope.project, "a.zip")
        await digits.objects.put(elsewhere, b"not ours")
        await digits.collect()
        await digits.age()
        assert (await digits.collect()).contents == 0, "it may be on its way yet"
        monkeypatch.setattr(collection, "UPLOAD_LIFETIME", timedelta(minutes=-1))  # it is older than that now
        assert (await digits.collect()).contents == 0, "whoever is reporting it has a day"
        assert await digits.objects.find(key)
        await digits.age()
        assert (await digits.garbage()).contents == 1
        done = await digits.collect()
        assert (done.contents, done.size_bytes) == (1, 4)
        assert await digits.objects.find(key) is None and await digits.objects.find(elsewhere)
        assert await digits.read(first) == {"one": "one", "two": "two", "three": "three"}

    async def test_objects_are_looked_through_page_by_page(self, digits: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = [blob_key(digits.scope.project, await digits.left_over(f"left {n}")) for n in range(7)]
        listed = digits.objects.list_page
        monkeypatch.setattr(digits.objects, "list_page", lambda prefix, after: listed(prefix, after, 3))
        monkeypatch.setattr(collection, "UPLOAD_LIFETIME", timedelta(minutes=-1))
        await digits.collect()
        await digits.age()
        assert (await digits.collect()).contents == 7
        assert [await digits.objects.find(key) for key in keys] == [None] * 7


class TestRaces:
    async def test_content_that_a_pusher_was_told_is_there_stays_until_the_commit(self, digits: Store) -> None:
        await digits.upload("again")
        await digits.age()
        files = await digits.upload("again")  # nothing missing
        assert (await digits.collect()).contents == 0
        assert await digits.read(await digits.commit(files)) == {"again": "again"}

    async def test_content_that_is_being_deleted_cannot_be_relied_on(self, digits: Store) -> None:
        (file,) = await digits.upload("gone")
        await digits.age()
        asked = await digits.ask()
        digits.left = 5  # condemned, and in S3 yet
        with pytest.raises(CutOff):
            await collection.collect(digits.platform, digits.objects, asked, digits.hold)
        with pytest.raises(Unavailable, match="being deleted"):
            await digits.upload("gone")
        with pytest.raises(AidosError):
            await digits.commit([file])
        assert await CollectionReconciler(digits.db, digits.objects, digits.hold).run_once() == 1
        assert not await digits.stored(file)
        assert await digits.read(await digits.commit(await digits.upload("gone"))) == {"gone": "gone"}

    async def test_an_old_tree_without_a_commit_is_not_built_on(self, digits: Store) -> None:
        files = await digits.upload("one")
        async with digits.transaction() as conn:
            tree = await service.create_tree(conn, digits.scope, "digits", TreeSpec(None, tuple(files)))
        assert (await digits.collect()).nodes == 0
        await digits.age()
        with pytest.raises(TreeNotFound):
            async with digits.transaction() as conn:
                await service.create_tree(conn, digits.scope, "digits", TreeSpec(tree.sha256))

    async def test_what_an_open_commit_needs_outlives_a_collection(self, digits: Store) -> None:
        """All that the commit names is garbage until it is there, and it is not there while the collection looks."""
        files = await digits.upload("one", "two") + await digits.upload_pack("three", "four")
        async with digits.transaction() as conn:
            await service.create_dataset(conn, digits.scope, "other")
            await service.create_tree(conn, digits.scope, "digits", TreeSpec(None, tuple(files)))
        await digits.age()
        asked = await digits.ask(CollectionSpec("other"))  # so that it does not wait for the lock of this dataset
        async with digits.transaction() as conn:
            made = await service.create_commit(conn, digits.scope, "digits", CommitSpec("main", "", None, tuple(files)))
            under_way = asyncio.create_task(collection.collect(digits.db.platform, digits.objects, asked, digits.hold))
            while not under_way.done() and not await digits.waits():
                await asyncio.sleep(0.01)
        await under_way
        assert await digits.read(made) == {file.path: file.path for file in files}

    async def test_of_commits_and_collections_at_once_none_leaves_a_hole(self, digits: Store) -> None:
        """Old contents are pushed again while they are collected; whoever comes first, a commit has all its files."""
        for turn in range(3):
            contents = [f"{turn} {n}" for n in range(20)]
            await digits.upload(*contents)
            await digits.age()

            async def push(contents: list[str] = contents, branch: str = f"branch-{turn}") -> Commit:
                while True:
                    try:
                        return await digits.commit(await digits.upload(*contents), None, branch)
                    except (Unavailable, BlobsMissing):
                        continue

            asked = await digits.ask()
            made, _ = await asyncio.gather(push(), collection.collect(digits.db.platform, digits.objects, asked, digits.hold))
            async with digits.db.platform() as conn:
                await conn.execute("UPDATE dataforge.collections SET finished_at = now()")
            assert await digits.read(made) == {content: content for content in contents}

    async def test_what_was_left_over_and_is_reported_now_stays(self, digits: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its uploader comes back and reports it, alone or in a pack, while collections find it, wherever they are cut off."""
        monkeypatch.setattr(collection, "UPLOAD_LIFETIME", timedelta(minutes=-1))
        for step in range(14):
            contents = [f"{step} single"]
            packed = [f"{step} pack {n}" for n in range(2)]
            await digits.left_over(contents[0])
            await digits.left_over("".join(packed))
            if step % 2:
                await digits.collect()  # on record
                await digits.age()
            asked = await digits.ask()
            digits.left = step
            with contextlib.suppress(CutOff):
                await collection.collect(digits.platform, digits.objects, asked, digits.hold)
            digits.left = -1

            async def push(contents: list[str] = contents, packed: list[str] = packed, branch: str = f"branch-{step}") -> Commit:
                while True:
                    try:
                        return await digits.commit(await digits.upload(*contents) + await digits.upload_pack(*packed), None, branch)
                    except (Unavailable, BlobsMissing, PackInvalid):
                        continue

            made, _ = await asyncio.gather(push(), CollectionReconciler(digits.db, digits.objects, digits.hold).run_once())
            assert await digits.read(made) == {content: content for content in (*contents, *packed)}
            await digits.collect()
            assert await digits.read(made) == {content: content for content in (*contents, *packed)}

    async def test_cut_off_before_any_transaction_it_is_done_by_the_next(self, digits: Store) -> None:
        first = await digits.commit(await digits.upload("one"))
        step, cut = 0, True
        while cut:
            dead = await digits.upload(f"dead {step}")
            await digits.branch("topic", first)
            await digits.commit(dead, first, "topic")
            await digits.delete_branch("topic")
            await digits.collect()
            await digits.age()
            asked = await digits.ask()
            digits.left = step
            cut = False
            try:
                await collection.collect(digits.platform, digits.objects, asked, digits.hold)
            except CutOff:
                cut = True
            digits.left = -1
            assert await CollectionReconciler(digits.db, digits.objects, digits.hold).run_once() == 1
            async with digits.transaction() as conn:
                done = await collection.get_collection(conn, digits.scope, asked.id)
            assert done.finished_at and done.contents == 1
            assert not await digits.stored(dead[0])
            assert await digits.read(first) == {"one": "one"}
            step += 1
        assert step > 6


async def test_the_client_looks_first_and_then_collects(client: Client, database: Database, objects: Objects, tmp_path: Path) -> None:
    reconciler, loop = CollectionReconciler(database, objects, held_commits), asyncio.get_running_loop()

    def dry_run(*, force: bool = False) -> CollectionRead:
        asked = client.datasets.gc(keep_days=0, dry_run=True, force=force)
        while asyncio.run_coroutine_threadsafe(reconciler.run_once(), loop).result(30):
            pass
        return client.datasets.collection(asked.id, wait="30s")

    def tell() -> UUID:
        folder = tmp_path / "digits"
        folder.mkdir()
        (folder / "a.txt").write_text("one")
        first = directories.push(folder, "digits", client=client).commit
        (folder / "a.txt").write_text("other")
        lost = directories.push(folder, "digits", client=client).commit
        client.datasets.reset("digits", "main", commit=str(first.id))
        client.jobs.create(name="reads", command=["true"], datasets=[f"digits@{lost.id}"])
        assert dry_run().commits == 0  # a job reads it
        would = dry_run(force=True)
        assert (would.dry_run, would.state, would.unreachable) == (True, "finished", [lost.id])
        assert (would.contents, would.size_bytes) == (1, 5)
        assert client.datasets.set_retention("digits", keep_days=7).keep_days == 7
        assert client.datasets.retention("digits").keep_days == 7
        asked = client.datasets.gc(keep_days=0, force=True)
        assert asked.state == "running" and asked.id
        return asked.id

    asked = await asyncio.to_thread(tell)
    assert await reconciler.run_once() == 1
    done = await asyncio.to_thread(lambda: client.datasets.collection(asked, wait="30s"))
    assert (done.state, done.commits, done.contents) == ("finished", 1, 0)
