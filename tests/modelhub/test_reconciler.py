"""Versions become READY or REJECTED by what their bytes are."""

from __future__ import annotations

import asyncio
import pickle
from uuid import UUID, uuid4

import pytest

from actors.modelhub import service, store
from actors.modelhub.models import Flavour, ModelVersion, Run, VersionSpec, VersionState
from actors.modelhub.reconciler import Inspection, VersionReconciler
from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.events import list_events
from cluster.objects import Objects
from tests.modelhub.conftest import Upload, announce
from tests.support.onnx_models import linear

pytestmark = pytest.mark.postgres


@pytest.fixture
def reconciler(database: Database, objects: Objects) -> VersionReconciler:
    return VersionReconciler(database, objects)


async def register(
    database: Database, scope: Scope, run: Run, path: str = "model.onnx", flavour: Flavour = Flavour.ONNX, *more: str
) -> ModelVersion:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await service.register_version(conn, scope, "digits", VersionSpec(run.id, flavour, (path, *more)))


async def read(database: Database, scope: Scope, version: int = 1) -> ModelVersion:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await service.get_version(conn, scope, "digits", str(version))


class TestProcess:
    async def test_a_good_model_becomes_ready_with_its_signature(
        self, reconciler: VersionReconciler, database: Database, objects: Objects, scope: Scope, run: Run, upload: Upload
    ) -> None:
        await upload(run.id, {"model/model.onnx": linear(), "model/labels.json": b'["a"]'})
        made = await register(database, scope, run, "model/model.onnx", Flavour.ONNX, "model/labels.json")
        assert await reconciler.run_once() == 1
        version = await read(database, scope)
        assert version.state is VersionState.READY, version.reason
        assert version.signature is not None and version.signature["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}]
        model = next(file for file in version.files if file.path == "model.onnx")
        assert model.key not in {file.key for file in made.files}, "served is the copy, not what a client may still overwrite"
        assert await objects.get(model.key) == linear()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            events = [event.type for event in await list_events(conn, after_seq=0, subject=str(version.id))]
        assert events == ["modelhub.version.created", "modelhub.version.ready"]

    @pytest.mark.parametrize(
        ("data", "reason"), [(pickle.dumps({"a": 1}), "model.onnx: the file is a Python pickle"), (linear()[:-3], "not an ONNX model")]
    )
    async def test_a_file_that_is_not_what_it_says_is_rejected(
        self, reconciler: VersionReconciler, database: Database, scope: Scope, run: Run, upload: Upload, data: bytes, reason: str
    ) -> None:
        await upload(run.id, {"model.onnx": data})
        await register(database, scope, run)
        await reconciler.run_once()
        version = await read(database, scope)
        assert version.state is VersionState.REJECTED and reason in version.reason

    async def test_what_could_run_code_is_quarantined_with_all_that_was_found(
        self, reconciler: VersionReconciler, database: Database, scope: Scope, run: Run, upload: Upload
    ) -> None:
        await upload(run.id, {"m/model.onnx": linear(), "m/scaler.bin": pickle.dumps(eval)})
        await register(database, scope, run, "m/model.onnx", Flavour.ONNX, "m/scaler.bin")
        await reconciler.run_once()
        version = await read(database, scope)
        assert version.state is VersionState.QUARANTINED and version.reason.startswith("scaler.bin: the pickle imports ")
        assert [(found.kind, found.path) for found in version.findings] == [("pickle-import", "scaler.bin"), ("pickle", "scaler.bin")]
        assert version.signature is not None and version.signature["inputs"], "the graph beside it was read"
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert (await list_events(conn, after_seq=0, subject=str(version.id)))[-1].type == "modelhub.version.quarantined"

    async def test_bytes_that_changed_after_the_announcement_are_rejected(
        self, reconciler: VersionReconciler, database: Database, objects: Objects, scope: Scope, run: Run, upload: Upload
    ) -> None:
        await upload(run.id, {"model.onnx": linear()})
        made = await register(database, scope, run)
        await objects.put(made.files[0].key, linear(5, 3))
        await reconciler.run_once()
        version = await read(database, scope)
        assert version.state is VersionState.REJECTED and "SHA-256" in version.reason

    async def test_bytes_that_are_gone_are_rejected(
        self, reconciler: VersionReconciler, database: Database, objects: Objects, scope: Scope, run: Run, upload: Upload
    ) -> None:
        await upload(run.id, {"model.onnx": linear()})
        made = await register(database, scope, run)
        await objects.remove([made.files[0].key])
        await reconciler.run_once()
        assert "gone" in (await read(database, scope)).reason


class TestClaim:
    """Eligibility and order, unlock, stale token, contention."""

    async def pending(self, database: Database, scope: Scope, run: Run, count: int) -> list[ModelVersion]:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await announce(conn, scope, run.id, {"model.onnx": b"x"})
        return [await register(database, scope, run) for _ in range(count)]

    async def claim(self, database: Database, token: UUID, limit: int = 10, lock_s: float = 30) -> list[int]:
        async with database.platform() as conn:
            return [version.version for version in await store.claim_version(conn, token, lock_s, limit)]

    async def test_takes_the_pending_that_are_due_oldest_first(self, database: Database, scope: Scope, run: Run) -> None:
        versions = await self.pending(database, scope, run, 4)
        async with database.platform() as conn:
            await conn.execute("UPDATE modelhub.versions SET state = 'REJECTED' WHERE id = %s", (versions[0].id,))
            await conn.execute("UPDATE modelhub.versions SET next_attempt_at = now() + interval '1 hour' WHERE id = %s", (versions[1].id,))
        assert await self.claim(database, uuid4(), limit=1) == [3]
        assert await self.claim(database, uuid4()) == [4]

    async def test_a_lock_that_ran_out_is_free(self, database: Database, scope: Scope, run: Run) -> None:
        await self.pending(database, scope, run, 1)
        assert await self.claim(database, uuid4(), lock_s=-1) == [1]
        assert await self.claim(database, uuid4()) == [1]
        assert await self.claim(database, uuid4()) == []

    async def test_a_stale_token_writes_nothing(self, database: Database, scope: Scope, run: Run, reconciler: VersionReconciler) -> None:
        (version,) = await self.pending(database, scope, run, 1)
        old, new = uuid4(), uuid4()
        await self.claim(database, old, lock_s=-1)
        await self.claim(database, new)
        async with database.platform() as conn:
            assert not await reconciler.apply(conn, version, old, Inspection("late"))
            assert await reconciler.apply(conn, version, new, Inspection("in time"))
        assert (await read(database, scope)).reason == "in time"

    async def test_two_at_once_share_the_work(self, database: Database, scope: Scope, run: Run) -> None:
        await self.pending(database, scope, run, 6)
        claims = await asyncio.gather(*(self.claim(database, uuid4(), limit=2) for _ in range(3)))
        taken = [number for claim in claims for number in claim]
        assert len(taken) == len(set(taken))

    async def test_what_cannot_be_inspected_is_rejected_in_the_end(
        self, database: Database, scope: Scope, run: Run, reconciler: VersionReconciler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.pending(database, scope, run, 1)
        reconciler.backoff_base_s = 0.0  # type: ignore[misc]  # no pause between the attempts of this test

        async def fail(_item: ModelVersion) -> Inspection:
            raise RuntimeError("the disk is full")

        monkeypatch.setattr(reconciler, "process", fail)
        for _ in range(5):
            assert await reconciler.run_once() == 1
        version = await read(database, scope)
        assert version.state is VersionState.REJECTED and "the disk is full" in version.reason
