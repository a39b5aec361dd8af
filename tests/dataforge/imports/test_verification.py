"""Verifying an import: what changed or vanished is told by path, what is sound is known by its SHA-256 from then on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess

import httpx
import pytest

from aidos.client import Client
from aidos.config import JobConfig
from aidos.schemas.dataforge.imports import VerificationRead
from aidos.schemas.dataforge.versions import BlobState, FileAdd
from aidos.transfers.downloading import ImportedObjectChanged
from aidos.transfers.filesystem import AidosFileSystem
from cluster.buckets import Seen
from cluster.db import Database
from cluster.objects import Objects
from cluster.reconciler import LostClaim
from data_pipelines.dataforge.imports.reconciler import ImportReconciler
from data_pipelines.dataforge.models import File, Place
from data_pipelines.dataforge.quality.files import find_equal_files
from data_pipelines.dataforge.quality.pipeline import by_content
from data_pipelines.dataforge.reports.source import Source, Tree
from data_pipelines.dataforge.verification.errors import VerificationEnded
from data_pipelines.dataforge.verification.models import FaultKind
from data_pipelines.dataforge.verification.policy import BATCH_BYTES, cut_batch, find_fault
from data_pipelines.dataforge.verification.reconciler import VerificationReconciler
from tests.dataforge.imports.conftest import Lake
from tests.support.running import AIDOS

PLACE = Place("id", "lake", "raw/a", "etag", None, 3)
SHA256 = hashlib.sha256(b"abc").hexdigest()


class TestPolicy:
    @pytest.mark.parametrize(
        ("known", "seen", "kind"),
        [
            (None, Seen(SHA256, 3), None),
            (SHA256, Seen(SHA256, 3), None),
            (None, Seen(None, vanished=True), FaultKind.VANISHED),
            (None, Seen(None), FaultKind.CHANGED),
            (None, Seen(SHA256, 2), FaultKind.CHANGED),
            ("0" * 64, Seen(SHA256, 3), FaultKind.CHANGED),
        ],
    )
    def test_an_object_is_what_was_imported_or_not(self, known: str | None, seen: Seen, kind: FaultKind | None) -> None:
        fault = find_fault("a", Place(**{**PLACE.__dict__, "sha256": known}), seen)
        assert (fault and fault.kind) == kind
        assert fault is None or ("etag" in fault.reason and fault.uri == "s3://lake/raw/a")

    def test_a_batch_ends_with_the_gibibyte_and_has_a_file(self) -> None:
        files = [File(str(n), "", BATCH_BYTES // 2) for n in range(4)]
        assert cut_batch(files) == files[:2]
        large = [File("large", "", 5 * BATCH_BYTES), *files]
        assert cut_batch(large) == large[:1]
        assert cut_batch([]) == []


@pytest.fixture
async def raw(client: Client, database: Database, objects: Objects, lake: Lake) -> Client:
    """The client, with an import in ``raw`` of the lake's files."""
    lake.put("changed", "gone", "kept/a", "kept/b")
    lake.put("empty", data=b"")
    client.datasets.create("raw")
    client.datasets.import_("raw", lake.uri)
    assert await ImportReconciler(database, objects).run_once() == 1
    return client


async def verify(client: Client, database: Database, objects: Objects) -> VerificationRead:
    asked = client.datasets.verify("raw")
    assert (asked.state, asked.files) == ("running", 0)
    assert await VerificationReconciler(database, objects).run_once() == 1
    return client.datasets.verification("raw", str(asked.id))


@pytest.mark.postgres
class TestVerify:
    async def test_tells_every_file_that_is_not_what_was_imported(
        self, raw: Client, database: Database, objects: Objects, lake: Lake
    ) -> None:
        lake.put("changed", data=b"CHANGED")
        lake.remove("gone")
        done = await verify(raw, database, objects)
        assert (done.state, done.files, done.faults, done.size_bytes) == ("finished", 4, 2, len("kept/a") + len("kept/b"))
        faults = {fault.path: (fault.kind, fault.uri) for fault in raw.datasets.faults("raw", str(done.id))}
        assert faults == {"changed": ("changed", f"{lake.uri}/changed"), "gone": ("vanished", f"{lake.uri}/gone")}
        places = {file.path: file.place for file in raw.datasets.downloads("raw", paths=["kept/a", "changed"]).files}
        assert places["kept/a"] and places["kept/a"].sha256 == hashlib.sha256(b"kept/a").hexdigest()
        assert places["changed"] and places["changed"].sha256 is None
        assert raw.datasets.show("raw", "main").id == done.commit_id  # the commit names the same content as before

    async def test_tells_what_was_pushed_in_parts_and_is_not_what_it_was_said_to_be(
        self, client: Client, database: Database, objects: Objects
    ) -> None:
        client.datasets.create("raw")
        size_bytes, said = 65 * 2**20, []
        for path, data, sha256 in (("false", b"f", "0" * 64), ("true", b"t", hashlib.sha256(b"t" * 65 * 2**20).hexdigest())):
            said.append(FileAdd(path=path, sha256=sha256, size_bytes=size_bytes))
            asked = client.datasets.upload_parts("raw", sha256=sha256, size_bytes=size_bytes)
            for part in asked.parts:
                length = min(asked.part_size_bytes, size_bytes - (part.number - 1) * asked.part_size_bytes)
                sent = await asyncio.to_thread(httpx.put, part.url, content=data * length, trust_env=False)
                assert sent.is_success
            done = client.datasets.complete_uploads("raw", blobs=[BlobState(sha256=sha256, size_bytes=size_bytes)])
            assert not done.missing
        client.datasets.commit("raw", message="pushed", add=said)
        found = await verify(client, database, objects)
        assert (found.state, found.files, found.faults, found.size_bytes) == ("finished", 2, 1, 2 * size_bytes)
        (fault,) = client.datasets.faults("raw", str(found.id))
        stored = hashlib.sha256(b"f" * size_bytes).hexdigest()
        assert (fault.path, fault.kind, fault.uri) == ("false", "changed", f"sha256:{'0' * 64}") and stored in fault.reason

    async def test_what_is_verified_is_checked_by_its_sha256_although_the_etag_is_the_same(
        self, raw: Client, database: Database, objects: Objects
    ) -> None:
        assert (await verify(raw, database, objects)).faults == 0
        async with database.platform() as conn:  # as if other bytes had been imported under this ETag
            await conn.execute("UPDATE dataforge.places SET sha256 = sha256(sha256) WHERE key LIKE '%/changed'")
        files = AidosFileSystem(client=raw)
        with pytest.raises(ImportedObjectChanged, match="when it was verified"):
            files.cat_file("raw@main/changed")
        assert files.cat_file("raw@main/kept/a") == b"kept/a"
        done = await verify(raw, database, objects)
        assert [(fault.path, "under the same ETag" in fault.reason) for fault in raw.datasets.faults("raw", str(done.id))] == [
            ("changed", True)
        ]

    async def test_what_is_verified_equals_an_upload_of_the_same_bytes(self, raw: Client, database: Database, objects: Objects) -> None:
        head = raw.datasets.show("raw", "main")
        upload = FileAdd(path="upload", sha256=hashlib.sha256(b"kept/a").hexdigest(), size_bytes=6)
        target = raw.datasets.uploads("raw", blobs=[BlobState(sha256=upload.sha256, size_bytes=6)]).missing[0]
        raw.put_presigned(str(target.url), b"kept/a", target.headers)
        raw.datasets.complete_uploads("raw", blobs=[BlobState(sha256=upload.sha256, size_bytes=6)])
        commit = raw.datasets.commit("raw", message="", parent=head.id, add=[upload])
        source = Source(raw, "", Tree("raw", str(commit.id)), JobConfig())

        def groups() -> list[list[str]]:
            return find_equal_files(by_content(source, source.files()))["duplicates"]["groups"]

        assert groups() == []
        assert (await verify(raw, database, objects)).faults == 0
        assert groups() == [["kept/a", "upload"]]

    async def test_a_new_worker_goes_on_and_a_stale_one_writes_nothing(
        self, raw: Client, database: Database, objects: Objects, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("data_pipelines.dataforge.verification.service._LISTED", 2)
        lake.remove("gone")
        asked = raw.datasets.verify("raw")
        reconciler = VerificationReconciler(database, objects)
        async with database.platform() as conn:
            (slow,) = await reconciler.claim(conn, asked.id, 0, 1)
        looked = 0

        async def dies(places: object) -> dict[str, Seen]:
            nonlocal looked
            looked += 1
            if looked == 2:
                raise ConnectionError("the process died here")
            return await VerificationReconciler._look(reconciler, places)  # type: ignore[arg-type]  # what it is given

        monkeypatch.setattr(reconciler, "_look", dies)
        assert await reconciler.run_once() == 1
        half = raw.datasets.verification("raw", str(asked.id))
        assert (half.state, half.files) == ("running", 1)  # of the first two one is empty, and nothing that could change
        async with database.platform() as conn:
            await conn.execute("UPDATE dataforge.verifications SET next_attempt_at = now()")
        assert await VerificationReconciler(database, objects).run_once() == 1
        done = raw.datasets.verification("raw", str(asked.id))
        assert (done.state, done.files, done.faults) == ("finished", 4, 1)
        with pytest.raises(LostClaim):
            await VerificationReconciler(database, objects).process(slow)
        assert len(list(raw.datasets.faults("raw", str(asked.id)))) == 1

    async def test_canceled_it_stays_canceled(self, raw: Client, database: Database, objects: Objects) -> None:
        asked = raw.datasets.verify("raw")
        assert raw.datasets.cancel_verification("raw", str(asked.id)).state == "canceled"
        assert await VerificationReconciler(database, objects).run_once() == 0
        done = await verify(raw, database, objects)
        with pytest.raises(VerificationEnded):
            raw.datasets.cancel_verification("raw", str(done.id))
        assert [each.state for each in raw.datasets.verifications("raw")] == ["finished", "canceled"]

    async def test_a_closed_bucket_ends_it_with_the_reason(self, raw: Client, database: Database, objects: Objects) -> None:
        asked = raw.datasets.verify("raw")
        closed = Objects(objects.settings.model_copy(update={"import_buckets": ""}))
        assert await VerificationReconciler(database, closed).run_once() == 1
        done = raw.datasets.verification("raw", str(asked.id))
        assert done.state == "failed" and done.error and "AIDOS_IMPORT_BUCKETS" in done.error

    async def test_the_command_fails_where_a_file_is_another(self, raw: Client, database: Database, objects: Objects, lake: Lake) -> None:
        lake.remove("gone")
        reconciler = VerificationReconciler(database, objects)
        arguments = [str(AIDOS), "dataset", "verify", "raw", "--json"]
        command = asyncio.create_task(asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=60, check=False))
        while not command.done():
            await reconciler.run_once()
            await asyncio.sleep(0.05)
        done = await command
        assert done.returncode == 5 and "'gone'" in done.stderr + done.stdout
        assert json.JSONDecoder().raw_decode(done.stdout)[0]["faults"] == 1
