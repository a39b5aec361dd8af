"""Contents in place: their ids, who may read which bucket, and what garbage collection does with them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import httpx
import pytest

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.versions import IN_PLACE, BlobState, is_in_place
from cluster.buckets import BucketNotAllowed, Buckets, BucketUnreadable, ObjectVersion
from cluster.db import Database
from cluster.objects import Objects
from data_pipelines.dataforge import service
from data_pipelines.dataforge.collection import service as collection
from data_pipelines.dataforge.collection.reconciler import CollectionReconciler
from data_pipelines.dataforge.errors import BlobsMissing
from data_pipelines.dataforge.models import CommitSpec, File
from data_pipelines.dataforge.places import to_place
from tests.dataforge.imports.conftest import Lake

FOUND = ObjectVersion("lake", "raw/a.csv", 3, "900150983cd24fb0d6963f7d28e17f72")


class TestIdentity:
    def test_other_bytes_have_another_id(self) -> None:
        changed = {"bucket": "lake2", "key": "raw/b.csv", "size_bytes": 4, "etag": "0" * 32, "version_id": "v2"}
        ids = {to_place(FOUND).id, *(to_place(replace(FOUND, **{name: value})).id for name, value in changed.items())}
        assert len(ids) == 1 + len(changed)
        assert to_place(FOUND).id == to_place(replace(FOUND)).id

    def test_an_id_cannot_pass_for_a_sha256(self) -> None:
        id = to_place(FOUND).id
        assert len(id) == 64 and id.startswith(IN_PLACE) and is_in_place(id)
        assert not is_in_place(hashlib.sha256(b"abc").hexdigest())
        with pytest.raises(ValueError, match="not the SHA-256 of a content"):
            BlobState(sha256=id, size_bytes=3)


@pytest.mark.postgres
class TestWhichBuckets:
    @pytest.mark.parametrize(
        ("bucket", "key"),
        [
            ("test", ""),  # the platform's own, with all tenants' contents
            ("elsewhere", "raw/"),
            ("lake2", "raw/"),
            ("parts", "closed/"),
            ("parts", "opener/"),
            ("lake", "../test/"),
            ("lake", "raw/../../test/x"),
            ("lake/../test", "x"),
        ],
    )
    def test_only_what_the_administrator_named_is_read(self, objects: Objects, bucket: str, key: str) -> None:
        with pytest.raises(BucketNotAllowed):
            Buckets(objects).refuse_unlisted(bucket, key)
        Buckets(objects).refuse_unlisted("lake", "")
        Buckets(objects).refuse_unlisted("parts", "open/a")

    def test_the_platforms_own_bucket_cannot_be_opened(self, objects: Objects) -> None:
        opened = Objects(objects.settings.model_copy(update={"import_buckets": objects.bucket}))
        with pytest.raises(BucketNotAllowed):
            Buckets(opened).refuse_unlisted(objects.bucket, "")

    async def test_a_bucket_that_is_not_there_says_so(self, objects: Objects) -> None:
        missing = Objects(objects.settings.model_copy(update={"import_buckets": "nowhere"}))
        with pytest.raises(BucketUnreadable, match="s3://nowhere"):
            async for _ in Buckets(missing).pages("nowhere", "raw/"):
                pass


async def listed(objects: Objects, lake: Lake) -> list[ObjectVersion]:
    return [each async for page in Buckets(objects).pages(lake.bucket, f"{lake.folder}/") for each in page]


@pytest.mark.postgres
class TestCommit:
    async def test_a_url_gives_the_imported_bytes_or_none(self, database: Database, objects: Objects, scope: Scope, lake: Lake) -> None:
        lake.put("a.txt", "b.txt", "c.txt", "empty", data=b"first")
        lake.put("empty", data=b"")
        files = []
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "raw")
            found = await listed(objects, lake)
            ids = await service.record_objects(conn, scope, found)
            files = [File(each.key.rpartition("/")[2], id, each.size_bytes) for each, id in zip(found, ids, strict=True)]
            await service.create_commit(conn, scope, "raw", CommitSpec("main", "", None, tuple(files)))
            lake.put("b.txt", data=b"other")
            lake.remove("c.txt")
            made = await service.create_downloads(conn, scope, objects, "raw", "main", [file.path for file in files])
        by_path = {file.path: file for file in made.files}
        assert by_path["empty"].source is None and by_path["empty"].place is None
        answers = {}
        async with httpx.AsyncClient() as http:
            for path in ("a.txt", "b.txt", "c.txt"):
                file = by_path[path]
                assert file.place and file.place.uri == f"{lake.uri}/{path}"
                assert (await http.get(made.sources[file.source or 0])).status_code == 403  # without the condition it is no permission
                answers[path] = await http.get(made.sources[file.source or 0], headers=dict(file.place.headers))
        assert {path: answer.status_code for path, answer in answers.items()} == {"a.txt": 200, "b.txt": 412, "c.txt": 404}
        assert answers["a.txt"].content == b"first"

    async def test_a_version_is_read_although_the_key_has_another(
        self, database: Database, objects: Objects, scope: Scope, versioned: Lake
    ) -> None:
        versioned.put("a.txt", "gone", data=b"old")
        versioned.remove("gone")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "raw")
            (found,) = await listed(objects, versioned)
            (id,) = await service.record_objects(conn, scope, [found])
            await service.create_commit(conn, scope, "raw", CommitSpec("main", "", None, (File("a.txt", id, 3),)))
            versioned.put("a.txt", data=b"new")
            versioned.remove("a.txt")
            made = await service.create_downloads(conn, scope, objects, "raw", "main", ["a.txt"])
        async with httpx.AsyncClient() as http:
            assert (await http.get(made.sources[0])).content == b"old"

    async def test_an_id_that_nobody_imported_here_is_no_content(
        self, database: Database, objects: Objects, scope: Scope, other_scope: Scope, lake: Lake
    ) -> None:
        lake.put("a.txt")
        found = await listed(objects, lake)
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as conn:
            (id,) = await service.record_objects(conn, other_scope, found)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "raw")
            with pytest.raises(BlobsMissing):
                await service.create_commit(conn, scope, "raw", CommitSpec("main", "", None, (File("a.txt", id, 5),)))

    async def test_closing_a_bucket_ends_reading(self, database: Database, objects: Objects, scope: Scope, lake: Lake) -> None:
        lake.put("a.txt")
        closed = Objects(objects.settings.model_copy(update={"import_buckets": ""}))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "raw")
            (id,) = await service.record_objects(conn, scope, await listed(objects, lake))
            await service.create_commit(conn, scope, "raw", CommitSpec("main", "", None, (File("a.txt", id, 5),)))
            with pytest.raises(BucketNotAllowed):
                await service.create_downloads(conn, scope, closed, "raw", "main", ["a.txt"])


@pytest.mark.postgres
class TestCollect:
    async def test_forgets_what_no_commit_names_and_leaves_the_objects_alone(
        self, database: Database, objects: Objects, scope: Scope, lake: Lake
    ) -> None:
        lake.put("kept", "lost", "new")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "raw")
            found = await listed(objects, lake)
            ids = await service.record_objects(conn, scope, found)
            await service.create_commit(conn, scope, "raw", CommitSpec("main", "", None, (File("kept", ids[0], 4),)))
        async with database.platform() as conn:
            await conn.execute("UPDATE dataforge.places SET touched_at = touched_at - interval '2 days'")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.record_objects(conn, scope, found[2:])  # somebody relies on it a moment ago

        async def nothing(*_: object) -> tuple[()]:
            return ()

        # a project is collected daily, unasked
        assert await CollectionReconciler(database, objects, nothing).run_once() == 1
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            (done,) = await collection.list_collections(conn, scope)
            assert (done.places, done.contents, done.size_bytes) == (1, 0, 0)
            assert (await service.find_places(conn, scope, ids)).keys() == {ids[0], ids[2]}
        assert [lake.read(name) for name in ("kept", "lost", "new")] == [b"kept", b"lost", b"new"]
