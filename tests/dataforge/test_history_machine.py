"""Any history of a dataset equals the same history of plain dictionaries, at every step; and two hundred writers lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from aidos.errors import AidosError
from cluster.db import Connection, Database
from cluster.objects import Objects
from cluster.settings import Settings
from data_pipelines.dataforge import manifest, service
from data_pipelines.dataforge.collection import service as collection
from data_pipelines.dataforge.collection.models import CollectionSpec
from data_pipelines.dataforge.errors import (
    HistoriesUnrelated,
    MainlineNeeded,
    MergeConflict,
    NothingToCommit,
    PathsCollide,
    PathsDifferInForm,
    RefMoved,
    RefNotFound,
)
from data_pipelines.dataforge.models import Commit, CommitSpec, MergeOutcome, MergeSpec, PickSpec, RefKind, RefSpec, Resolution, Side
from tests.dataforge.test_service import file, know
from tests.support.tenant import make_scope

pytestmark = pytest.mark.postgres
T = TypeVar("T")
Files = dict[str, str]

PATHS = ("a", "A", "b", "dir", "dir/x", "dir/y", "Dir/X", "é", "É", *(f"many/{i:02}" for i in range(12)))
CONTENTS = ("1", "2", "3")
UNCLEAR = "?"
EDITS = st.dictionaries(st.sampled_from(PATHS), st.none() | st.sampled_from(CONTENTS), min_size=1, max_size=6)
CLEAR_EDITS = st.dictionaries(st.sampled_from(PATHS[9:]), st.none() | st.sampled_from(CONTENTS), min_size=1, max_size=3)
"""Of paths that lie side by side in any file system."""
BRANCHES = st.sampled_from(("main", "dev", "topic"))
NUMBERS = st.integers(0, 10**6)


@dataclass(frozen=True)
class Told:
    """A commit as plain Python knows it."""

    files: Files
    parents: tuple[UUID, ...]
    generation: int


Refusals = tuple[type[AidosError], ...]


def problems(files: Files) -> Refusals:
    """Why no file system could hold these paths side by side; of two reasons either may be told."""
    collide = any(other.startswith(f"{path}/") for path in files for other in files)
    alike = any(
        f"{other}/".casefold().startswith(f"{path}/".casefold()) and not other.startswith(f"{path}/")
        for path, other in permutations(files, 2)
    )
    return (PathsCollide,) * collide + (PathsDifferInForm,) * alike


def merged(base: Files, ours: Files, theirs: Files, side: Side | None) -> Files:
    """The files after a three-way merge, ``UNCLEAR`` where a conflict is left."""
    result = {}
    for path in {*base, *ours, *theirs}:
        was, left, right = base.get(path), ours.get(path), theirs.get(path)
        if left == right or right == was:
            content = left
        elif left == was:
            content = right
        else:
            content = {Side.OURS: left, Side.THEIRS: right, Side.BASE: was, None: UNCLEAR}[side]
        if content is not None:
            result[path] = content
    return result


def settled(files: Files) -> Files | None:
    """None where a conflict is left."""
    return None if UNCLEAR in files.values() else files


class History(RuleBasedStateMachine):
    """Verbs on the real PostgreSQL beside dictionaries."""

    settings: Settings
    steps = 0
    crossed = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.scope = make_scope()
        self.db = Database(self.settings)
        self.runner.run(self.db.open())
        self.commits: dict[UUID, Told] = {}
        self.branches: dict[str, UUID] = {}
        self.run(lambda conn: service.create_dataset(conn, self.scope, "digits"))
        self.run(lambda conn: know(conn, self.scope, [file("", content) for content in CONTENTS]))

    def teardown(self) -> None:
        self.runner.run(self.db.close())
        self.runner.close()

    def run(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """One transaction."""

        async def transact() -> T:
            async with self.db.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id) as conn:
                return await work(conn)

        return self.runner.run(transact())

    def refused(self, errors: type[AidosError] | Refusals, work: Callable[[Connection], Coroutine[Any, Any, Any]]) -> None:
        with pytest.raises(errors):
            self.run(work)

    def ancestors(self, commit: UUID) -> set[UUID]:
        return {commit}.union(*(self.ancestors(parent) for parent in self.commits[commit].parents))

    def bases(self, left: Iterable[UUID], right: UUID) -> list[UUID]:
        """The best common ancestors, the latest first."""
        common = set[UUID]().union(*map(self.ancestors, left)) & self.ancestors(right)
        best = [each for each in common if not any(each in self.ancestors(other) - {other} for other in common)]
        return sorted(best, key=lambda each: (self.commits[each].generation, each), reverse=True)

    def base(self, bases: list[UUID]) -> Files:
        """What they come to as one: each is merged into those before it."""
        files = self.commits[bases[0]].files
        for at, other in enumerate(bases[1:], 1):
            files = merged(self.base(self.bases(bases[:at], other)), files, self.commits[other].files, None)
        return files

    def any_commit(self, number: int) -> UUID:
        return sorted(self.commits)[number % len(self.commits)]

    def note(self, branch: str, commit: Commit, files: Files) -> None:
        generation = 1 + max((self.commits[parent].generation for parent in commit.parents), default=-1)
        self.commits[commit.id] = Told(files, commit.parents, generation)
        self.branches[branch] = commit.id

    @rule(branch=BRANCHES, edits=EDITS)
    def commit(self, branch: str, edits: dict[str, str | None]) -> None:
        parent = self.branches.get(branch)
        before = self.commits[parent].files if parent else {}
        after = {path: content for path, content in {**before, **edits}.items() if content is not None}
        add = tuple(file(path, content) for path, content in edits.items() if content is not None)
        spec = CommitSpec(branch, "", parent, add, tuple(path for path, content in edits.items() if content is None))

        def work(conn: Connection) -> Coroutine[Any, Any, Commit]:
            return service.create_commit(conn, self.scope, "digits", spec)

        if errors := problems(after):
            self.refused(errors, work)
        elif parent and after == before:
            self.refused(NothingToCommit, work)
        else:
            self.note(branch, self.run(work), after)

    @precondition(lambda self: self.commits)
    @rule(branch=BRANCHES, number=NUMBERS)
    def branch_off(self, branch: str, number: int) -> None:
        at = self.any_commit(number)
        spec = RefSpec(RefKind.BRANCH, str(at))
        if self.branches.get(branch, at) != at:
            self.refused(RefMoved, lambda conn: service.set_ref(conn, self.scope, "digits", branch, spec))
        else:
            self.run(lambda conn: service.set_ref(conn, self.scope, "digits", branch, spec))
            self.branches[branch] = at

    @precondition(lambda self: len(self.branches) > 1)
    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        branch = sorted(self.branches)[number % len(self.branches)]
        self.run(lambda conn: service.delete_ref(conn, self.scope, "digits", branch))
        del self.branches[branch]

    @precondition(lambda self: self.branches)
    @rule(number=NUMBERS, to=NUMBERS)
    def reset(self, number: int, to: int) -> None:
        branch, at = sorted(self.branches)[number % len(self.branches)], self.any_commit(to)
        self.run(lambda conn: service.reset_branch(conn, self.scope, "digits", branch, RefSpec(RefKind.BRANCH, str(at))))
        self.branches[branch] = at

    @precondition(lambda self: self.branches)
    @rule(number=NUMBERS, other=NUMBERS, side=st.none() | st.sampled_from(Side))
    def merge(self, number: int, other: int, side: Side | None) -> None:
        self.merge_into(sorted(self.branches)[number % len(self.branches)], self.any_commit(other), side)

    @precondition(lambda self: len(self.branches) > 1)
    @rule(left=CLEAR_EDITS, right=CLEAR_EDITS, side=st.none() | st.sampled_from(Side))
    def cross(self, left: dict[str, str | None], right: dict[str, str | None], side: Side | None) -> None:
        """Two branches go on, each is merged into the other as it was, and so are both after that: from two bases, where none refused."""
        ours, theirs = sorted(self.branches)[:2]
        self.commit(ours, left)
        self.commit(theirs, right)
        was = self.branches[ours]
        self.merge_into(ours, self.branches[theirs], side)
        self.merge_into(theirs, was, side)
        self.merge_into(ours, self.branches[theirs], side)

    def merge_into(self, branch: str, source: UUID, side: Side | None) -> None:
        head = self.branches[branch]
        bases = self.bases([head], source)
        spec = MergeSpec(str(source), resolution=Resolution(side))
        if not bases:
            self.refused(HistoriesUnrelated, lambda conn: service.merge(conn, self.scope, "digits", branch, spec))
            return
        base = bases[0]
        type(self).crossed += len(bases) > 1
        files = settled(merged(self.base(bases), self.commits[head].files, self.commits[source].files, side))
        errors = (MergeConflict,) if files is None else problems(files)
        if errors and base != source:
            self.refused(errors, lambda conn: service.merge(conn, self.scope, "digits", branch, spec))
            return
        done = self.run(lambda conn: service.merge(conn, self.scope, "digits", branch, spec))
        if base == source:
            assert (done.outcome, done.commit.id) == (MergeOutcome.UP_TO_DATE, head)
        elif base == head and side is None:
            assert (done.outcome, done.commit.id) == (MergeOutcome.FAST_FORWARDED, source)
            self.branches[branch] = source
        else:
            assert done.commit.parents == (head, source)
            assert files is not None
            self.note(branch, done.commit, files)

    @precondition(lambda self: self.branches)
    @rule(number=NUMBERS, other=NUMBERS, side=st.none() | st.sampled_from(Side), mainline=st.sampled_from((None, 1, 2)), undo=st.booleans())
    def pick(self, number: int, other: int, side: Side | None, mainline: int | None, undo: bool) -> None:
        branch, picked = sorted(self.branches)[number % len(self.branches)], self.any_commit(other)
        told, head = self.commits[picked], self.branches[branch]
        verb = service.revert if undo else service.cherry_pick
        spec = PickSpec(str(picked), mainline=mainline, resolution=Resolution(side))

        def work(conn: Connection) -> Coroutine[Any, Any, Commit]:
            return verb(conn, self.scope, "digits", branch, spec)

        if (len(told.parents) == 2) != (mainline is not None):
            self.refused(MainlineNeeded, work)
            return
        before = self.commits[told.parents[(mainline or 1) - 1]].files if told.parents else {}
        base, theirs = (told.files, before) if undo else (before, told.files)
        files = settled(merged(base, self.commits[head].files, theirs, side))
        errors = (MergeConflict,) if files is None else problems(files)
        if files == self.commits[head].files:
            errors = (NothingToCommit,)
        if errors:
            self.refused(errors, work)
            return
        made = self.run(work)
        assert made.parents == (head,)
        assert files is not None
        self.note(branch, made, files)

    @precondition(lambda self: self.branches)
    @rule(days_later=st.booleans())
    def collect(self, days_later: bool) -> None:
        """Garbage collection: commits that no branch comes from are gone, and everything else is as it was."""

        async def hold(conn: Connection, project_id: UUID) -> list[UUID]:
            return []

        async def work() -> None:
            async with self.db.platform() as conn:
                if days_later:
                    await conn.execute("UPDATE dataforge.nodes SET touched_at = touched_at - interval '2 days'")
                    await conn.execute("UPDATE dataforge.blobs SET touched_at = touched_at - interval '2 days'")
            async with self.db.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id) as conn:
                asked = await collection.request_collection(conn, self.scope, CollectionSpec(keep_days=0))
            await collection.collect(self.db.platform, Objects(self.settings), asked, hold)
            async with self.db.platform() as conn:
                await conn.execute("UPDATE dataforge.collections SET finished_at = now()")

        self.runner.run(work())
        reachable = set[UUID]().union(*(self.ancestors(head) for head in self.branches.values()))
        gone = self.commits.keys() - reachable
        self.commits = {id: told for id, told in self.commits.items() if id in reachable}

        async def look(conn: Connection) -> None:
            for id in gone:
                with pytest.raises(RefNotFound):
                    await service.get_commit(conn, self.scope, "digits", str(id))
            await know(conn, self.scope, [file("", content) for content in CONTENTS])

        self.run(look)

    @invariant()
    def every_branch_is_as_told(self) -> None:
        async def look(conn: Connection) -> None:
            found = {ref.name: ref.commit_id for ref in await service.list_refs(conn, self.scope, "digits")}
            assert found == self.branches
            roots: dict[tuple[tuple[str, str], ...], bytes] = {}
            for branch, head in self.branches.items():
                told = self.commits[head]
                files = await service.list_files(conn, self.scope, head)
                assert files == [file(path, content) for path, content in sorted(told.files.items())]
                tree = (await service.get_commit(conn, self.scope, "digits", branch)).tree
                assert roots.setdefault(tuple(sorted(told.files.items())), tree) == tree
                log = await service.list_commits(conn, self.scope, "digits", branch, 1000)
                assert {commit.id for commit in log} == self.ancestors(head) and len(log) == len(self.ancestors(head))

        self.run(look)
        type(self).steps += 1


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("database")
def test_any_history_equals_plain_dictionaries(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_LEVEL_BITS", 1)  # two paths a node: deep trees of few files
    monkeypatch.setattr(History, "settings", settings, raising=False)
    monkeypatch.setattr(History, "steps", 0)
    monkeypatch.setattr(History, "crossed", 0)
    asyncio.run(Objects(settings).ensure_bucket())
    run_state_machine_as_test(
        History,
        settings=examples(max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)),
    )
    assert History.steps >= 2000
    assert History.crossed >= 10


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("database")
async def test_of_two_hundred_writers_on_one_branch_none_loses_its_commit(settings: Settings) -> None:
    scope = make_scope()
    async with Database(settings, timeout_s=200) as db:

        async def write(number: int) -> UUID:
            mine = file(f"writer/{number:03}", str(number))
            while True:
                try:
                    async with db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
                        await know(conn, scope, [mine])
                        head = await service.get_commit(conn, scope, "digits", "main")
                        return (await service.create_commit(conn, scope, "digits", CommitSpec("main", "", head.id, (mine,)))).id
                except RefMoved:
                    continue

        async with db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await service.create_dataset(conn, scope, "digits")
            await know(conn, scope, [file("first")])
            first = await service.create_commit(conn, scope, "digits", CommitSpec("main", "", None, (file("first"),)))
        written = await asyncio.gather(*map(write, range(200)))
        async with db.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            log = await service.list_commits(conn, scope, "digits", "main", 1000)
            assert sorted(commit.id for commit in log) == sorted([first.id, *written])
            assert await service.list_files(conn, scope, log[0].id) == [
                file("first"), *(file(f"writer/{number:03}", str(number)) for number in range(200))
            ]  # fmt: skip
