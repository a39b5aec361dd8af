"""What is asked of endpoints, over the real database."""

from __future__ import annotations

import json
import pickle
import zlib
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString
from uuid import UUID, uuid4

import pytest

from actors.modelhub import service as modelhub
from actors.modelhub.exceptions import service as exceptions
from actors.modelhub.exceptions.errors import ExceptionNotFound, NothingToExcept
from actors.modelhub.exceptions.models import ExceptionSpec, SignedException
from actors.modelhub.governance import service as governance
from actors.modelhub.governance.errors import VersionDeprecated
from actors.modelhub.models import ModelVersion, NodeKind
from actors.securityvault import service as securityvault
from actors.securityvault.keyring import make_secrets
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from cluster.db import Database, new_id
from cluster.events import list_events
from serve_apps.deployengine import service, store
from serve_apps.deployengine.errors import EndpointBeingDeleted, EndpointExists, EndpointNotFound, ModelNotServable
from serve_apps.deployengine.models import Deployed, Endpoint, EndpointState
from tests.support.models import inspected_version, ready_version
from tests.support.onnx_models import linear

pytestmark = pytest.mark.postgres


@pytest.fixture
def scope() -> Scope:
    org, project = new_id(), new_id()
    principal = Principal(PrincipalKind.API_KEY, new_id(), "tester", org, roles={project: Role.OWNER})
    return Scope(principal, org, project, "vision", Role.OWNER)


async def create(database: Database, scope: Scope, name: str = "digits") -> Endpoint:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await service.create_endpoint(conn, scope, database.settings, name=name, model="digits@1", replicas=2, cpus=0.5)


async def claim(database: Database) -> tuple[Endpoint, UUID]:
    token = uuid4()
    async with database.platform() as conn:
        (endpoint,) = await store.claim_endpoint(conn, token, 30, 1)
    return endpoint, token


async def apply(database: Database, scope: Scope, endpoint: Endpoint, token: UUID, deployed: Deployed) -> bool:
    async with database.platform() as conn:
        return await service.apply_deployed(conn, scope, endpoint, token, deployed)


async def events_of(database: Database, scope: Scope) -> list[str]:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return [event.type for event in await list_events(conn, after_seq=0) if event.type.startswith("deployengine")]


@pytest.fixture
async def unsafe(database: Database, scope: Scope) -> ModelVersion:
    """A graph, and beside it two pickles."""
    make_secrets(database.settings)
    files = {"model.onnx": linear(), "a/scaler.joblib": zlib.compress(pickle.dumps([1])), "labels.txt": pickle.dumps([2])}
    version = await inspected_version(database, scope, "digits", files)
    assert version.state == "QUARANTINED" and {found.path for found in version.findings} == {"a/scaler.joblib", "labels.txt"}
    return version


async def sign(database: Database, scope: Scope, path: str = "", lasts: timedelta = timedelta(days=30)) -> SignedException:
    spec = ExceptionSpec("pickle", path, "we made it, and the replica does not load it", lasts)
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return await exceptions.sign_exception(conn, scope, database.settings, "digits", "1", spec)


async def states(database: Database, scope: Scope) -> list[str]:
    async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return [each.state for each in await exceptions.list_exceptions(conn, scope, database.settings, "digits", "1", None, 10)]


@pytest.mark.usefixtures("unsafe")
class TestUnsafeVersion:
    async def test_is_served_once_an_owner_answers_for_all_of_it(self, database: Database, scope: Scope) -> None:
        with pytest.raises(ModelNotServable, match="QUARANTINED.*aidos model except"):
            await create(database, scope)
        await sign(database, scope, "labels.txt")
        with pytest.raises(ModelNotServable):
            await create(database, scope)
        await sign(database, scope, "a/scaler.joblib")
        endpoint = await create(database, scope)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            spec = await service.build_spec(conn, scope, database.settings, endpoint)
        assert spec.files[0].path == "model.onnx", "a replica loads the first"

    async def test_is_refused_again_when_the_exception_is_revoked(self, database: Database, scope: Scope) -> None:
        signed = await sign(database, scope)
        endpoint = await create(database, scope)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await exceptions.revoke_exception(conn, scope, "digits", "1", signed.id)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(ModelNotServable):
                await service.build_spec(conn, scope, database.settings, endpoint)
            with pytest.raises(ExceptionNotFound):
                await exceptions.revoke_exception(conn, scope, "digits", "1", uuid4())
        assert await states(database, scope) == ["REVOKED"]

    async def test_is_refused_again_when_the_exception_has_expired(self, database: Database, scope: Scope) -> None:
        await sign(database, scope, lasts=timedelta(microseconds=1))
        with pytest.raises(ModelNotServable):
            await create(database, scope)
        assert await states(database, scope) == ["EXPIRED"]

    @pytest.mark.parametrize(
        "change",
        ["expires_at = expires_at + interval '1 year'", "reason = 'fine'", "finding = 'executable'", "path = 'labels.txt'", "author = 'root'",
         "signature = decode(repeat('00', 64), 'hex')", "kid = 'nobody'"],
    )  # fmt: skip
    async def test_an_exception_that_was_changed_in_the_database_excepts_nothing(
        self, database: Database, scope: Scope, change: LiteralString
    ) -> None:
        await sign(database, scope)
        async with database.platform() as conn:
            await conn.execute("UPDATE modelhub.exceptions SET " + change)
        assert await states(database, scope) == ["INVALID"]
        with pytest.raises(ModelNotServable):
            await create(database, scope)

    async def test_an_exception_speaks_of_these_files_and_this_version_alone(self, database: Database, scope: Scope) -> None:
        await sign(database, scope)
        await inspected_version(database, scope, "digits", {"model.onnx": linear(), "labels.txt": pickle.dumps([3])})
        async with database.platform() as conn:
            await conn.execute("UPDATE modelhub.version_files SET sha256 = repeat('0', 64) WHERE path = 'labels.txt'")
        assert await states(database, scope) == ["INVALID"]
        async with database.platform() as conn:
            await conn.execute("UPDATE modelhub.exceptions SET version_id = (SELECT id FROM modelhub.versions WHERE version = 2)")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(ModelNotServable):
                await service.create_endpoint(conn, scope, database.settings, name="two", model="digits@2", replicas=1, cpus=0.5)

    async def test_only_what_was_found_is_excepted(self, database: Database, scope: Scope) -> None:
        with pytest.raises(NothingToExcept, match="pickle in a/scaler.joblib, pickle in labels.txt"):
            await sign(database, scope, "model.onnx")

    async def test_is_on_the_record_with_its_reason(self, database: Database, scope: Scope) -> None:
        signed = await sign(database, scope, "labels.txt")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            (record,) = await securityvault.list_audit(conn, scope.org_id, None, 10)
        said = json.loads(record.data)
        assert (record.action, record.resource, record.actor) == ("modelhub.exception.signed", "digits@1", scope.actor)
        assert (said["finding"], said["path"], said["signature"]) == ("pickle", "labels.txt", signed.signature.hex())
        assert said["reason"].startswith("we made it")


class TestDeprecatedVersion:
    async def test_is_not_deployed_unless_it_serves_already(self, database: Database, scope: Scope) -> None:
        for _ in range(2):
            await ready_version(database, scope, "digits")
        serving = await create(database, scope)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await governance.deprecate_version(conn, scope, "digits", "1", "it leaks", 2)
        with pytest.raises(VersionDeprecated, match="digits@1 is deprecated: it leaks. Use digits@2."):
            await create(database, scope, "another")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            wider = await service.update_endpoint(conn, scope, database.settings, serving, model="digits@1", replicas=3, cpus=None)
            assert (await service.build_spec(conn, scope, database.settings, wider)).replicas == 3
            moved = await service.update_endpoint(conn, scope, database.settings, wider, model="digits@2", replicas=None, cpus=None)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            with pytest.raises(VersionDeprecated):
                await service.update_endpoint(conn, scope, database.settings, moved, model="digits@1", replicas=None, cpus=None)
            await governance.restore_version(conn, scope, "digits", "1")
            await service.update_endpoint(conn, scope, database.settings, moved, model="digits@1", replicas=None, cpus=None)


class TestCreateEndpoint:
    async def test_is_asked_for_under_the_projects_route(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        endpoint = await create(database, scope)
        assert (endpoint.route, endpoint.state, endpoint.model, endpoint.version) == ("/serve/vision/digits", "PENDING", "digits", 1)

    async def test_a_name_is_taken_once(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        await create(database, scope)
        with pytest.raises(EndpointExists):
            await create(database, scope)

    async def test_the_same_route_in_another_organisation_gets_its_own(self, database: Database, scope: Scope) -> None:
        other = replace(scope, org_id=new_id(), project_id=new_id())
        for each in (scope, other):
            await ready_version(database, each, "digits")
        first, second = await create(database, scope), await create(database, other)
        assert first.route == "/serve/vision/digits"
        assert second.route == f"/serve/{other.project}/digits"

    async def test_what_cannot_be_served_says_why(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits", flavour="safetensors")
        with pytest.raises(ModelNotServable, match="without a graph"):
            await create(database, scope)


class TestApplyDeployed:
    async def test_ready_opens_a_lease_and_an_edge(self, database: Database, scope: Scope) -> None:
        version = await ready_version(database, scope, "digits")
        await create(database, scope)
        endpoint, token = await claim(database)
        assert await apply(database, scope, endpoint, token, Deployed(EndpointState.READY))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            node = await modelhub.get_node(conn, scope, NodeKind.ENDPOINT, "digits")
            now = await service.get_endpoint(conn, scope, "digits")
        assert node.id == str(endpoint.id)
        assert (now.state, now.deployed_generation, now.model_version_id) == ("READY", 1, version)
        assert await events_of(database, scope) == [
            "deployengine.endpoint.created",
            "deployengine.lease.opened",
            "deployengine.endpoint.ready",
        ]

    async def test_a_look_at_a_healthy_one_changes_nothing(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        await create(database, scope)
        await apply(database, scope, *await claim(database), Deployed(EndpointState.READY))
        before = await events_of(database, scope)
        async with database.platform() as conn:
            await conn.execute("UPDATE deployengine.endpoints SET next_attempt_at = now()")
        await apply(database, scope, *await claim(database), Deployed(EndpointState.READY))
        assert await events_of(database, scope) == before

    async def test_a_stale_token_or_an_older_generation_is_refused(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        await create(database, scope)
        endpoint, token = await claim(database)
        assert not await apply(database, scope, endpoint, uuid4(), Deployed(EndpointState.READY))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.update_endpoint(conn, scope, database.settings, endpoint, model=None, replicas=3, cpus=None)
        assert not await apply(database, scope, endpoint, token, Deployed(EndpointState.READY))

    async def test_deleting_closes_the_lease_and_frees_the_name(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        await create(database, scope)
        await apply(database, scope, *await claim(database), Deployed(EndpointState.READY))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            deleting = await service.delete_endpoint(conn, scope, "digits")
            with pytest.raises(EndpointBeingDeleted):
                await service.update_endpoint(conn, scope, database.settings, deleting, model=None, replicas=1, cpus=None)
        await apply(database, scope, *await claim(database), Deployed(EndpointState.DELETED))
        assert (await events_of(database, scope))[-2:] == ["deployengine.lease.closed", "deployengine.endpoint.deleted"]
        assert (await create(database, scope)).state is EndpointState.PENDING


class TestGetEndpoint:
    async def test_another_tenants_is_not_there(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        endpoint = await create(database, scope)
        other = replace(scope, org_id=new_id(), project_id=new_id())
        for name in ("digits", str(endpoint.id)):
            async with database.tenant(org_id=other.org_id, project_id=other.project_id) as conn:
                with pytest.raises(EndpointNotFound):
                    await service.get_endpoint(conn, other, name)


class TestClaimEndpoint:
    async def test_two_claims_never_share_an_endpoint(self, database: Database, scope: Scope) -> None:
        await ready_version(database, scope, "digits")
        await create(database, scope)
        await claim(database)
        async with database.platform() as conn:
            assert await store.claim_endpoint(conn, uuid4(), 30, 5) == []
