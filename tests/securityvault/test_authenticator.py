"""Credentials become principals, on every replica, and stop doing so within a second."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from actors.securityvault import service
from actors.securityvault.authenticator import Authenticator
from actors.securityvault.credentials import new_key
from actors.securityvault.errors import CredentialInvalid, CredentialMissing, JobIsOver, ProjectNotFound
from actors.securityvault.keyring import TOKEN_KEYS, rotate_token_keys
from actors.securityvault.models import AuditEntry, Grade, Principal, PrincipalKind, Role, platform_scope
from cluster.db import Database
from tests.securityvault.conftest import Vault, make_member
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.postgres
WHERE = AuditEntry("sign_in", "/v1/securityvault/sessions", "192.0.2.7", "request-1")


async def refused(replica: Authenticator, credential: str) -> bool:
    try:
        await replica.admit(credential, None)
    except CredentialInvalid:
        return True
    return False


async def wait_refused(credential: str, *replicas: Authenticator) -> float:
    """Seconds until every replica refuses the credential."""
    started = time.monotonic()
    for replica in replicas:
        await wait_until_async(lambda replica=replica: refused(replica, credential), within_s=5)
    return time.monotonic() - started


class TestKeys:
    async def test_the_admin_key_is_the_operators(self, vault: Vault) -> None:
        assert vault.admin.kind is PrincipalKind.API_KEY and vault.admin.operator and vault.admin.org_admin
        assert vault.scope.role is Role.OWNER and vault.scope.project_name == "default"

    async def test_a_key_carries_its_role_in_its_project(self, vault: Vault) -> None:
        principal = await vault.authenticator.resolve(await make_member(vault, "ci", Role.DEVELOPER))
        scope = await vault.authenticator.scope(principal, None)
        assert scope.role is Role.DEVELOPER and not principal.org_admin and principal.project_id == scope.project_id

    async def test_a_key_of_a_stranger_to_the_project_has_none(self, vault: Vault) -> None:
        principal = await vault.authenticator.resolve(await make_member(vault, "guest", None))
        with pytest.raises(ProjectNotFound):
            await vault.authenticator.scope(principal, None)

    @pytest.mark.parametrize("damage", ["checksum", "secret", "id", "prefix", "case", "empty", "long", "unicode", "space"])
    async def test_a_damaged_key_is_refused(self, vault: Vault, damage: str) -> None:
        key = vault.admin_key
        other, _ = new_key(uuid4())
        bad = {
            "checksum": key[:-1] + ("0" if key[-1] != "0" else "1"),
            "secret": new_key(vault.admin.id)[0],
            "id": other,
            "prefix": key.replace("live", "test"),
            "case": key.upper(),
            "empty": "",
            "long": key + "0" * 5000,
            "unicode": key[:-1] + "é",
            "space": key + " ",
        }[damage]
        assert await refused(vault.authenticator, bad)

    async def test_an_expired_key_is_refused_also_from_memory(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        key = await make_member(vault, "ci", Role.VIEWER)
        await root.execute("UPDATE securityvault.api_keys SET expires_at = clock_timestamp() + interval '0.3 s' WHERE name = 'ci-key'")
        assert (await vault.authenticator.resolve(key)).name == "ci-key"
        assert await wait_refused(key, vault.authenticator) < 1.0

    async def test_headers_name_one_credential(self, vault: Vault) -> None:
        key = vault.admin_key
        for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
            assert (await vault.authenticator.authenticate(headers)).id == vault.admin.id
        for headers in ({}, {"authorization": f"Basic {key}"}, {"cookie": f"key={key}"}, {"authorization": "x", "x-api-key": key}):
            with pytest.raises(CredentialMissing):
                await vault.authenticator.authenticate(headers)

    async def test_the_last_use_is_noted_in_batches(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        key = await make_member(vault, "ci", Role.VIEWER)
        for _ in range(5):
            await vault.authenticator.resolve(key)
        read = "SELECT last_used_at FROM securityvault.api_keys WHERE name = 'ci-key'"
        assert (await (await root.execute(read)).fetchone()) == (None,)
        await vault.authenticator.keep_house()
        row = await (await root.execute(read)).fetchone()
        assert row is not None and datetime.now(UTC) - row[0] < timedelta(seconds=10)


class TestHerd:
    async def test_a_thousand_requests_of_an_unknown_caller_ask_once(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        authenticator, asked = vault.authenticator, []
        look_up = authenticator._look_up

        async def counted(credential: str, key: bytes, generation: int) -> Principal:
            asked.append(credential)
            return await look_up(credential, key, generation)

        monkeypatch.setattr(authenticator, "_look_up", counted)
        authenticator._principals.clear()
        found = await asyncio.gather(*(authenticator.resolve(vault.admin_key) for _ in range(1000)))
        assert len(asked) == 1 and {principal.id for principal in found} == {vault.admin.id}

    async def test_who_gives_up_does_not_end_the_others_wait(self, vault: Vault) -> None:
        vault.authenticator._principals.clear()
        first, second = [asyncio.create_task(vault.authenticator.resolve(vault.admin_key)) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).id == vault.admin.id
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)

    async def test_a_refusal_is_everybodys(self, vault: Vault) -> None:
        bad = new_key(uuid4())[0]
        outcomes = await asyncio.gather(*(vault.authenticator.resolve(bad) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(outcome, CredentialInvalid) for outcome in outcomes)


class TestUpkeep:
    async def test_forgets_what_is_over_and_nothing_else(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        windows = "INSERT INTO securityvault.rate_windows VALUES (%s, 1, 1, 1, now() - %s::interval)"
        for subject, age in (("old", "3 minutes"), ("young", "1 minute")):
            await root.execute(windows, (subject, age))
        await vault.authenticator.keep_house()
        kept = await (await root.execute("SELECT subject FROM securityvault.rate_windows")).fetchall()
        assert kept == [("young",)]


class TestRevocation:
    """Two replicas have the credential in memory; the change is made through a third party's transaction."""

    async def change(self, vault: Vault, what: str) -> None:
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            if what == "revoke key":
                await service.revoke_key(conn, vault.scope, "ci-key")
            elif what == "rotate key":
                await service.rotate_key(conn, vault.scope, vault.authenticator.pepper, "ci-key")
            elif what == "deactivate":
                await service.deactivate_account(conn, vault.scope, "ci", PrincipalKind.SERVICE_ACCOUNT)

    @pytest.mark.parametrize("what", ["revoke key", "rotate key", "deactivate"])
    async def test_is_effective_on_every_replica_within_a_second(self, vault: Vault, replica: Authenticator, what: str) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        for each in (vault.authenticator, replica):
            await wait_until_async(lambda each=each: self.holds(each, key), within_s=5)
        await self.change(vault, what)
        assert await wait_refused(key, vault.authenticator, replica) < 1.0

    async def holds(self, each: Authenticator, key: str) -> bool:
        admission = await each.admit(key, None)
        return await each.admit(key, None) is admission

    async def test_a_changed_role_is_the_new_one_within_a_second(self, vault: Vault, replica: Authenticator) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        await wait_until_async(lambda: self.holds(replica, key), within_s=5)
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            await service.put_member(conn, vault.scope, "ci", Role.VIEWER)
        started = time.monotonic()

        async def demoted() -> bool:
            granted = (await replica.admit(key, None)).scope
            return granted is not None and granted.role is Role.VIEWER

        await wait_until_async(demoted, within_s=5)
        assert time.monotonic() - started < 1.0

    async def test_a_project_that_was_archived_is_read_only(self, vault: Vault, replica: Authenticator) -> None:
        async def role() -> Role | None:
            granted = (await replica.admit(vault.admin_key, "default")).scope
            return granted.role if granted else None

        assert await role() is Role.OWNER
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            await service.archive_project(conn, vault.scope, "default")

        async def read_only() -> bool:
            return await role() is Role.VIEWER

        await wait_until_async(read_only, within_s=1)

    async def test_a_lookup_that_a_revocation_overtook_is_not_kept(self, vault: Vault) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        generation = vault.authenticator._principals.generation
        principal = await vault.authenticator.resolve(key)
        vault.authenticator._principals.forget(f"key:{principal.key_id}")
        vault.authenticator._principals.put(b"late", principal, (), generation)
        assert vault.authenticator._principals.get(b"late") is None

    async def test_a_deaf_replica_believes_nothing_for_longer_than_a_second(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        async with Database(vault.settings) as db:
            deaf = Authenticator(db, vault.settings)  # never started: it hears nothing
            await deaf.resolve(key)
            await root.execute("UPDATE securityvault.api_keys SET revoked_at = now() WHERE name = 'ci-key'")
            assert await wait_refused(key, deaf) < 1.5

    async def test_a_listener_that_lost_its_connection_forgets_and_comes_back(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        await wait_until_async(lambda: self.holds(vault.authenticator, key), within_s=5)
        await root.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN aidos_revoked%' AND datname = current_database()"
        )

        async def deaf() -> bool:
            return not vault.authenticator.listening.is_set()

        await wait_until_async(deaf, within_s=5)
        assert not vault.authenticator._admissions and vault.authenticator._principals.max_age_s == 1.0
        await vault.authenticator.listening.wait()
        assert vault.authenticator._principals.max_age_s == 30.0

    async def test_a_listener_that_failed_forgets_and_begins_again(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        key = await make_member(vault, "ci", Role.DEVELOPER)
        await wait_until_async(lambda: self.holds(vault.authenticator, key), within_s=5)
        authenticator, failed = vault.authenticator, asyncio.Event()
        hear = authenticator._principals.forget

        def fail(tag: str) -> None:
            monkeypatch.setattr(authenticator._principals, "forget", hear)
            failed.set()
            raise RuntimeError("planted")

        monkeypatch.setattr(authenticator._principals, "forget", fail)
        await self.change(vault, "revoke key")
        await failed.wait()
        assert await wait_refused(key, authenticator) < 1.0
        await authenticator.listening.wait()


class TestJobTokens:
    async def test_acts_in_one_project_with_few_permissions(self, vault: Vault) -> None:
        job = uuid4()
        async with vault.db.platform() as conn:
            scope = platform_scope(vault.scope.org_id, vault.scope.project)
            token = await service.issue_job_token(conn, scope, job, 1, settings=vault.settings)
        principal = await vault.authenticator.resolve(token)
        acting = await vault.authenticator.scope(principal, None)
        assert principal.kind is PrincipalKind.JOB and principal.job_id == job and acting.role is Role.DEVELOPER
        assert service.policy.allows(acting, "modelhub:write") and not service.policy.allows(acting, "modelhub:manage")
        assert not service.policy.allows(acting, "org:read")

    async def test_is_dead_when_the_job_is_over(self, vault: Vault, replica: Authenticator) -> None:
        job, scope = uuid4(), platform_scope(vault.scope.org_id, vault.scope.project)
        async with vault.db.platform() as conn:
            token = await service.issue_job_token(conn, scope, job, 1, settings=vault.settings)
        await replica.resolve(token)
        async with vault.db.platform() as conn:
            await service.revoke_job_tokens(conn, job)
        assert await wait_refused(token, vault.authenticator, replica) < 1.0
        with pytest.raises(JobIsOver):
            async with vault.db.platform() as conn:
                await service.issue_job_token(conn, scope, job, 1, settings=vault.settings)

    async def test_is_dead_when_the_next_attempt_begins(self, vault: Vault) -> None:
        job, scope = uuid4(), platform_scope(vault.scope.org_id, vault.scope.project)
        async with vault.db.platform() as conn:
            old = await service.issue_job_token(conn, scope, job, 1, settings=vault.settings)
            new = await service.issue_job_token(conn, scope, job, 2, settings=vault.settings)
        assert await refused(vault.authenticator, old)
        assert (await vault.authenticator.resolve(new)).job_id == job

    async def test_does_no_more_than_who_submitted_it(self, vault: Vault) -> None:
        principal = await vault.authenticator.resolve(await make_member(vault, "ada", Role.VIEWER))
        scope = await vault.authenticator.scope(principal, None)
        async with vault.db.platform() as conn:
            token = await service.issue_job_token(conn, scope, uuid4(), 1, settings=vault.settings)
        acting = await vault.authenticator.scope(await vault.authenticator.resolve(token), None)
        assert acting.role is Role.VIEWER


class TestRotation:
    async def test_tokens_survive_a_rotation_of_the_signing_key(self, vault: Vault) -> None:
        scope = platform_scope(vault.scope.org_id, vault.scope.project)
        async with vault.db.platform() as conn:
            token = await service.issue_job_token(conn, scope, uuid4(), 1, settings=vault.settings)
        made = vault.settings.secret_path(TOKEN_KEYS).stat()
        for still_good in (True, False):
            rotate_token_keys(vault.settings)
            os.utime(vault.settings.secret_path(TOKEN_KEYS), ns=(made.st_atime_ns, made.st_mtime_ns))  # all within one tick of the clock
            for cache in vault.authenticator._caches:
                cache.clear()
            assert await refused(vault.authenticator, token) is not still_good


class TestBootstrap:
    async def test_gives_the_key_once(self, vault: Vault) -> None:
        assert await service.bootstrap(vault.db, vault.settings) is None

    async def test_the_key_is_kept_before_it_is_valid(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        """Who dies before the key was kept begins anew; who dies after it has the key."""
        await root.execute("TRUNCATE securityvault.organisations, securityvault.audit_log, securityvault.audit_heads CASCADE")

        def die(_key: str) -> None:
            raise RuntimeError("planted")

        with pytest.raises(RuntimeError, match="planted"):
            await service.bootstrap(vault.db, vault.settings, die)
        kept: list[str] = []
        key = await service.bootstrap(vault.db, vault.settings, kept.append)
        assert kept == [key] and (await vault.authenticator.resolve(kept[0])).operator

    async def test_two_at_once_make_one_installation(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        await root.execute("TRUNCATE securityvault.organisations, securityvault.audit_log, securityvault.audit_heads CASCADE")
        keys = await asyncio.gather(*(service.bootstrap(vault.db, vault.settings) for _ in range(4)))
        assert sum(key is not None for key in keys) == 1

    async def test_a_lost_key_is_replaced_and_the_old_one_dies(self, vault: Vault) -> None:
        new = await service.replace_admin_key(vault.db, vault.settings)
        assert (await vault.authenticator.resolve(new)).operator
        assert await wait_refused(vault.admin_key, vault.authenticator) < 1.0

    async def test_secrets_are_for_the_owner_alone(self, vault: Vault) -> None:
        modes = {path.name: path.stat().st_mode & 0o777 for path in (vault.settings.home / "secrets").iterdir()}
        assert set(modes) >= {"aidos_token_keys", "aidos_audit_keys", "aidos_key_pepper", "aidos_secret_keys"} and set(modes.values()) == {
            0o600
        }


class TestSecretsAtRest:
    async def test_no_credential_is_in_the_database_in_clear(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        """Every secret that was given out is looked for in every column of every table."""
        password = f"correct horse {uuid4().hex}"
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            hashed = await vault.authenticator.passwords.hash(password)
            await service.create_user(conn, vault.scope, "ada@example.org", hashed)
            _, invitation = await service.create_user(conn, vault.scope, "bob@example.org", None)
            narrowed = await service.create_key(
                conn, vault.scope, vault.authenticator.pepper, name="k", grade=Grade.VIEWER, scopes=frozenset({"modelhub:read"})
            )
        tokens = await service.sign_in(vault.authenticator, "default", "ada@example.org", password, WHERE)
        again = await service.refresh(vault.authenticator, tokens.refresh_token, WHERE)
        planted = [password, invitation, tokens.refresh_token, again.refresh_token, tokens.access_token, again.access_token]
        planted += [key.split("_")[3] for key in (vault.admin_key, narrowed.secret)]
        tables = await (
            await root.execute("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'")
        ).fetchall()
        dump = ""
        for (table,) in tables:
            rows = await (await root.execute(f"SELECT t::text FROM {table} t")).fetchall()
            dump += "\n".join(row[0] for row in rows)
        assert "ada@example.org" in dump and "$argon2id$v=19$m=19456,t=2,p=1$" in dump
        for secret in planted:
            assert secret and secret not in dump and secret.encode().hex() not in dump
