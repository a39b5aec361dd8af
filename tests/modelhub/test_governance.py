"""What lets a version serve: reviews, checks, protected aliases that move in one step and back, deprecation."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from actors.modelhub import service
from actors.modelhub.errors import AliasNotFound, ModelNotFound, RunNotFound, VersionNotFound
from actors.modelhub.governance import policy
from actors.modelhub.governance import service as governance
from actors.modelhub.governance.errors import (
    AliasMoved,
    AliasProtected,
    ApprovalNotYours,
    NoPreviousVersion,
    ProtectionKept,
    ProtectionNotFound,
    ReplacementInvalid,
)
from actors.modelhub.governance.models import (
    Approval,
    Check,
    CheckSpec,
    CheckState,
    Facts,
    Protection,
    ProtectionSpec,
    Review,
    Threshold,
    Verdict,
)
from actors.modelhub.models import ModelVersion, Point
from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, PrincipalKind, Scope
from cluster.db import Connection, Database
from cluster.events import list_events
from tests.support.models import ready_version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BOB, EVE = uuid4(), uuid4(), uuid4()


def review(author: UUID, verdict: Verdict) -> Review:
    return Review(uuid4(), verdict, "because", {ADA: "ada", BOB: "bob", EVE: "eve"}[author], author, NOW)


def check(name: str, state: CheckState = CheckState.PASSED, **metrics: float) -> Check:
    return Check(name, state, "", None, metrics, None, "ci", NOW)


def facts(*reviews: Review, checks: tuple[Check, ...] = (), run: dict[str, float] | None = None, self_approval: bool = False) -> Facts:
    """Of a version that Ada registered."""
    return Facts(ADA, self_approval, False, reviews, checks, run or {})


def protection(approvals: int = 0, checks: tuple[str, ...] = (), *thresholds: str) -> Protection:
    return Protection("champion", approvals, checks, tuple(Threshold.parse(text) for text in thresholds), NOW)


@pytest.mark.plain
class TestApprovals:
    def test_the_author_does_not_count_unless_the_model_says_so(self) -> None:
        said = facts(review(ADA, Verdict.APPROVE))
        assert policy.obstacles(protection(1), said) == ("0 of 1 needed people approved",) and policy.approval(said) is Approval.NONE
        assert not policy.obstacles(protection(1), replace(said, self_approval=True))

    def test_one_person_approves_once(self) -> None:
        assert policy.obstacles(protection(2), facts(review(BOB, Verdict.APPROVE), review(BOB, Verdict.APPROVE)))
        assert not policy.obstacles(protection(2), facts(review(BOB, Verdict.APPROVE), review(EVE, Verdict.APPROVE)))

    def test_a_rejection_weighs_more_until_its_author_approves(self) -> None:
        said = facts(review(BOB, Verdict.REJECT), review(EVE, Verdict.APPROVE))
        assert policy.obstacles(protection(1), said) == ("bob rejected it: because",) and policy.approval(said) is Approval.REJECTED
        assert not policy.obstacles(protection(1), replace(said, reviews=(*said.reviews, review(BOB, Verdict.APPROVE))))

    def test_a_request_begins_anew(self) -> None:
        said = facts(review(BOB, Verdict.APPROVE), review(ADA, Verdict.REQUEST))
        assert policy.obstacles(protection(1), said) and policy.approval(said) is Approval.REQUESTED


@pytest.mark.plain
class TestChecks:
    def test_each_must_have_passed(self) -> None:
        asked = protection(0, ("eval", "bias", "load"))
        said = facts(checks=(check("eval"), check("bias", CheckState.FAILED)))
        assert policy.obstacles(asked, said) == ("check 'bias' is failed", "check 'load' has not been reported")

    @pytest.mark.parametrize(
        ("bound", "value", "kept"),
        [("a >= 0.95", 0.95, True), ("a > 0.95", 0.95, False), ("a <= 1", 1.0, True), ("a < 1", 1.0, False), ("a == 3", 3.0, True)]
        + [(f"a {sign} 0", math.nan, False) for sign in (">=", "<=", ">", "<", "==")],
    )
    def test_a_bound_is_held_against_what_was_measured(self, bound: str, value: float, kept: bool) -> None:
        assert (policy.obstacles(protection(0, (), bound), facts(checks=(check("eval", a=value),))) == ()) is kept

    def test_every_check_that_measured_must_keep_it(self) -> None:
        said = facts(checks=(check("nightly", accuracy=0.91), check("eval", accuracy=0.97)), run={"accuracy": 0.99})
        assert policy.obstacles(protection(0, (), "accuracy >= 0.95"), said) == (
            "'accuracy >= 0.95' is asked, and check 'nightly' measured 0.91",
        )

    def test_the_run_speaks_where_no_check_measured(self) -> None:
        asked = protection(0, (), "accuracy >= 0.95")
        assert not policy.obstacles(asked, facts(run={"accuracy": 0.96}))
        assert "its run measured 0.5" in policy.obstacles(asked, facts(run={"accuracy": 0.5}))[0]
        assert "neither a check nor its run" in policy.obstacles(asked, facts())[0]

    def test_a_deprecated_version_is_not_taken(self) -> None:
        assert policy.obstacles(protection(), replace(facts(), deprecated=True)) == ("it is deprecated",)

    @pytest.mark.parametrize("text", ["accuracy", ">= 1", "accuracy >= high", "accuracy => 1"])
    def test_what_is_no_threshold_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            Threshold.parse(text)


def colleague(scope: Scope, name: str = "bob") -> Scope:
    """Somebody else in the same project."""
    return replace(scope, principal=Principal(PrincipalKind.USER, uuid4(), name, scope.org_id, scope.principal.roles))


@pytest.fixture
async def versions(database: Database, scope: Scope) -> None:
    """Three READY versions of ``digits``, of which Ada registered each."""
    for _ in range(3):
        await ready_version(database, scope, "digits")


async def named(conn: Connection, scope: Scope, alias: str = "champion") -> int | None:
    return (await service.get_model(conn, scope, "digits")).aliases.get(alias)


async def protect(conn: Connection, scope: Scope, approvals: int = 0, checks: tuple[str, ...] = (), *thresholds: str) -> None:
    spec = ProtectionSpec(approvals, checks, tuple(Threshold.parse(text) for text in thresholds))
    await governance.set_protection(conn, scope, "digits", "champion", spec)


@pytest.mark.postgres
@pytest.mark.usefixtures("versions")
class TestProtectedAlias:
    async def test_takes_only_what_has_all_that_it_asks_for(self, conn: Connection, scope: Scope) -> None:
        await protect(conn, scope, 1, ("eval",), "accuracy >= 0.95")
        with pytest.raises(AliasProtected) as refused:
            await governance.move_alias(conn, scope, "digits", "champion", "2")
        assert refused.value.fields["missing"] == [
            "0 of 1 needed people approved",
            "check 'eval' has not been reported",
            "'accuracy >= 0.95' is asked, and neither a check nor its run measured 'accuracy'",
        ]
        assert await named(conn, scope) is None
        await governance.add_review(conn, colleague(scope), "digits", "2", Verdict.APPROVE, "it is better")
        await governance.set_check(conn, scope, "digits", "2", "eval", CheckSpec(CheckState.PASSED, metrics={"accuracy": 0.97}))
        await governance.move_alias(conn, scope, "digits", "champion", "2")
        assert await named(conn, scope) == 2
        with pytest.raises(AliasProtected):
            await governance.move_alias(conn, scope, "digits", "champion", "3")
        await governance.move_alias(conn, scope, "digits", "challenger", "3")
        assert await named(conn, scope) == 2 and await named(conn, scope, "challenger") == 3

    async def test_looks_at_what_the_run_of_the_version_measured(self, conn: Connection, scope: Scope) -> None:
        await protect(conn, scope, 0, (), "accuracy >= 0.95")
        run_id = (await service.get_version(conn, scope, "digits", "1")).run_id
        assert run_id is not None
        await service.log_metrics(conn, scope, run_id, [Point("accuracy", math.nan, 1, NOW)])
        with pytest.raises(AliasProtected, match="its run measured nan"):
            await governance.move_alias(conn, scope, "digits", "champion", "1")
        await service.log_metrics(conn, scope, run_id, [Point("accuracy", 0.96, 2, NOW)])
        await governance.move_alias(conn, scope, "digits", "champion", "1")

    async def test_is_not_got_around(self, conn: Connection, scope: Scope) -> None:
        await governance.move_alias(conn, scope, "digits", "champion", "1")
        await protect(conn, scope, 1)
        with pytest.raises(ProtectionKept):
            await governance.delete_alias(conn, scope, "digits", "champion")
        with pytest.raises(ProtectionKept):
            await governance.delete_model(conn, scope, "digits")
        await governance.delete_protection(conn, scope, "digits", "champion")
        with pytest.raises(ProtectionNotFound):
            await governance.delete_protection(conn, scope, "digits", "champion")
        await governance.delete_alias(conn, scope, "digits", "champion")
        with pytest.raises(AliasNotFound):
            await governance.delete_alias(conn, scope, "digits", "champion")
        await governance.delete_model(conn, scope, "digits")
        with pytest.raises(ModelNotFound):
            await governance.delete_model(conn, scope, "digits")

    async def test_goes_back_and_tells_its_story(self, conn: Connection, scope: Scope) -> None:
        with pytest.raises(NoPreviousVersion):
            await governance.roll_back_alias(conn, scope, "digits", "champion")
        for number in ("1", "2", "2"):
            await governance.move_alias(conn, scope, "digits", "champion", number)
        assert (await governance.roll_back_alias(conn, colleague(scope), "digits", "champion")).version == 1
        assert (await governance.roll_back_alias(conn, scope, "digits", "champion")).version == 2
        moves = await governance.list_moves(conn, scope, "digits", "champion", None, 10)
        assert [(move.moved_from, move.version, move.moved_by) for move in moves] == [
            (1, 2, "ada"), (2, 1, "bob"), (1, 2, "ada"), (None, 1, "ada"),
        ]  # fmt: skip

    async def test_going_back_asks_for_what_the_alias_asks_for_now(self, conn: Connection, scope: Scope) -> None:
        for number in ("1", "2"):
            await governance.move_alias(conn, scope, "digits", "champion", number)
        await protect(conn, scope, 0, ("eval",))
        with pytest.raises(AliasProtected):
            await governance.roll_back_alias(conn, scope, "digits", "champion")


@pytest.mark.postgres
@pytest.mark.usefixtures("versions")
class TestTwoAtOnce:
    async def move(self, database: Database, scope: Scope, version: str, expected: int | None) -> int:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            moved = await governance.move_alias(conn, scope, "digits", "champion", version, expected_version=expected)
            return moved.version

    async def test_one_of_two_movers_who_saw_the_same_wins(self, database: Database, scope: Scope) -> None:
        assert await self.move(database, scope, "1", 0) == 1
        for _ in range(5):
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                seen = await named(conn, scope)
            others = [number for number in (1, 2, 3) if number != seen]
            answers = await asyncio.gather(*(self.move(database, scope, str(each), seen) for each in others), return_exceptions=True)
            won = [answer for answer in answers if not isinstance(answer, BaseException)]
            lost = [answer for answer in answers if isinstance(answer, AliasMoved)]
            assert len(won) == len(lost) == 1
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                assert await named(conn, scope) == won[0]

    async def test_a_protection_set_meanwhile_holds_or_came_too_late(self, database: Database, scope: Scope) -> None:
        async def forbid() -> None:
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                await protect(conn, scope, 1)

        moved, _ = await asyncio.gather(self.move(database, scope, "1", None), forbid(), return_exceptions=True)
        assert moved == 1 or isinstance(moved, AliasProtected)
        with pytest.raises(AliasProtected):
            await self.move(database, scope, "2", None)

    async def test_a_rejection_and_a_move_do_not_miss_each_other(self, database: Database, scope: Scope) -> None:
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await protect(conn, scope, 1)
            await governance.add_review(conn, colleague(scope), "digits", "1", Verdict.APPROVE, "good")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await governance.add_review(conn, colleague(scope, "eve"), "digits", "1", Verdict.REJECT, "it leaks")
            moving = asyncio.create_task(self.move(database, scope, "1", None))
            done, _ = await asyncio.wait([moving], timeout=0.2)
            assert not done, "the move waits for who speaks of the version"
        with pytest.raises(AliasProtected, match="eve rejected it: it leaks"):
            await moving


@pytest.mark.postgres
@pytest.mark.usefixtures("versions")
class TestReviews:
    async def test_who_registered_a_version_does_not_approve_it(self, conn: Connection, scope: Scope) -> None:
        by_key = replace(
            scope, principal=replace(scope.principal, kind=PrincipalKind.API_KEY, id=uuid4(), user_id=scope.principal.person_id)
        )
        for same in (scope, by_key):
            with pytest.raises(ApprovalNotYours):
                await governance.add_review(conn, same, "digits", "1", Verdict.APPROVE, "mine")
        await governance.add_review(conn, scope, "digits", "1", Verdict.REJECT, "I found a bug")
        model = await governance.set_review_rules(conn, scope, "digits", self_approval=True)
        assert model.self_approval
        await governance.add_review(conn, scope, "digits", "1", Verdict.APPROVE, "fixed")
        assert (await governance.get_standing(conn, scope, "digits", "1")).approval is Approval.APPROVED

    async def test_are_events_and_on_the_record_with_their_reason(self, conn: Connection, scope: Scope) -> None:
        await governance.add_review(conn, scope, "digits", "1", Verdict.REQUEST, "please look")
        bob = colleague(scope)
        await governance.add_review(conn, bob, "digits", "1", Verdict.REJECT, "no card")
        version = await service.get_version(conn, scope, "digits", "1")
        events = [event for event in await list_events(conn, after_seq=0, subject=str(version.id)) if ".review." in event.type]
        assert [(event.type, event.actor, event.data["reason"]) for event in events] == [
            ("modelhub.review.requested", scope.actor, "please look"),
            ("modelhub.review.rejected", bob.actor, "no card"),
        ]
        recorded = await securityvault.list_audit(conn, scope.org_id, None, 10)
        assert [(record.action, record.resource, record.actor, json.loads(record.data)["reason"]) for record in recorded] == [
            ("modelhub.review.rejected", "digits@1", bob.actor, "no card"),
            ("modelhub.review.requested", "digits@1", scope.actor, "please look"),
        ]

    async def test_a_check_names_a_run_of_the_project(self, conn: Connection, scope: Scope) -> None:
        with pytest.raises(RunNotFound):
            await governance.set_check(conn, scope, "digits", "1", "eval", CheckSpec(CheckState.PASSED, run_id=uuid4()))
        with pytest.raises(VersionNotFound):
            await governance.set_check(conn, scope, "digits", "9", "eval", CheckSpec(CheckState.PASSED))
        await governance.set_check(conn, scope, "digits", "1", "eval", CheckSpec(CheckState.FAILED, metrics={"loss": math.inf}))
        await governance.set_check(conn, scope, "digits", "1", "eval", CheckSpec(CheckState.PASSED, metrics={"loss": math.nan}))
        (said,) = await governance.list_checks(conn, scope, "digits", "1", None, 10)
        assert said.state is CheckState.PASSED and math.isnan(said.metrics["loss"])

    async def test_another_tenant_sees_nothing(self, conn: Connection, scope: Scope, other_scope: Scope, database: Database) -> None:
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as other:
            with pytest.raises(VersionNotFound):
                await governance.get_standing(other, other_scope, "digits", "1")
            with pytest.raises(ModelNotFound):
                await governance.set_protection(other, other_scope, "digits", "champion", ProtectionSpec())


@pytest.mark.postgres
@pytest.mark.usefixtures("versions")
class TestDeprecation:
    async def deprecate(self, conn: Connection, scope: Scope, version: str, replacement: int | None = None) -> ModelVersion:
        return await governance.deprecate_version(conn, scope, "digits", version, "it mistakes 7 for 1", replacement)

    async def test_is_told_and_taken_back(self, conn: Connection, scope: Scope) -> None:
        assert (await service.get_version(conn, scope, "digits", "latest")).version == 3
        told = await self.deprecate(conn, scope, "3", 2)
        assert governance.warning(told) == "digits@3 is deprecated: it mistakes 7 for 1. Use digits@2."
        assert (await service.get_version(conn, scope, "digits", "latest")).version == 2, "latest is one that may be used"
        listed = await service.list_versions(conn, scope, "digits", None, 10)
        assert [version.deprecation is not None for version in listed] == [True, False, False]
        restored = await governance.restore_version(conn, scope, "digits", "3")
        assert governance.warning(restored) is None
        assert (await service.get_version(conn, scope, "digits", "latest")).version == 3

    @pytest.mark.parametrize("replacement", [1, 2, 9])
    async def test_names_a_version_that_may_be_used(self, conn: Connection, scope: Scope, replacement: int) -> None:
        await self.deprecate(conn, scope, "2")
        with pytest.raises(ReplacementInvalid):
            await self.deprecate(conn, scope, "1", replacement)
