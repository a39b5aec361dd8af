"""Merge, revert, cherry-pick, reset and what they refuse, on the real PostgreSQL."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from actors.securityvault.models import Scope
from cluster.db import Connection, Database
from cluster.events import list_events
from data_pipelines.dataforge import history, service
from data_pipelines.dataforge.errors import (
    BranchNeeded,
    HistoriesUnrelated,
    MainlineNeeded,
    MergeConflict,
    NotFastForward,
    NothingToCommit,
    NotInConflict,
    PathsCollide,
    PathsDifferInForm,
    RefMoved,
)
from data_pipelines.dataforge.models import (
    Commit,
    CommitSpec,
    DiffStat,
    FastForward,
    File,
    MergeOutcome,
    MergeSpec,
    PickSpec,
    RefKind,
    RefSpec,
    Resolution,
    Side,
    TreeSpec,
)
from tests.dataforge.test_service import commit, digits, file, know

pytestmark = pytest.mark.postgres
__all__ = ["digits"]


async def branch(conn: Connection, scope: Scope, name: str, at: str = "main") -> None:
    await service.set_ref(conn, scope, "digits", name, RefSpec(RefKind.BRANCH, at))


async def write(conn: Connection, scope: Scope, name: str, *files: File, remove: tuple[str, ...] = ()) -> Commit:
    """Commit on top of whatever the branch points to."""
    head = await service.get_commit(conn, scope, "digits", name)
    return await commit(conn, scope, *files, parent=head.id, remove=remove, branch=name)


async def contents(conn: Connection, scope: Scope, ref: str) -> list[File]:
    found = await service.get_commit(conn, scope, "digits", ref)
    return await service.list_files(conn, scope, found.id)


@pytest.fixture
async def diverged(digits: Connection, scope: Scope) -> Connection:
    """``main`` and ``dev`` come from one commit; each changed, added and removed files of its own."""
    await commit(digits, scope, *(file(name, "base") for name in ("a", "b", "c", "d")))
    await branch(digits, scope, "dev")
    await write(digits, scope, "main", file("a", "main"), file("new-main"), remove=("c",))
    await write(digits, scope, "dev", file("b", "dev"), file("new-dev"), remove=("d",))
    return digits


class TestMerge:
    async def test_brings_both_sides_together_with_two_parents(self, diverged: Connection, scope: Scope) -> None:
        ours, theirs = [await service.get_commit(diverged, scope, "digits", ref) for ref in ("main", "dev")]
        merged = await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", metadata={"reason": "done"}))
        assert merged.outcome is MergeOutcome.MERGED
        assert merged.commit.parents == (ours.id, theirs.id)
        assert (merged.commit.message, merged.commit.metadata) == ("Merge dev into main", {"reason": "done"})
        assert await contents(diverged, scope, "main") == [file("a", "main"), file("b", "dev"), file("new-dev"), file("new-main")]
        event = (await list_events(diverged, after_seq=0))[-1]
        assert (event.type, event.data["merge_parent_id"]) == ("dataforge.commit.created", str(theirs.id))

    async def test_which_side_has_more_changes_makes_no_difference(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "dev", *(file(f"many/{i}") for i in range(50)))
        await branch(diverged, scope, "other", at="main")
        one = await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        two = await service.merge(diverged, scope, "digits", "dev", MergeSpec("other"))
        assert one.commit.tree == two.commit.tree

    async def test_of_a_branch_that_has_all_of_it_already_changes_nothing(self, diverged: Connection, scope: Scope) -> None:
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        head = await service.get_commit(diverged, scope, "digits", "main")
        again = await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        assert (again.outcome, again.commit) == (MergeOutcome.UP_TO_DATE, head)

    async def test_moves_on_a_branch_whose_head_the_source_comes_from(self, diverged: Connection, scope: Scope) -> None:
        await branch(diverged, scope, "topic", at="dev")
        made = await write(diverged, scope, "topic", file("x"))
        forward = await service.merge(diverged, scope, "digits", "dev", MergeSpec("topic"))
        assert (forward.outcome, forward.commit) == (MergeOutcome.FAST_FORWARDED, made)
        last = await write(diverged, scope, "topic", file("y"))
        noted = await service.merge(diverged, scope, "digits", "dev", MergeSpec("topic", fast_forward=FastForward.NEVER))
        assert noted.outcome is MergeOutcome.MERGED
        assert (noted.commit.parents, noted.commit.tree) == ((made.id, last.id), last.tree)

    async def test_refuses_a_merge_commit_where_only_moving_on_is_wanted(self, diverged: Connection, scope: Scope) -> None:
        with pytest.raises(NotFastForward):
            await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", fast_forward=FastForward.ONLY))

    async def test_stops_at_conflicts_and_names_each_with_its_three_contents(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "dev", file("a", "dev"), file("c", "dev"), file("new-main", "x"))
        with pytest.raises(MergeConflict) as refused:
            await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        assert refused.value.fields["count"] == 2
        assert refused.value.fields["conflicts"] == [
            {"path": "a", "base": file("a", "base").sha256, "ours": file("a", "main").sha256, "theirs": file("a", "dev").sha256},
            {"path": "c", "base": file("c", "base").sha256, "ours": None, "theirs": file("c", "dev").sha256},
        ]
        listed = await service.list_conflicts(diverged, scope, "digits", "main", "dev")
        assert [(each.path, each.ours, each.theirs) for each in listed] == [
            ("a", file("a", "main"), file("a", "dev")),
            ("c", None, file("c", "dev")),
        ]

    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [(Side.OURS, [("a", "main")]), (Side.THEIRS, [("a", "dev"), ("c", "dev")]), (Side.BASE, [("a", "base"), ("c", "base")])],
    )
    async def test_a_strategy_decides_what_is_in_conflict_and_that_alone(
        self, diverged: Connection, scope: Scope, strategy: Side, expected: list[tuple[str, str]]
    ) -> None:
        await write(diverged, scope, "dev", file("a", "dev"), file("c", "dev"))
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", resolution=Resolution(strategy)))
        rest = [file("b", "dev"), file("new-dev"), file("new-main")]
        assert await contents(diverged, scope, "main") == sorted([*(file(*each) for each in expected), *rest], key=lambda f: f.path)

    async def test_paths_are_settled_one_by_one_and_by_hand(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "dev", file("a", "dev"), file("c", "dev"))
        by_hand = file("a", "by hand")
        await know(diverged, scope, [by_hand])
        with pytest.raises(NotInConflict, match="'b'"):
            resolution = Resolution(take={"b": Side.OURS}, add=(by_hand,))
            await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", resolution=resolution))
        resolution = Resolution(take={"c": Side.THEIRS}, add=(by_hand,))
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", resolution=resolution))
        rest = [file("b", "dev"), file("c", "dev"), file("new-dev"), file("new-main")]
        assert await contents(diverged, scope, "main") == [by_hand, *rest]

    async def test_what_one_merge_settled_is_no_conflict_for_the_next(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "dev", file("a", "dev"))
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", resolution=Resolution(Side.OURS)))
        await write(diverged, scope, "dev", file("e"))
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        assert (await contents(diverged, scope, "main"))[0] == file("a", "main")

    async def test_refuses_histories_that_have_nothing_in_common(self, digits: Connection, scope: Scope) -> None:
        await commit(digits, scope, file("a"))
        await commit(digits, scope, file("b"), branch="island")
        with pytest.raises(HistoriesUnrelated, match="island"):
            await service.merge(digits, scope, "digits", "main", MergeSpec("island"))
        with pytest.raises(HistoriesUnrelated):
            await service.list_conflicts(digits, scope, "digits", "main", "island")

    async def test_refuses_a_file_on_one_side_that_is_a_folder_on_the_other(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "main", file("x"))
        await write(diverged, scope, "dev", file("x/y"))
        with pytest.raises(PathsCollide):
            await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))

    async def test_refuses_a_tag_and_a_head_that_is_not_the_named_one(self, diverged: Connection, scope: Scope) -> None:
        await service.set_ref(diverged, scope, "digits", "v1", RefSpec(RefKind.TAG, "main"))
        with pytest.raises(BranchNeeded, match="tag"):
            await service.merge(diverged, scope, "digits", "v1", MergeSpec("dev"))
        with pytest.raises(RefMoved):
            await service.merge(diverged, scope, "digits", "main", MergeSpec("dev", expected=uuid4()))

    async def test_writers_at_once_are_all_merged_in(self, database: Database, scope: Scope) -> None:
        names = [f"topic-{i}" for i in range(4)]
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "digits")
            await commit(conn, scope, file("a"))
            for name in names:
                await branch(conn, scope, name)
                await write(conn, scope, name, file(name))

        async def bring(name: str) -> None:
            async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                await service.merge(conn, scope, "digits", "main", MergeSpec(name))

        await asyncio.gather(*map(bring, names))
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert await contents(conn, scope, "main") == [file("a"), *(file(name) for name in names)]


class TestLog:
    async def test_of_a_merge_holds_both_sides_once_children_first(self, diverged: Connection, scope: Scope) -> None:
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        log = await service.list_commits(diverged, scope, "digits", "main")
        seen: set[UUID] = set()
        for each in reversed(log):
            assert seen.issuperset(each.parents)
            seen.add(each.id)
        assert len(log) == len(seen) == 4
        paged, before = [], None
        while page := await service.list_commits(diverged, scope, "digits", "main", 1, before):
            paged += page
            before = (page[-1].generation, page[-1].id)
        assert paged == log

    async def test_the_merge_base_is_found_however_far_it_lies_back(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        await branch(digits, scope, "dev")
        for number in range(70):
            await write(digits, scope, "main", file("b", str(number)))
        ours = await service.get_commit(digits, scope, "digits", "main")
        theirs = await write(digits, scope, "dev", file("c"))
        for left, right, expected in ((ours, theirs, first), (theirs, ours, first), (ours, first, first), (ours, ours, ours)):
            assert await service.find_merge_base(digits, scope, left, right) == expected


class TestPick:
    async def test_revert_undoes_one_commit_and_keeps_what_came_after(self, digits: Connection, scope: Scope) -> None:
        await commit(digits, scope, file("a"), file("b"))
        wrong = await write(digits, scope, "main", file("a", "wrong"), file("junk"), remove=("b",))
        await write(digits, scope, "main", file("c"))
        made = await service.revert(digits, scope, "digits", "main", PickSpec(str(wrong.id)))
        assert await contents(digits, scope, "main") == [file("a"), file("b"), file("c")]
        assert (made.message, made.metadata) == (f'Revert "a message"\n\nThis reverts commit {wrong.id}.', {"reverts": str(wrong.id)})

    async def test_revert_stops_where_the_files_changed_since(self, digits: Connection, scope: Scope) -> None:
        await commit(digits, scope, file("a"))
        wrong = await write(digits, scope, "main", file("a", "wrong"))
        await write(digits, scope, "main", file("a", "later"))
        with pytest.raises(MergeConflict, match="'a'"):
            await service.revert(digits, scope, "digits", "main", PickSpec(str(wrong.id)))
        spec = PickSpec(str(wrong.id), "back", resolution=Resolution(Side.THEIRS))
        assert (await service.revert(digits, scope, "digits", "main", spec)).message == "back"
        assert await contents(digits, scope, "main") == [file("a")]

    async def test_revert_of_a_merge_needs_the_parent_to_compare_with(self, diverged: Connection, scope: Scope) -> None:
        before = await contents(diverged, scope, "main")
        merged = (await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))).commit
        for mainline in (None, 3):
            with pytest.raises(MainlineNeeded):
                await service.revert(diverged, scope, "digits", "main", PickSpec(str(merged.id), mainline=mainline))
        with pytest.raises(MainlineNeeded):
            await service.revert(diverged, scope, "digits", "main", PickSpec("dev", mainline=1))
        await service.revert(diverged, scope, "digits", "main", PickSpec(str(merged.id), mainline=1))
        assert await contents(diverged, scope, "main") == before

    async def test_revert_of_the_first_commit_takes_its_files_away(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"), file("b"))
        await write(digits, scope, "main", file("c"))
        await service.revert(digits, scope, "digits", "main", PickSpec(str(first.id)))
        assert await contents(digits, scope, "main") == [file("c")]

    async def test_cherry_pick_brings_one_commit_without_those_before_it(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "dev", file("unwanted"))
        wanted = await write(diverged, scope, "dev", file("wanted"))
        before = await contents(diverged, scope, "main")
        made = await service.cherry_pick(diverged, scope, "digits", "main", PickSpec("dev"))
        assert await contents(diverged, scope, "main") == [*before, file("wanted")]
        assert (made.metadata, made.merge_parent_id) == ({"cherry_picked_from": str(wanted.id)}, None)
        with pytest.raises(NothingToCommit):
            await service.cherry_pick(diverged, scope, "digits", "main", PickSpec("dev"))


class TestReset:
    async def test_sets_a_branch_back_by_compare_and_set(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a"))
        second = await write(digits, scope, "main", file("b"))
        with pytest.raises(RefMoved):
            await service.reset_branch(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, str(first.id), first.id))
        moved = await service.reset_branch(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, str(first.id), second.id))
        assert moved.commit_id == first.id
        await service.reset_branch(digits, scope, "digits", "main", RefSpec(RefKind.BRANCH, str(second.id)))
        assert (await service.get_commit(digits, scope, "digits", "main")).id == second.id


class TestDiffStat:
    async def test_counts_paths_and_bytes(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("a", "xx"), file("b", "yyy"))
        await write(digits, scope, "main", file("a", "longer"), file("c", "1"), remove=("b",))
        stat = await service.get_diff_stat(digits, scope, "digits", str(first.id), "main")
        assert stat == DiffStat(added=1, changed=1, removed=1, added_bytes=7, removed_bytes=5)


class TestCrissCross:
    """``main`` and ``dev`` were each merged into the other before, so that two commits are their best common ancestors."""

    async def cross(self, conn: Connection, scope: Scope, mine: Side | None = None) -> None:
        ours, theirs = [(await service.get_commit(conn, scope, "digits", name)).id for name in ("main", "dev")]
        await service.merge(conn, scope, "digits", "main", MergeSpec(str(theirs), resolution=Resolution(mine)))
        await service.merge(conn, scope, "digits", "dev", MergeSpec(str(ours), resolution=Resolution(mine)))

    async def test_what_one_side_undid_since_stays_undone(self, diverged: Connection, scope: Scope) -> None:
        await self.cross(diverged, scope)
        await write(diverged, scope, "dev", file("a", "base"))
        await write(diverged, scope, "main", file("b", "base"))
        assert await service.list_conflicts(diverged, scope, "digits", "main", "dev") == []
        await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))
        assert await contents(diverged, scope, "main") == [file("a", "base"), file("b", "base"), file("new-dev"), file("new-main")]

    async def test_what_each_side_settled_its_own_way_is_in_conflict(self, digits: Connection, scope: Scope) -> None:
        await commit(digits, scope, file("x", "base"), file("y", "base"))
        await branch(digits, scope, "dev")
        await write(digits, scope, "main", file("x", "main"), file("y", "main"))
        await write(digits, scope, "dev", file("x", "dev"), file("y", "dev"))
        await self.cross(digits, scope, Side.OURS)
        for target, source in (("main", "dev"), ("dev", "main")):
            found = await service.list_conflicts(digits, scope, "digits", target, source)
            assert [(each.path, each.base, each.ours, each.theirs) for each in found] == [
                (name, None, file(name, target), file(name, source)) for name in ("x", "y")
            ]
        with pytest.raises(MergeConflict, match="x"):  # nor is there a base to choose
            await service.merge(digits, scope, "digits", "main", MergeSpec("dev", resolution=Resolution(Side.BASE)))
        await write(digits, scope, "dev", file("x", "main"))
        await service.merge(digits, scope, "digits", "main", MergeSpec("dev", resolution=Resolution(take={"y": Side.THEIRS})))
        assert await contents(digits, scope, "main") == [file("x", "main"), file("y", "dev")]

    @pytest.mark.parametrize("deepest", [0, 1, 32])
    async def test_crossed_time_and_again_nothing_is_settled_unasked(
        self, digits: Connection, scope: Scope, deepest: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history, "_DEEPEST", deepest)
        await commit(digits, scope, file("x", "base"), file("y", "base"))
        await branch(digits, scope, "dev")
        for turn in range(4):
            await write(digits, scope, "main", file("x", f"main {turn}"))
            await write(digits, scope, "dev", file("x", f"dev {turn}"))
            await self.cross(digits, scope, Side.OURS)
        found = await service.list_conflicts(digits, scope, "digits", "main", "dev")
        assert [each.path for each in found] == ["x"]


class TestPathsThatDifferInForm:
    @pytest.mark.parametrize(
        ("there", "added"), [("a/X.png", "a/x.png"), ("a/x.png", "A/x.png"), ("É", "é"), ("straße", "STRASSE"), ("ΑΣ", "ας")]
    )
    async def test_are_refused_by_a_commit_naming_both(self, digits: Connection, scope: Scope, there: str, added: str) -> None:
        first = await commit(digits, scope, file(there), file("other"))
        with pytest.raises(PathsDifferInForm) as refused:
            await commit(digits, scope, file(added), parent=first.id)
        assert (refused.value.fields["path"], refused.value.fields["other"]) == (added, there)
        with pytest.raises(PathsDifferInForm):
            await commit(digits, scope, file(there), file(added), branch="both")
        renamed = await commit(digits, scope, file(added), parent=first.id, remove=(there,))
        assert {f.path for f in await service.list_files(digits, scope, renamed.id)} == {added, "other"}
        await commit(digits, scope, file(there), parent=renamed.id, remove=(added,))

    @pytest.mark.parametrize(("there", "added"), [("A/b", "a"), ("a/b", "A"), ("É/b/c", "é"), ("x/Straße/b", "X/STRASSE")])
    async def test_are_refused_where_one_is_a_folder_of_the_other(self, digits: Connection, scope: Scope, there: str, added: str) -> None:
        for first, second in ((there, added), (added, there)):
            before = await commit(digits, scope, file(first), file("other"), branch=f"only-{first}")
            with pytest.raises(PathsDifferInForm) as refused:
                await commit(digits, scope, file(second), parent=before.id, branch=f"only-{first}")
            assert {refused.value.fields["path"], refused.value.fields["other"]} == {there, added}
            await commit(digits, scope, file(second), parent=before.id, remove=(first,), branch=f"only-{first}")
        with pytest.raises(PathsDifferInForm):
            await commit(digits, scope, file(there), file(added), branch="both")

    async def test_are_refused_by_a_merge(self, diverged: Connection, scope: Scope) -> None:
        await write(diverged, scope, "main", file("Readme"))
        await write(diverged, scope, "dev", file("README"))
        with pytest.raises(PathsDifferInForm, match="README"):
            await service.merge(diverged, scope, "digits", "main", MergeSpec("dev"))

    async def test_the_same_folder_may_be_spelt_in_two_ways(self, digits: Connection, scope: Scope) -> None:
        first = await commit(digits, scope, file("Train/a"))
        await commit(digits, scope, file("train/b"), parent=first.id)

    async def test_a_commit_in_pieces_is_held_to_it_too(self, digits: Connection, scope: Scope) -> None:
        await know(digits, scope, [file("a")])
        tree = await service.create_tree(digits, scope, "digits", TreeSpec(None, (file("A"),)))
        with pytest.raises(PathsDifferInForm):
            await service.create_commit(digits, scope, "digits", CommitSpec("main", "", None, (file("a"),), tree=tree.sha256))
