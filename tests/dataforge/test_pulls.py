"""Pull requests on data: opened, reviewed, checked, merged or closed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from aidos.client import Client
from aidos.errors import Forbidden
from cluster.db import Connection
from cluster.events import list_events
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.errors import BranchProtected, HistoriesUnrelated, MergeConflict
from data_pipelines.dataforge.models import CheckSpec, CheckState, Commit, MergeSpec, ProtectionSpec
from data_pipelines.dataforge.pulls import service
from data_pipelines.dataforge.pulls.errors import (
    HeadChanged,
    NothingToPull,
    PullRequestBlocked,
    PullRequestEnded,
    PullRequestExists,
    PullRequestNotFound,
    ReviewNotYours,
    SameBranch,
)
from data_pipelines.dataforge.pulls.models import MergeRequest, PullRequestChange, PullRequestSpec, PullRequestState, ReviewSpec, Verdict
from tests.dataforge.test_cli import aidos
from tests.dataforge.test_history import branch, contents, write
from tests.dataforge.test_history_api import write as push_text
from tests.dataforge.test_service import commit, digits, file

pytestmark = pytest.mark.postgres
__all__ = ["digits"]
ASKED = PullRequestSpec("topic", "main", "Cleaner labels", "Two files.")


@pytest.fixture
async def topic(digits: Connection, scope: Scope) -> Commit:
    """A commit on ``topic`` that ``main`` lacks."""
    await commit(digits, scope, file("a"))
    await branch(digits, scope, "topic")
    return await write(digits, scope, "topic", file("b"), file("c", "longer"))


def somebody(scope: Scope, name: str, kind: PrincipalKind = PrincipalKind.USER, role: Role = Role.DEVELOPER) -> Scope:
    return replace(scope, principal=Principal(kind, uuid4(), name, scope.org_id), role=role)


async def obstacles(conn: Connection, scope: Scope, number: int = 1) -> tuple[str, ...]:
    return (await service.get_standing(conn, scope, "digits", number)).obstacles


class TestOpening:
    async def test_numbers_them_in_their_dataset_and_tells_it(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        made = await service.create_pull_request(digits, scope, "digits", ASKED)
        await branch(digits, scope, "other", at="topic")
        other = await service.create_pull_request(digits, scope, "digits", PullRequestSpec("other", "main", "Other"))
        assert (made.number, other.number, made.author, made.state) == (1, 2, "ada", PullRequestState.OPEN)
        assert await service.list_pull_requests(digits, scope, "digits") == [other, made]
        assert await service.list_pull_requests(digits, scope, "digits", PullRequestState.MERGED) == []
        types = [event.type for event in await list_events(digits, after_seq=0)]
        assert types.count("dataforge.pull_request.opened") == 2

    async def test_refuses_what_could_never_be_merged(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await commit(digits, scope, file("x"), branch="island")
        for spec, error in (
            (PullRequestSpec("main", "main", "t"), SameBranch),
            (PullRequestSpec("main", "topic", "t"), NothingToPull),
            (PullRequestSpec("island", "main", "t"), HistoriesUnrelated),
        ):
            with pytest.raises(error):
                await service.create_pull_request(digits, scope, "digits", spec)
        with pytest.raises(PullRequestNotFound):
            await service.get_pull_request(digits, scope, "digits", 1)

    async def test_is_done_once_for_two_branches(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.create_pull_request(digits, scope, "digits", ASKED)
        with pytest.raises(PullRequestExists, match="topic"):
            await service.create_pull_request(digits, scope, "digits", ASKED)


class TestMerging:
    async def test_brings_the_files_and_keeps_what_it_brought(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.create_pull_request(digits, scope, "digits", ASKED)
        standing = await service.get_standing(digits, scope, "digits", 1)
        assert (standing.head_id, standing.up_to_date, standing.conflicts, standing.obstacles) == (topic.id, True, 0, ())
        assert (standing.stat.added, standing.stat.added_bytes) == (2, 7)
        merged = await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        made = await dataforge.get_commit(digits, scope, "digits", "main")
        assert (merged.state, merged.merge_commit_id, merged.closed_by) == (PullRequestState.MERGED, made.id, "ada")
        assert (made.merge_parent_id, made.metadata, made.tree) == (topic.id, {"pull_request": 1}, topic.tree)
        assert made.message == "Merge pull request 1 from topic\n\nCleaner labels"
        await write(digits, scope, "topic", file("later"))
        await dataforge.delete_ref(digits, scope, "digits", "topic")
        assert [change.path for change in await service.list_changes(digits, scope, "digits", 1)] == ["b", "c"]
        assert (await service.get_standing(digits, scope, "digits", 1)).stat == standing.stat
        with pytest.raises(PullRequestEnded, match="merged"):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        with pytest.raises(PullRequestEnded):
            await service.change_pull_request(digits, scope, "digits", 1, PullRequestChange(state=PullRequestState.OPEN))

    async def test_waits_for_checks_of_the_files_as_they_will_be(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await dataforge.set_protection(digits, scope, "digits", "main", ProtectionSpec(("schema",), require_pull_request=True))
        await service.create_pull_request(digits, scope, "digits", ASKED)
        assert "'schema' (not run)" in (await obstacles(digits, scope))[0]
        with pytest.raises(PullRequestBlocked, match="schema"):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        await dataforge.set_check(digits, scope, topic, "schema", CheckSpec(CheckState.PASSED))
        assert await obstacles(digits, scope) == ()
        head = await write(digits, scope, "topic", file("unchecked"))
        with pytest.raises(PullRequestBlocked, match="schema"):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        await dataforge.set_check(digits, scope, head, "schema", CheckSpec(CheckState.PASSED))
        with pytest.raises(BranchProtected, match="pull request"):
            await dataforge.merge(digits, scope, "digits", "main", MergeSpec("topic"))
        await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())

    async def test_of_a_branch_that_lags_behind_waits_until_it_is_brought_up_to_date(
        self, digits: Connection, scope: Scope, topic: Commit
    ) -> None:
        await write(digits, scope, "main", file("meanwhile"))
        await dataforge.set_protection(digits, scope, "digits", "main", ProtectionSpec(("schema",)))
        await dataforge.set_check(digits, scope, topic, "schema", CheckSpec(CheckState.PASSED))
        await service.create_pull_request(digits, scope, "digits", ASKED)
        assert ["lacks commits of 'main'" in told for told in await obstacles(digits, scope)] == [True]
        merged = await dataforge.merge(digits, scope, "digits", "topic", MergeSpec("main"))
        await dataforge.set_check(digits, scope, merged.commit, "schema", CheckSpec(CheckState.PASSED))
        await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        assert await contents(digits, scope, "main") == [file("a"), file("b"), file("c", "longer"), file("meanwhile")]

    async def test_stops_at_conflicts_and_counts_them(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await write(digits, scope, "main", file("b", "another"))
        await service.create_pull_request(digits, scope, "digits", ASKED)
        standing = await service.get_standing(digits, scope, "digits", 1)
        assert (standing.conflicts, standing.up_to_date) == (1, False)
        with pytest.raises(PullRequestBlocked, match="1 paths are in conflict"):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        with pytest.raises(MergeConflict):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest(override=True))

    async def test_takes_only_the_head_that_was_seen(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.create_pull_request(digits, scope, "digits", ASKED)
        head = await write(digits, scope, "topic", file("slipped in"))
        with pytest.raises(HeadChanged, match=str(head.id)):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest(head=topic.id))


class TestReviews:
    async def test_of_others_count_for_the_head_that_they_saw(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await dataforge.set_protection(digits, scope, "digits", "main", ProtectionSpec(required_approvals=1))
        await service.create_pull_request(digits, scope, "digits", ASKED)
        grace = somebody(scope, "grace")
        for refused in (scope, somebody(scope, "job-7", PrincipalKind.JOB)):
            with pytest.raises(ReviewNotYours):
                await service.add_review(digits, refused, "digits", 1, ReviewSpec(Verdict.APPROVE))
        with pytest.raises(PullRequestBlocked, match="0 of 1"):
            await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())
        await service.add_review(digits, grace, "digits", 1, ReviewSpec(Verdict.APPROVE, "fine"))
        assert (await service.get_standing(digits, scope, "digits", 1)).approved_by == ("grace",)
        await write(digits, scope, "topic", file("d"))
        assert "0 of 1" in (await obstacles(digits, scope))[0]
        await service.add_review(digits, grace, "digits", 1, ReviewSpec(Verdict.APPROVE))
        await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest())

    async def test_that_ask_for_changes_hold_until_their_author_approves(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.create_pull_request(digits, scope, "digits", ASKED)
        grace = somebody(scope, "grace")
        await service.add_review(digits, grace, "digits", 1, ReviewSpec(Verdict.REQUEST_CHANGES, "empty?", "b"))
        await service.add_review(digits, grace, "digits", 1, ReviewSpec(Verdict.COMMENT, "thanks"))
        assert await obstacles(digits, scope) == ("grace asks for changes",)
        await service.add_review(digits, grace, "digits", 1, ReviewSpec(Verdict.APPROVE))
        assert await obstacles(digits, scope) == ()
        first, second, _ = await service.list_reviews(digits, scope, "digits", 1)
        assert (first.path, first.commit_id, second.body) == ("b", topic.id, "thanks")

    async def test_are_passed_over_by_owners_who_say_so(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await dataforge.set_protection(digits, scope, "digits", "main", ProtectionSpec(("schema",), True, 2))
        await service.create_pull_request(digits, scope, "digits", ASKED)
        with pytest.raises(Forbidden):
            await service.merge_pull_request(digits, somebody(scope, "grace"), "digits", 1, MergeRequest(override=True))
        await service.merge_pull_request(digits, scope, "digits", 1, MergeRequest(override=True))


class TestClosing:
    async def test_ends_it_and_it_may_be_opened_again(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.create_pull_request(digits, scope, "digits", ASKED)
        closed = await service.change_pull_request(
            digits, scope, "digits", 1, PullRequestChange("New title", state=PullRequestState.CLOSED)
        )
        assert (closed.state, closed.title, closed.head_id, closed.closed_by) == (PullRequestState.CLOSED, "New title", topic.id, "ada")
        with pytest.raises(PullRequestEnded):
            await service.add_review(digits, somebody(scope, "grace"), "digits", 1, ReviewSpec(Verdict.COMMENT))
        again = await service.change_pull_request(digits, scope, "digits", 1, PullRequestChange(state=PullRequestState.OPEN))
        assert (again.state, again.head_id, again.closed_at) == (PullRequestState.OPEN, None, None)

    async def test_a_branch_that_is_gone_is_said_to_be(self, digits: Connection, scope: Scope, topic: Commit) -> None:
        await service.create_pull_request(digits, scope, "digits", ASKED)
        await dataforge.delete_ref(digits, scope, "digits", "topic")
        assert "no branch, tag or commit 'topic'" in (await obstacles(digits, scope))[0]


class TestClients:
    def test_walk_through_a_pull_request(self, client: Client, tmp_path: Path) -> None:
        push_text(tmp_path / "a", client, "main", a="1")
        head = push_text(tmp_path / "a", client, "topic", a="2", b="1")
        made = client.pull_requests.create("digits", "topic", title="Cleaner labels")
        status = client.pull_requests.status("digits", made.number)
        assert (str(status.head_id), status.stat.changed, status.obstacles) == (head, 1, [])
        client.pull_requests.review("digits", made.number, "comment", body="one\n\ntwo", path="b")
        assert [(each.verdict, each.path) for each in client.pull_requests.reviews("digits", made.number)] == [("comment", "b")]
        assert [each.path for each in client.pull_requests.diff("digits", made.number)] == ["a", "b"]
        assert aidos("pull-request", "update", "digits", "1", "--title", "Labels").returncode == 0
        merged = aidos("pull-request", "merge", "digits", "1", "--head", head, "--json")
        assert merged.returncode == 0, merged.stderr
        assert [each.title for each in client.pull_requests.list("digits", state="merged")] == ["Labels"]
        assert client.datasets.diff_stat("digits", base="topic", head="main").changed == 0
