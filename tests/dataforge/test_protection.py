"""Protected branches: what keeps a commit out, and who may pass over it."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from actors.securityvault.models import Role, Scope
from aidos.errors import Forbidden
from cluster.db import Connection
from cluster.events import list_events
from data_pipelines.dataforge import service
from data_pipelines.dataforge.errors import BranchProtected, CheckReported, ProtectionNotFound
from data_pipelines.dataforge.models import (
    CheckSpec,
    CheckState,
    Commit,
    CommitSpec,
    FastForward,
    MergeOutcome,
    MergeSpec,
    PickSpec,
    ProtectionSpec,
    RefKind,
    RefSpec,
)
from tests.dataforge.test_history import branch, write
from tests.dataforge.test_service import commit, digits, file, know

pytestmark = pytest.mark.postgres
__all__ = ["digits"]


@pytest.fixture
async def topic(digits: Connection, scope: Scope) -> Commit:
    """A commit on ``topic`` that ``main``, which asks for the check ``schema``, has not yet."""
    await commit(digits, scope, file("a"))
    await branch(digits, scope, "topic")
    await service.set_protection(digits, scope, "digits", "main", ProtectionSpec(("schema",)))
    return await write(digits, scope, "topic", file("b"))


async def report(conn: Connection, scope: Scope, on: Commit, state: CheckState) -> None:
    await service.set_check(conn, scope, on, "schema", CheckSpec(state, f"it {state}"))


class TestRequiredChecks:
    async def test_keep_out_what_has_not_passed_them(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        for state, told in ((None, "not run"), (CheckState.PENDING, "pending"), (CheckState.FAILED, "failed")):
            if state:
                await report(digits, scope, topic, state)
            with pytest.raises(BranchProtected, match=rf"'schema' \({told}\)"):
                await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))
        await report(digits, scope, topic, CheckState.PASSED)
        assert (await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))).commit == topic

    async def test_are_of_the_files_so_a_merge_commit_that_changes_none_of_them_passes_too(
        self, digits: Connection, scope: Scope, topic: Commit
    ) -> None:
        await report(digits, scope, topic, CheckState.PASSED)
        merged = await service.merge(digits, scope, "digits", "main", MergeSpec("topic", fast_forward=FastForward.NEVER))
        assert (merged.outcome, merged.commit.tree) == (MergeOutcome.MERGED, topic.tree)

    async def test_are_asked_again_where_a_merge_makes_other_files(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await report(digits, scope, topic, CheckState.PASSED)
        head = await service.get_commit(digits, scope, "digits", "main")
        await know(digits, scope, [file("c")])
        await service.create_commit(digits, scope, "digits", CommitSpec("main", "", head.id, (file("c"),), override=True))
        with pytest.raises(BranchProtected, match="schema"):
            await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))

    async def test_keep_out_commits_reverts_and_picks(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        with pytest.raises(BranchProtected):
            await write(digits, scope, "main", file("c"))
        with pytest.raises(BranchProtected):
            await service.cherry_pick(digits, scope, "digits", "main", PickSpec(str(topic.id)))
        with pytest.raises(BranchProtected):
            await service.revert(digits, scope, "digits", "main", PickSpec("main"))

    async def test_say_their_last_word(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await report(digits, scope, topic, CheckState.PASSED)
        await report(digits, scope, topic, CheckState.FAILED)
        (check,) = await service.list_checks(digits, scope, topic)
        assert (check.state, check.summary, check.author) == (CheckState.FAILED, "it failed", "ada")
        with pytest.raises(BranchProtected):
            await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))

    async def test_that_a_report_found_are_not_set_by_hand(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.set_check(digits, scope, topic, "schema", CheckSpec(CheckState.FAILED, report_id=uuid4()))
        with pytest.raises(CheckReported, match="schema"):
            await report(digits, scope, topic, CheckState.PASSED)
        await service.set_check(digits, scope, topic, "schema", CheckSpec(CheckState.PASSED, report_id=uuid4()))
        await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))


class TestProtectedBranches:
    async def test_are_not_set_back_or_deleted(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        head = await service.get_commit(digits, scope, "digits", "main")
        for attempt in (
            service.reset_branch(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, "topic")),
            service.set_ref(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, "topic", head.id)),
            service.delete_ref(digits, scope, "digits", "main"),
        ):
            with pytest.raises(BranchProtected, match="only moves on"):
                await attempt

    async def test_may_be_moved_by_pull_requests_alone(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.set_protection(digits, scope, "digits", "main", ProtectionSpec(require_pull_request=True))
        with pytest.raises(BranchProtected, match="pull request"):
            await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))
        await service.merge(digits, scope, "digits", "main", MergeSpec("topic"), by_pull_request=True)

    async def test_are_overridden_by_owners_who_say_so_and_it_is_told(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        maintainer = replace(scope, role=Role.MAINTAINER)
        with pytest.raises(Forbidden, match="dataforge:protect"):
            await service.merge(digits, maintainer, "digits", "main", MergeSpec("topic", override=True))
        await service.merge(digits, scope, "digits", "main", MergeSpec("topic", override=True))
        events = {event.type: event.data for event in await list_events(digits, after_seq=0)}
        assert "schema" in events["dataforge.branch.protection_overridden"]["reason"]

    async def test_are_listed_changed_and_freed(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.set_protection(digits, scope, "digits", "dev", ProtectionSpec(required_approvals=2))
        assert [each.branch for each in await service.list_protections(digits, scope, "digits")] == ["dev", "main"]
        await service.delete_protection(digits, scope, "digits", "main")
        with pytest.raises(ProtectionNotFound):
            await service.delete_protection(digits, scope, "digits", "main")
        await service.merge(digits, scope, "digits", "main", MergeSpec("topic"))
