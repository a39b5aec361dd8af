"""The secrets of projects: who sets them, what nobody reads, and what the database alone is worth."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest

from actors.securityvault import service
from actors.securityvault.errors import SecretNotFound, SecretUnreadable, VaultLocked
from actors.securityvault.keyring import read_pepper
from actors.securityvault.models import Role, Scope
from actors.securityvault.project_secrets import rewrap_secrets
from api.app import build_app
from api.deps import Edge
from cluster.events import Wakeup
from cluster.objects import Objects
from data_pipelines.dataforge.tables.viewer import Viewer
from tests.securityvault.conftest import Vault, make_member

pytestmark = pytest.mark.postgres
V1 = "/v1/securityvault/secrets"
VALUE = "hunter2-correct-horse-battery"


@pytest.fixture
async def vault(vault: Vault, tmp_path: Path) -> Vault:
    """One whose master keys the test may change."""
    (tmp_path / "secrets").mkdir()
    for path in vault.settings.secret_path("x").parent.iterdir():
        (tmp_path / "secrets" / path.name).write_text(path.read_text())
    return replace(vault, settings=vault.settings.model_copy(update={"home": tmp_path}))


async def put(vault: Vault, name: str, value: str = VALUE, scope: Scope | None = None) -> int:
    """Set it; its version."""
    scope = scope or vault.scope
    async with vault.db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
        return (await service.set_secret(conn, scope, vault.settings, name, value)).version


async def value_of(vault: Vault, name: str) -> str:
    async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
        return (await service.open_secrets(conn, vault.scope, vault.settings, [name]))[name].value


async def dump(root: psycopg.AsyncConnection) -> str:
    """Every row of every table, as text."""
    tables = await (
        await root.execute("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_'")
    ).fetchall()
    rows = [await (await root.execute(f"SELECT t::text FROM {table} t")).fetchall() for (table,) in tables]
    return "\n".join(str(row) for found in rows for row in found)


class TestSecrets:
    async def test_setting_one_again_replaces_its_value_under_the_next_version(self, vault: Vault) -> None:
        assert [await put(vault, "db", value) for value in ("first", "second")] == [1, 2]
        assert await value_of(vault, "db") == "second"

    async def test_twenty_who_set_one_at_once_make_twenty_versions(self, vault: Vault) -> None:
        versions = await asyncio.gather(*(put(vault, "db", f"value {number}") for number in range(20)))
        assert sorted(versions) == list(range(1, 21))
        assert await value_of(vault, "db") == f"value {versions.index(20)}"

    async def test_a_deleted_one_is_gone(self, vault: Vault) -> None:
        await put(vault, "db")
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            await service.delete_secret(conn, vault.scope, "db")
            with pytest.raises(SecretNotFound, match="'aidos secret set db' sets it"):
                await service.delete_secret(conn, vault.scope, "db")
        with pytest.raises(SecretNotFound):
            await value_of(vault, "db")

    async def test_of_another_project_is_not_there(self, vault: Vault) -> None:
        """Not by the query's own condition, and not by the wall behind it."""
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
            other = await service.create_project(conn, vault.scope, "other", "", None)
        there = replace(vault.scope, project_id=other.id)
        await put(vault, "theirs", scope=there)
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            assert await service.list_secrets(conn, vault.scope, None, 10) == await service.list_secrets(conn, there, None, 10) == []
            with pytest.raises(SecretNotFound):
                await service.open_secrets(conn, there, vault.settings, ["theirs"])


class TestAtRest:
    async def test_no_value_is_in_any_table(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        await put(vault, "db")
        text = await dump(root)
        assert "secret.set" in text and VALUE not in text and VALUE.encode().hex() not in text

    @pytest.mark.parametrize("change", ["name = 'other'", "project_id = (SELECT id FROM securityvault.projects WHERE name = 'other')"])
    async def test_a_row_that_is_moved_is_refused(self, vault: Vault, root: psycopg.AsyncConnection, change: str) -> None:
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
            other = await service.create_project(conn, vault.scope, "other", "", None)
        await put(vault, "db")
        await root.execute(f"UPDATE securityvault.secrets SET {change}")
        now = replace(vault, scope=replace(vault.scope, project_id=other.id)) if "project" in change else vault
        with pytest.raises(SecretUnreadable, match="its row was changed, or is another secret's"):
            await value_of(now, "other" if "name =" in change and "project" not in change else "db")

    async def test_a_value_that_is_changed_or_swapped_is_refused(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        await put(vault, "db")
        await put(vault, "other")
        await root.execute("UPDATE securityvault.secrets SET content = (SELECT content FROM securityvault.secrets WHERE name = 'other')")
        with pytest.raises(SecretUnreadable):
            await value_of(vault, "db")
        assert await value_of(vault, "other") == VALUE

    async def test_another_master_key_and_a_missing_one_say_so(self, vault: Vault) -> None:
        await put(vault, "db")
        path = vault.settings.secret_path("secret_keys")
        path.write_text("00" * 32)
        with pytest.raises(SecretUnreadable, match="aidos_secret_keys lacks the master key .* 'aidos secret set db' sets it anew"):
            await value_of(vault, "db")
        path.unlink()
        with pytest.raises(VaultLocked, match="aidos_secret_keys"):
            await value_of(vault, "db")


class TestMasterKey:
    async def test_one_that_is_rotated_wraps_all_anew_while_secrets_are_set_and_used(
        self, vault: Vault, root: psycopg.AsyncConnection
    ) -> None:
        for number in range(30):
            await put(vault, f"s{number}", f"value {number}")
        path = vault.settings.secret_path("secret_keys")
        (old,) = path.read_text().split()

        async def use() -> None:
            for number in range(30):
                assert await value_of(vault, f"s{number}") == f"value {number}"
                await put(vault, f"new{number}", f"value {number}")

        counted, _ = await asyncio.gather(service.rotate_secret_key(vault.db, vault.settings), use())
        assert counted >= 30 and path.read_text().split()[1:] == [old] and path.stat().st_mode & 0o777 == 0o600
        await rewrap_secrets(vault.db, vault.settings)
        assert await (await root.execute("SELECT count(DISTINCT key_id) FROM securityvault.secrets")).fetchone() == (1,)
        await service.rotate_secret_key(vault.db, vault.settings)
        assert old not in path.read_text()
        for number in range(30):
            assert await value_of(vault, f"s{number}") == await value_of(vault, f"new{number}") == f"value {number}"

    async def test_one_that_a_secret_still_needs_is_kept(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        await put(vault, "db")
        path = vault.settings.secret_path("secret_keys")
        needed = path.read_text().strip()
        path.write_text("\n".join(["11" * 32, needed]))
        await root.execute("UPDATE securityvault.secrets SET wrapped_key = '\\x00'::bytea || wrapped_key")  # cannot be wrapped anew
        await service.rotate_secret_key(vault.db, vault.settings)
        await service.rotate_secret_key(vault.db, vault.settings)
        assert needed in path.read_text()


@pytest.fixture
async def edge(vault: Vault) -> AsyncIterator[Edge]:
    async with Wakeup(vault.db) as wakeup:
        yield Edge(vault.db, Objects(vault.settings), wakeup, vault.authenticator, Viewer(vault.settings.home, 2**30))


class TestApi:
    def client(self, edge: Edge, key: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(build_app(edge), raise_app_exceptions=False, client=("192.0.2.7", 1))
        return httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers={"Authorization": f"Bearer {key}"})

    async def test_answers_with_names_and_versions_and_never_with_a_value(self, edge: Edge, vault: Vault) -> None:
        maintainer, viewer = [self.client(edge, await make_member(vault, f"the-{role}", role)) for role in (Role.MAINTAINER, Role.VIEWER)]
        answers = [await maintainer.put(f"{V1}/db", json={"value": VALUE}) for _ in range(2)]
        answers += [
            await viewer.get(V1),
            await maintainer.put(f"{V1}/db", json={"value": VALUE * 2000}),
            await maintainer.put(f"{V1}/db", json=[VALUE]),
        ]
        answers += [
            await maintainer.put(f"{V1}/db", json={"value": f"{VALUE}\x00"}),
            await maintainer.put(f"{V1}/{'x' * 101}", json={"value": VALUE}),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 422, 422, 422]
        (item,) = answers[2].json()["items"]
        assert (item["name"], item["version"], item["last_used_at"]) == ("db", 2, None) and item["set_by"].startswith("api_key:")
        assert not [answer.text for answer in answers if VALUE in answer.text]

    async def test_each_change_is_on_the_record(self, edge: Edge, vault: Vault) -> None:
        admin = self.client(edge, vault.admin_key)
        await admin.put(f"{V1}/db", json={"value": VALUE})
        assert (await admin.delete(f"{V1}/db")).status_code == 204
        records = (await admin.get("/v1/securityvault/audit")).json()["items"]
        assert [(record["action"], record["resource"]) for record in records[:2]] == [
            ("delete_secret", f"{V1}/db"),
            ("set_secret", f"{V1}/db"),
        ]
        assert VALUE not in str(records)

    async def test_an_answer_that_is_asked_for_twice_lets_nobody_guess_the_value(
        self, edge: Edge, vault: Vault, root: psycopg.AsyncConnection
    ) -> None:
        """What knows the request again is no plain hash of it: a short value could be tried out."""
        admin, headers, body = self.client(edge, vault.admin_key), {"Idempotency-Key": "once"}, json.dumps({"value": "1234"}).encode()
        first, again = [
            await admin.put(f"{V1}/pin", content=body, headers=headers | {"Content-Type": "application/json"}) for _ in range(2)
        ]
        assert first.json() == again.json() and again.headers["idempotency-replayed"] == "true"
        (kept,) = await (await root.execute("SELECT request_sha256 FROM cluster.idempotency WHERE key = 'once'")).fetchone() or ()
        asked = f"PUT {V1}/pin?{b''!r} {vault.scope.project_id}\n".encode() + body
        assert bytes(kept) == read_pepper(vault.settings).of_request(asked) != hashlib.sha256(asked).digest()
