"""The matrix of roles and permissions, cell by cell, and what nobody may grant."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from actors.securityvault import policy
from actors.securityvault.errors import RoleNotGrantable, ScopeNotGrantable, ScopeUnknown
from actors.securityvault.models import Grade, Principal, PrincipalKind, Role, Scope
from aidos.errors import Forbidden

ID = UUID(int=7)
WORK = ("dataforge", "modelhub", "trainos", "deployengine", "costoptimizer")

# Written out a second time, by hand: what the contract says, not what the code computes.
LOWEST: dict[str, Role | None] = {
    **{f"{module}:read": Role.VIEWER for module in (*WORK, "events", "securityvault")},
    "dataforge:label": Role.ANNOTATOR,
    **{f"{module}:write": Role.DEVELOPER for module in WORK},
    **dict.fromkeys(("deployengine:predict", "trainos:save", "trainos:sandbox", "securityvault:use"), Role.DEVELOPER),
    **{f"{module}:manage": Role.MAINTAINER for module in WORK},
    "securityvault:keep": Role.MAINTAINER,
    "securityvault:manage": Role.OWNER,
    "dataforge:protect": Role.OWNER,
    "modelhub:protect": Role.OWNER,
    "org:manage": None,
    "platform:operate": None,
    "modelhub:everything": None,
    "": None,
}


def scope_of(role: Role | None, **changes: object) -> Scope:
    principal = replace(Principal(PrincipalKind.USER, ID, "ada", ID), **changes)
    return Scope(principal, ID, ID, "default", role)


class TestMatrix:
    @pytest.mark.parametrize("role", [None, *Role])
    @pytest.mark.parametrize("permission", LOWEST)
    def test_each_cell(self, role: Role | None, permission: str) -> None:
        lowest = LOWEST[permission]
        expected = role is not None and lowest is not None and list(Role).index(role) >= list(Role).index(lowest)
        if role is Role.ANNOTATOR:
            expected = permission == "dataforge:label"
        assert policy.allows(scope_of(role), permission) is expected

    def test_the_table_holds_no_permission_that_this_test_does_not(self) -> None:
        assert set(LOWEST) - {"modelhub:everything", ""} == policy.ALL - {policy.SELF, policy.ORG_READ}

    def test_the_organisations_and_the_installations_permissions_are_no_roles(self) -> None:
        assert policy.allows(scope_of(None, org_admin=True), "org:manage")
        assert not policy.allows(scope_of(Role.OWNER), "org:manage")
        assert not policy.allows(scope_of(Role.OWNER, org_admin=True), "platform:operate")
        assert policy.allows(scope_of(None, operator=True), "platform:operate")

    def test_scopes_narrow_and_never_widen(self) -> None:
        narrowed = scope_of(Role.VIEWER, scopes=frozenset({"modelhub:read", "modelhub:write"}), org_admin=True, operator=True)
        assert policy.allows(narrowed, "modelhub:read")
        for permission in ("modelhub:write", "dataforge:read", "org:manage", "org:read", "platform:operate"):
            assert not policy.allows(narrowed, permission), permission
        assert policy.allows(narrowed, policy.SELF)

    def test_an_annotator_does_not_see_the_organisation(self) -> None:
        assert not policy.allows(scope_of(None, roles={ID: Role.ANNOTATOR}), "org:read")
        assert policy.allows(scope_of(None, roles={ID: Role.ANNOTATOR, UUID(int=8): Role.VIEWER}), "org:read")

    def test_a_refusal_names_the_permission_and_the_role(self) -> None:
        with pytest.raises(Forbidden, match="'modelhub:write'.*'viewer'"):
            policy.require(scope_of(Role.VIEWER), "modelhub:write")


class TestGranting:
    @pytest.mark.parametrize("own", Role)
    @pytest.mark.parametrize("wanted", [grade for grade in Grade if grade is not Grade.NONE])
    def test_nobody_grants_more_than_they_have(self, own: Role, wanted: Grade) -> None:
        scope = scope_of(own)
        if wanted.rank > Grade(own.value).rank or (own, wanted) == (Role.ANNOTATOR, Grade.VIEWER):
            with pytest.raises(RoleNotGrantable):
                policy.require_grantable(scope, wanted)
        else:
            policy.require_grantable(scope, wanted)

    def test_an_administrator_makes_no_operator(self) -> None:
        policy.require_grantable(scope_of(None, org_admin=True), Grade.ADMIN)
        with pytest.raises(RoleNotGrantable):
            policy.require_grantable(scope_of(None, org_admin=True), Grade.OPERATOR)

    def test_a_scope_that_one_lacks_cannot_be_granted(self) -> None:
        policy.require_grantable(scope_of(Role.DEVELOPER), Grade.DEVELOPER, frozenset({"modelhub:write"}))
        with pytest.raises(ScopeNotGrantable):
            policy.require_grantable(scope_of(Role.DEVELOPER), Grade.DEVELOPER, frozenset({"modelhub:manage"}))
        with pytest.raises(ScopeUnknown):
            policy.require_grantable(scope_of(Role.OWNER), Grade.OWNER, frozenset({"modelhub:fly"}))

    def test_who_is_narrowed_grants_nothing_unnarrowed(self) -> None:
        with pytest.raises(ScopeNotGrantable):
            policy.require_grantable(scope_of(Role.OWNER, scopes=frozenset({"securityvault:manage"})), Grade.VIEWER)

    def test_the_weaker_role_wins(self) -> None:
        assert policy.weaker(Role.OWNER, Role.VIEWER) is Role.VIEWER
        assert policy.weaker(Role.OWNER, None) is None
        assert policy.weaker(Role.ANNOTATOR, Role.DEVELOPER) is Role.ANNOTATOR
        assert policy.weaker(Role.ANNOTATOR, Role.VIEWER) is None


class TestJobs:
    def test_user_code_reads_and_records_and_no_more(self) -> None:
        assert all(scope.endswith((":read", ":write", ":save", ":predict")) for scope in policy.JOB_SCOPES)
        assert "deployengine:write" not in policy.JOB_SCOPES and "securityvault:read" not in policy.JOB_SCOPES
        assert policy.PERMISSIONS[Role.DEVELOPER] >= policy.JOB_SCOPES

    def test_untrusted_code_saves_checkpoints_and_begins_no_job(self) -> None:
        inside = scope_of(Role.DEVELOPER, scopes=policy.SANDBOXED_JOB_SCOPES)
        assert policy.allows(inside, "trainos:save")
        assert not policy.allows(inside, "trainos:write") and not policy.allows(inside, "trainos:sandbox")

    def test_a_key_that_may_begin_jobs_may_save_their_checkpoints(self) -> None:
        assert policy.allows(scope_of(Role.DEVELOPER, scopes=frozenset({"trainos:write"})), "trainos:save")
        assert not policy.allows(scope_of(Role.DEVELOPER, scopes=frozenset({"trainos:read"})), "trainos:save")
