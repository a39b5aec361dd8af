"""Wire schemas of a dataset's history: merges, picks, checks and protected branches."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire
from aidos.schemas.dataforge.versions import CommitRead, FileAdd, FilePath, FileRead, Metadata, RefName


class Side(StrEnum):
    OURS = "ours"
    THEIRS = "theirs"
    BASE = "base"


class FastForward(StrEnum):
    ALLOW = "allow"
    ONLY = "only"
    NEVER = "never"


class MergeOutcome(StrEnum):
    MERGED = "merged"
    FAST_FORWARDED = "fast_forwarded"
    UP_TO_DATE = "up_to_date"


class CheckState(StrEnum):
    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


class Resolving(Asked):
    """How paths that both sides changed are settled."""

    strategy: Side | None = Field(
        None, description="Side that every path in conflict gets its content from; absent: conflicts are refused."
    )
    take: dict[FilePath, Side] = Field({}, max_length=10_000, description="Side by path, before `strategy`.")
    add: list[FileAdd] = Field([], max_length=10_000, description="Contents given by hand, before either.")
    remove: list[FilePath] = Field([], max_length=10_000)


class Landing(Resolving):
    """What the verbs that make a commit on a branch have in common."""

    expected: UUID | None = Field(None, description="Head that the branch must have; absent: whichever it has.")
    override: bool = Field(False, description="Pass over the branch's protection; owners may.")


class MergeCreate(Landing):
    """A merge into a branch."""

    source: RefName = Field(description="Branch, tag or commit to merge in.")
    message: Text = ""
    metadata: Metadata = {}
    fast_forward: FastForward = Field(FastForward.ALLOW, description="Whether a branch that has nothing of its own just moves on.")


class MergeRead(Wire):
    """The head after a merge, and how it came about."""

    outcome: MergeOutcome
    commit: CommitRead


class PickCreate(Landing):
    """A commit to take over or to undo."""

    commit: RefName = Field(description="Branch, tag or commit id.")
    message: Text | None = Field(None, description="Absent: one that names the commit.")
    mainline: int | None = Field(None, ge=1, le=2, description="Parent that a merge is compared with.")


class ResetCreate(Asked):
    """Where a branch is to point."""

    commit: RefName = Field(description="Branch, tag or commit id.")
    expected: UUID | None = Field(None, description="Commit that the branch must point to now; absent: whichever it does.")
    override: bool = Field(False, description="Pass over the branch's protection; owners may.")


class ConflictRead(Wire):
    """A path that both sides changed in different ways; a side without it has no file there."""

    path: str
    base: FileRead | None
    ours: FileRead | None
    theirs: FileRead | None


class DiffStatRead(Wire):
    """How much differs. A changed file's old bytes count as removed, its new ones as added."""

    added: int
    changed: int
    removed: int
    added_bytes: int
    removed_bytes: int


Link = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\x00-\x20]+$")]


class CheckSet(Asked):
    """What a check found of a commit."""

    state: CheckState
    summary: Text = ""
    url: Link | None = Field(None, description="Where more is said.")


class CheckRead(Wire):
    """The latest word of a check on a commit."""

    commit_id: UUID
    name: str
    state: CheckState
    summary: str
    url: str | None
    report_id: UUID | None = Field(description="The report that found it, where one did: then no one sets it by hand.")
    author: str
    updated_at: datetime


class ProtectionSet(Asked):
    """What a branch asks of commits before they land on it."""

    required_checks: list[Name] = Field([], max_length=50, description="Checks that the files must have passed.")
    require_pull_request: bool = Field(False, description="Only pull requests move the branch.")
    required_approvals: int = Field(0, ge=0, le=20, description="People who must have approved a pull request at its head.")


class ProtectionRead(Wire):
    """A protected branch: it is not deleted or set back, and takes what passed."""

    branch: str
    required_checks: list[str]
    require_pull_request: bool
    required_approvals: int
    updated_at: datetime
