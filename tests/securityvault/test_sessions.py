"""Signing in, refresh tokens that are good once, invitations."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import psycopg
import pytest
from argon2 import extract_parameters

from actors.securityvault import service
from actors.securityvault.authenticator import Authenticator
from actors.securityvault.errors import CredentialInvalid, InvitationInvalid, RefreshRefused, SignInFailed, SigningBusy
from actors.securityvault.models import AuditEntry, PrincipalKind, Role, Tokens
from actors.securityvault.passwords import Passwords
from aidos.errors import TooManyRequests
from tests.securityvault.conftest import Vault
from tests.securityvault.test_authenticator import wait_refused

ADA, PASSWORD = "ada@example.org", "correct horse battery"


def where() -> AuditEntry:
    return AuditEntry("sign_in", "/v1/securityvault/sessions", "192.0.2.7", "request-1")


@pytest.fixture
async def ada(vault: Vault) -> Tokens:
    """A developer who is signed in."""
    hashed = await vault.authenticator.passwords.hash(PASSWORD)
    async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
        await service.create_user(conn, vault.scope, ADA, hashed)
        await service.put_member(conn, vault.scope, ADA, Role.DEVELOPER)
    return await service.sign_in(vault.authenticator, "default", ADA, PASSWORD, where())


@pytest.mark.postgres
class TestSignIn:
    async def test_gives_a_token_that_acts_as_the_person(self, vault: Vault, ada: Tokens, replica: Authenticator) -> None:
        principal = await replica.resolve(ada.access_token)
        assert (principal.kind, principal.name, principal.session_id) == (PrincipalKind.USER, ADA, ada.session_id)
        assert (await replica.scope(principal, None)).role is Role.DEVELOPER
        assert ada.expires_in_s == vault.settings.access_token_ttl_s

    @pytest.mark.parametrize(
        ("organisation", "name", "password"),
        [
            ("default", ADA, "wrong horse battery"),
            ("default", ADA, ""),
            ("default", "eve@example.org", PASSWORD),
            ("other", ADA, PASSWORD),
            ("default", "operator", PASSWORD),
            ("default", "' OR 1=1 --", PASSWORD),
        ],
    )
    async def test_fails_alike_whatever_is_wrong(self, vault: Vault, ada: Tokens, organisation: str, name: str, password: str) -> None:
        with pytest.raises(SignInFailed) as refusal:
            await service.sign_in(vault.authenticator, organisation, name, password, where())
        assert not refusal.value.fields

    async def test_is_refused_to_who_was_deactivated(self, vault: Vault, ada: Tokens) -> None:
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
            await service.deactivate_account(conn, vault.scope, ADA, PrincipalKind.USER)
        assert await wait_refused(ada.access_token, vault.authenticator) < 1.0
        with pytest.raises(SignInFailed):
            await service.sign_in(vault.authenticator, "default", ADA, PASSWORD, where())
        with pytest.raises(RefreshRefused):
            await service.refresh(vault.authenticator, ada.refresh_token, where())

    async def test_is_limited_for_each_account_over_all_replicas(self, vault: Vault, ada: Tokens, replica: Authenticator) -> None:
        outcomes, minute = [], time.time() // 60
        for number in range(15):
            try:
                await service.sign_in((vault.authenticator, replica)[number % 2], "default", ADA, f"guess number {number}", where())
            except (SignInFailed, TooManyRequests) as refusal:
                outcomes.append(type(refusal))
        # A minute that ended in between let some more through.
        assert len(outcomes) == 15 and (outcomes.count(SignInFailed) == 9 or time.time() // 60 > minute)

    async def test_is_on_the_record(self, vault: Vault, ada: Tokens) -> None:
        async with vault.db.platform() as conn:
            record = (await service.list_audit(conn, vault.scope.org_id, None, 1))[0]
        assert record.action == "sign_in" and record.client_ip == "192.0.2.7" and PASSWORD not in record.data


@pytest.mark.postgres
class TestRefresh:
    async def test_rotates(self, vault: Vault, ada: Tokens) -> None:
        first = await service.refresh(vault.authenticator, ada.refresh_token, where())
        second = await service.refresh(vault.authenticator, first.refresh_token, where())
        assert len({ada.refresh_token, first.refresh_token, second.refresh_token}) == 3
        assert (await vault.authenticator.resolve(second.access_token)).session_id == ada.session_id

    async def test_a_lost_answer_is_given_again(self, vault: Vault, ada: Tokens, replica: Authenticator) -> None:
        first = await service.refresh(vault.authenticator, ada.refresh_token, where())
        again = await service.refresh(replica, ada.refresh_token, where())
        assert again.refresh_token == first.refresh_token

    async def test_many_at_once_get_the_same_successor(self, vault: Vault, ada: Tokens) -> None:
        asked = [service.refresh(vault.authenticator, ada.refresh_token, where()) for _ in range(8)]
        assert len({tokens.refresh_token for tokens in await asyncio.gather(*asked)}) == 1

    async def test_reuse_after_the_successor_was_used_ends_the_session(self, vault: Vault, ada: Tokens) -> None:
        first = await service.refresh(vault.authenticator, ada.refresh_token, where())
        second = await service.refresh(vault.authenticator, first.refresh_token, where())
        await self.assert_ends_all(vault, ada.refresh_token, [ada, first, second])

    async def test_reuse_after_the_grace_ends_the_session(self, vault: Vault, ada: Tokens, root: psycopg.AsyncConnection) -> None:
        first = await service.refresh(vault.authenticator, ada.refresh_token, where())
        await root.execute("UPDATE securityvault.refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE used_at IS NOT NULL")
        await self.assert_ends_all(vault, ada.refresh_token, [ada, first])

    async def assert_ends_all(self, vault: Vault, stolen: str, family: list[Tokens]) -> None:
        for tokens in family:
            assert await vault.authenticator.resolve(tokens.access_token)
        with pytest.raises(RefreshRefused):
            await service.refresh(vault.authenticator, stolen, where())
        for tokens in family:
            assert await wait_refused(tokens.access_token, vault.authenticator) < 1.0
            with pytest.raises(RefreshRefused):
                await service.refresh(vault.authenticator, tokens.refresh_token, where())
        async with vault.db.platform() as conn:
            actions = [record.action for record in await service.list_audit(conn, vault.scope.org_id, None, 20)]
        assert "refresh_token_reused" in actions

    async def test_another_session_lives_on(self, vault: Vault, ada: Tokens) -> None:
        other = await service.sign_in(vault.authenticator, "default", ADA, PASSWORD, where())
        await service.sign_out(vault.authenticator, ada.refresh_token, where())
        assert await wait_refused(ada.access_token, vault.authenticator) < 1.0
        assert (await vault.authenticator.resolve(other.access_token)).session_id == other.session_id

    @pytest.mark.parametrize("token", ["", "aidos_refresh_" + "0" * 64, "\x00", "é" * 50])
    async def test_what_was_never_given_out_is_refused(self, vault: Vault, token: str) -> None:
        with pytest.raises(RefreshRefused):
            await service.refresh(vault.authenticator, token, where())
        await service.sign_out(vault.authenticator, token, where())


@pytest.mark.postgres
class TestInvitations:
    async def test_lets_choose_a_password_once(self, vault: Vault) -> None:
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
            _, invitation = await service.create_user(conn, vault.scope, "bob@example.org", None)
        assert invitation is not None
        await service.accept_invitation(vault.authenticator, invitation, PASSWORD, where())
        assert await service.sign_in(vault.authenticator, "default", "bob@example.org", PASSWORD, where())
        for bad in (invitation, "aidos_invite_" + "0" * 64):
            with pytest.raises(InvitationInvalid):
                await service.accept_invitation(vault.authenticator, bad, PASSWORD, where())

    async def test_a_new_password_ends_the_sessions_of_the_old_one(self, vault: Vault, ada: Tokens) -> None:
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
            _, invitation = await service.invite(conn, vault.scope, ADA)
        await service.accept_invitation(vault.authenticator, invitation, "another horse battery", where())
        assert await wait_refused(ada.access_token, vault.authenticator) < 1.0
        with pytest.raises(SignInFailed):
            await service.sign_in(vault.authenticator, "default", ADA, PASSWORD, where())


class TestPasswords:
    async def test_are_kept_as_argon2id_of_owasps_minimum(self) -> None:
        passwords = Passwords()
        stored = await passwords.hash(PASSWORD)
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and not passwords.needs_rehash(stored)
        assert await passwords.verify(stored, PASSWORD) and not await passwords.verify(stored, PASSWORD + " ")
        assert not await passwords.verify(None, PASSWORD) and not await passwords.verify("nonsense", PASSWORD)
        passwords.close()

    async def test_a_flood_is_turned_away_and_not_queued_without_end(self) -> None:
        passwords = Passwords(threads=1)
        outcomes = await asyncio.gather(*(passwords.hash(uuid4().hex) for _ in range(60)), return_exceptions=True)
        passwords.close()
        assert sum(isinstance(outcome, SigningBusy) for outcome in outcomes) == 60 - 17
        assert sum(isinstance(outcome, str) for outcome in outcomes) == 17

    async def test_an_unknown_user_costs_the_same_work_as_a_wrong_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Work and not time, which a busy machine would blur: one argon2id of the same parameters."""
        passwords, checked = Passwords(threads=1), []
        stored = await passwords.hash(PASSWORD)
        matches = passwords._matches

        def counted(hashed: str, password: str) -> bool:
            checked.append(extract_parameters(hashed))
            return matches(hashed, password)

        monkeypatch.setattr(passwords, "_matches", counted)
        for known in (stored, None):
            assert not await passwords.verify(known, "wrong")
        passwords.close()
        assert len(checked) == 2 and checked[0] == checked[1]


@pytest.mark.postgres
async def test_a_token_of_a_session_that_is_gone_is_refused(vault: Vault, ada: Tokens, root: psycopg.AsyncConnection) -> None:
    await root.execute("DELETE FROM securityvault.sessions")
    with pytest.raises(CredentialInvalid):
        await vault.authenticator.resolve(ada.access_token)
