"""Imports in place by the real client: a folder of another bucket becomes a commit, and no byte of it is copied."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from aidos.client import Client
from aidos.errors import AidosError, Forbidden, InvalidPayload
from aidos.schemas.dataforge.imports import ImportRead
from aidos.schemas.dataforge.versions import is_in_place
from aidos.transfers.directories import pull, push
from aidos.transfers.downloading import ImportedObjectChanged
from aidos.transfers.filesystem import AidosFileSystem
from aidos.transfers.listing import read_listing
from cluster import buckets
from cluster.buckets import BucketNotAllowed
from cluster.db import Connection, Database
from cluster.objects import Objects
from cluster.reconciler import LostClaim
from data_pipelines.dataforge.imports.errors import ImportEnded
from data_pipelines.dataforge.imports.reconciler import ImportReconciler
from tests.dataforge.imports.conftest import Lake
from tests.support.running import AIDOS

pytestmark = pytest.mark.postgres
NAMES = ["a.txt", "b/c/deep.bin", "b/leer zeichen.txt", "ünï/日本語.txt", "b/%41?&#+.txt", "z.txt"]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "PAGE", 2)


@pytest.fixture
def raw(client: Client) -> Client:
    """The client, with a dataset ``raw``."""
    client.datasets.create("raw")
    return client


class CutOff(Exception):
    """The process died here."""


class Mortal:
    """A database before whose transaction number ``left`` the process dies."""

    def __init__(self, db: Database, left: int) -> None:
        self.db, self.left = db, left

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        if self.left <= 0:
            raise CutOff
        self.left -= 1
        async with self.db.platform() as conn:
            yield conn


async def carry_out(client: Client, database: Database, objects: Objects, lake: Lake, branch: str = "main") -> ImportRead:
    """An import from the asking to its end."""
    asked = client.datasets.import_("raw", lake.uri, branch=branch)
    assert (asked.state, asked.files, asked.source) == ("running", 0, f"{lake.uri}/")
    assert await ImportReconciler(database, objects).run_once() == 1
    return client.datasets.get_import("raw", str(asked.id))


def paths(client: Client, ref: str = "main") -> list[str]:
    return [file.path for file in client.datasets.files("raw", ref=ref)]


class TestImport:
    async def test_a_folder_becomes_a_commit_and_nothing_is_copied(
        self, raw: Client, database: Database, objects: Objects, lake: Lake, tmp_path: Path
    ) -> None:
        lake.put(*NAMES)
        lake.put("empty", "folder/", data=b"")
        before = await objects.list_prefix("")
        done = await carry_out(raw, database, objects, lake)
        assert (done.state, done.error, done.files, done.skipped) == ("finished", None, len(NAMES) + 1, 0)
        assert await objects.list_prefix("") == before
        commit = raw.datasets.show("raw", "main")
        assert (commit.id, commit.parent_id, commit.size_bytes) == (done.commit_id, None, sum(len(name.encode()) for name in NAMES))
        assert commit.metadata["imported"]["source"] == f"{lake.uri}/"
        assert commit.author == done.created_by
        assert paths(raw) == sorted([*NAMES, "empty"])
        pulled = pull("raw", tmp_path / "out", client=raw)
        assert pulled.written == len(NAMES) + 1
        assert all((tmp_path / "out" / name).read_bytes() == name.encode() for name in NAMES)
        files = AidosFileSystem(client=raw)
        assert files.cat_file("raw@main/b/c/deep.bin", 2, 5) == b"c/deep.bin"[0:3]
        assert files.cat(["raw@main/a.txt", "raw@main/z.txt"]) == {"raw@main/a.txt": b"a.txt", "raw@main/z.txt": b"z.txt"}

    async def test_what_was_pulled_is_neither_fetched_nor_pushed_again(
        self, raw: Client, database: Database, objects: Objects, lake: Lake, tmp_path: Path
    ) -> None:
        lake.put(*NAMES)
        imported = await carry_out(raw, database, objects, lake)
        out = tmp_path / "out"
        pull("raw", out, client=raw)
        again = pull("raw", out, client=raw)
        assert (again.written, again.kept) == (0, len(NAMES))
        assert not push(out, "raw", client=raw).changed
        (out / "z.txt").write_text("other")
        pushed = push(out, "raw", client=raw)
        assert (pushed.updated, pushed.added, pushed.uploaded_files) == (1, 0, 1)
        files = {file.path: file.sha256 for file in raw.datasets.files("raw")}
        assert {path for path, content in files.items() if not is_in_place(content)} == {"z.txt"}
        assert {path: file.sha256 for path, file in read_listing(raw, "raw", pushed.commit.id).items()} == files
        changes = raw.datasets.diff("raw", base=str(imported.commit_id), head="main")
        assert [change.path for change in changes] == ["z.txt"]

    async def test_what_did_not_change_makes_no_commit_and_what_did_is_a_diff(
        self, raw: Client, database: Database, objects: Objects, lake: Lake
    ) -> None:
        lake.put("same", "changed", "removed")
        first = await carry_out(raw, database, objects, lake)
        assert (await carry_out(raw, database, objects, lake)).commit_id == first.commit_id
        lake.put("changed", data=b"other")
        lake.put("added")
        lake.remove("removed")
        second = await carry_out(raw, database, objects, lake)
        changes = raw.datasets.diff("raw", base=str(first.commit_id), head=str(second.commit_id))
        assert {change.path: change.kind for change in changes} == {"added": "added", "changed": "changed", "removed": "removed"}
        assert raw.datasets.show("raw", "main").parent_id == first.commit_id

    async def test_a_new_branch_begins_at_main(self, raw: Client, database: Database, objects: Objects, lake: Lake, tmp_path: Path) -> None:
        (tmp_path / "own.txt").write_text("own")
        pushed = push(tmp_path, "raw", client=raw)
        lake.put("a.txt")
        done = await carry_out(raw, database, objects, lake, "lake")
        assert raw.datasets.show("raw", "lake").parent_id == pushed.commit.id == done.parent_id
        assert (paths(raw, "lake"), paths(raw)) == (["a.txt"], ["own.txt"])

    async def test_keys_that_cannot_be_paths_are_passed_over_and_told(
        self, raw: Client, database: Database, objects: Objects, lake: Lake
    ) -> None:
        lake.put("a.txt", "e\u0301.txt")
        done = await carry_out(raw, database, objects, lake)
        assert (done.files, done.skipped, paths(raw)) == (1, 1, ["a.txt"])
        assert done.skipped_keys[0].key == lake.key("e\u0301.txt") and "normal form C" in done.skipped_keys[0].reason

    async def test_the_command_waits_and_shows_what_came_of_it(
        self, client: Client, database: Database, objects: Objects, lake: Lake
    ) -> None:
        lake.put("a.txt", "b.txt")
        reconciler = ImportReconciler(database, objects)
        arguments = [str(AIDOS), "dataset", "import", lake.uri, "--name", "raw", "--json"]
        command = asyncio.create_task(asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=60, check=False))
        while not command.done():
            await reconciler.run_once()
            await asyncio.sleep(0.05)
        done = await command
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert (shown["state"], shown["files"], shown["commit_id"]) == ("finished", 2, str(client.datasets.show("raw", "main").id))


class TestInterrupted:
    async def test_whenever_the_process_dies_another_goes_on(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.put(*NAMES)
        asked = raw.datasets.import_("raw", lake.uri)
        seen, deaths = [0], 0
        while raw.datasets.get_import("raw", str(asked.id)).state == "running":
            mortal = Mortal(database, left=deaths % 4 + 1)  # lease, claim, a page, another
            reconciler = ImportReconciler(mortal, objects)  # type: ignore[arg-type]  # it dies, and is a database until then
            with contextlib.suppress(CutOff):
                await reconciler.run_once()
            deaths += 1
            async with database.platform() as conn:
                await conn.execute("UPDATE dataforge.imports SET locked_until = NULL, next_attempt_at = now()")
            seen.append(raw.datasets.get_import("raw", str(asked.id)).files)
        assert deaths > 3 and seen == sorted(seen), "what was listed is not listed again"
        assert paths(raw) == sorted(NAMES)

    async def test_canceling_ends_it_before_a_commit(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.put(*NAMES)
        asked = raw.datasets.import_("raw", lake.uri)
        reconciler = ImportReconciler(database, objects)
        token = UUID(int=1)
        async with database.platform() as conn:
            (claimed,) = await reconciler.claim(conn, token, 30, 1)
        assert raw.datasets.cancel_import("raw", str(asked.id)).state == "canceled"
        assert raw.datasets.cancel_import("raw", str(asked.id)).state == "canceled"
        with pytest.raises(LostClaim):
            await reconciler.process(claimed)
        async with database.platform() as conn:
            assert not await reconciler.apply(conn, claimed, token, claimed)
        assert await reconciler.run_once() == 0
        assert list(raw.datasets.refs("raw")) == []

    async def test_an_import_that_has_ended_is_not_canceled(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.put("a.txt")
        done = await carry_out(raw, database, objects, lake)
        with pytest.raises(ImportEnded, match="finished already"):
            raw.datasets.cancel_import("raw", str(done.id))

    async def test_a_stale_worker_commits_nothing(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.put("a.txt")
        raw.datasets.import_("raw", lake.uri)
        reconciler = ImportReconciler(database, objects)
        async with database.platform() as conn:
            (slow,) = await reconciler.claim(conn, UUID(int=1), 0, 1)
            (quick,) = await reconciler.claim(conn, UUID(int=2), 30, 1)
        with pytest.raises(LostClaim):
            await reconciler.process(slow)
        outcome = await reconciler.process(quick)
        async with database.platform() as conn:
            assert not await reconciler.apply(conn, outcome, UUID(int=1), outcome)
        assert list(raw.datasets.refs("raw")) == []
        async with database.platform() as conn:
            assert await reconciler.apply(conn, outcome, UUID(int=2), outcome)
        assert paths(raw) == ["a.txt"]


class TestRefused:
    async def test_a_branch_that_moved_meanwhile_keeps_what_it_got(
        self, raw: Client, database: Database, objects: Objects, lake: Lake, tmp_path: Path
    ) -> None:
        lake.put("a.txt")
        asked = raw.datasets.import_("raw", lake.uri)
        (tmp_path / "own.txt").write_text("own")
        pushed = push(tmp_path, "raw", client=raw)
        await ImportReconciler(database, objects).run_once()
        done = raw.datasets.get_import("raw", str(asked.id))
        assert done.state == "failed" and done.error and "someone else moved it" in done.error
        assert raw.datasets.show("raw", "main").id == pushed.commit.id

    async def test_a_protected_branch_stays_as_it_is(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.put("a.txt")
        first = await carry_out(raw, database, objects, lake)
        raw.datasets.protect("raw", "main", require_pull_request=True)
        lake.put("b.txt")
        done = await carry_out(raw, database, objects, lake)
        assert done.state == "failed" and done.error and "protected" in done.error
        assert raw.datasets.show("raw", "main").id == first.commit_id

    @pytest.mark.parametrize("names", [("A.txt", "a.txt"), ()])
    async def test_what_cannot_be_a_commit_says_why(
        self, raw: Client, database: Database, objects: Objects, lake: Lake, names: tuple[str, ...]
    ) -> None:
        lake.put(*names)
        done = await carry_out(raw, database, objects, lake)
        assert done.state == "failed" and done.error and done.commit_id is None
        assert ("'a.txt'" in done.error and "'A.txt'" in done.error) if names else f"'{lake.uri}/'" in done.error
        assert list(raw.datasets.refs("raw")) == []

    def test_buckets_that_nobody_opened(self, raw: Client, objects: Objects) -> None:
        for uri in (f"s3://{objects.bucket}", f"s3://{objects.bucket}/x", "s3://elsewhere/x", "s3://parts/closed"):
            with pytest.raises(BucketNotAllowed) as refused:
                raw.datasets.import_("raw", uri)
            assert isinstance(refused.value, Forbidden) and uri in str(refused.value)

    @pytest.mark.parametrize("uri", ["s3://lake/../test", "s3://lake/a//b", "http://lake/a", "s3://lake\x00/a", "s3://l", "lake/a"])
    def test_addresses_that_are_none(self, raw: Client, uri: str) -> None:
        with pytest.raises(InvalidPayload):
            raw.datasets.import_("raw", uri)


class TestChangedUnderneath:
    async def test_every_reader_says_which_object_is_another(
        self, raw: Client, database: Database, objects: Objects, lake: Lake, tmp_path: Path
    ) -> None:
        lake.put("kept.csv", "changed.csv", "gone.csv", data=b"n\n1\n2\n")
        done = await carry_out(raw, database, objects, lake)
        lake.put("changed.csv", data=b"n\n1\n3\n")  # as many bytes
        lake.remove("gone.csv")
        files = AidosFileSystem(client=raw)
        for name, found in (("changed.csv", "other content now"), ("gone.csv", "no such object now")):
            for read in (
                lambda name=name: files.cat_file(f"raw@main/{name}"),
                lambda name=name: files.open(f"raw@main/{name}").read(),
                lambda name=name: files.cat_ranges([f"raw@main/{name}"], [0], [3], on_error="raise"),
            ):
                with pytest.raises(ImportedObjectChanged) as refused:
                    read()
                assert all(said in str(refused.value) for said in (f"'{name}'", f"{lake.uri}/{name}", found, "aidos dataset import"))
        with pytest.raises(ImportedObjectChanged):
            pull("raw", tmp_path / "out", client=raw)
        assert not list((tmp_path / "out").glob("changed*")) and not list((tmp_path / "out").glob("gone*"))
        assert files.cat_file("raw@main/kept.csv") == b"n\n1\n2\n"
        assert done.commit_id == raw.datasets.show("raw", "main").id

    async def test_who_shows_a_table_says_so_too(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.put("kept.csv", "gone.csv", data=b"n\n1\n2\n")
        await carry_out(raw, database, objects, lake)
        lake.remove("gone.csv")
        assert list(raw.tables.rows("raw", path="kept.csv").rows) == [[1], [2]]
        with pytest.raises(ImportedObjectChanged, match="no such object now"):
            raw.tables.rows("raw", path="gone.csv")

    async def test_a_bucket_that_keeps_versions_still_has_the_bytes(
        self, raw: Client, database: Database, objects: Objects, versioned: Lake
    ) -> None:
        versioned.put("a.txt", "b.txt", data=b"old")
        await carry_out(raw, database, objects, versioned)
        versioned.put("a.txt", data=b"new")
        versioned.remove("b.txt")
        files = AidosFileSystem(client=raw)
        assert [files.cat_file(f"raw@main/{name}") for name in ("a.txt", "b.txt")] == [b"old", b"old"]


class TestTenants:
    async def test_an_import_is_its_projects_own(self, raw: Client, database: Database, lake: Lake) -> None:
        lake.put("a.txt")
        asked = raw.datasets.import_("raw", lake.uri)
        raw.datasets.create("other")
        with pytest.raises(AidosError, match="has no import"):
            raw.datasets.get_import("other", str(asked.id))
        assert [each.id for each in raw.datasets.imports("raw")] == [asked.id]
        assert list(raw.datasets.imports("other")) == []
