"""The verbs of a dataset's history, as the client sees them: part of ``client.datasets``."""

from __future__ import annotations

from typing import Any

from aidos.http.operation import Resource, operation
from aidos.schemas.dataforge.history import (
    CheckRead,
    CheckSet,
    ConflictRead,
    DiffStatRead,
    MergeCreate,
    MergeRead,
    PickCreate,
    ProtectionRead,
    ProtectionSet,
    ResetCreate,
)
from aidos.schemas.dataforge.versions import CommitRead, RefRead

_ONE = "/v1/dataforge/datasets/{dataset}"
_BRANCH = f"{_ONE}/branches/{{branch}}"
_TWO: dict[str, Any] = {"base": (str, ...), "head": (str, ...)}


class History(Resource):
    """Merges, picks, checks and protected branches."""

    merge = operation(
        "POST", f"{_BRANCH}/merge", body=MergeCreate, returns=MergeRead, positional=("source",), help="Merge a ref into a branch."
    )
    conflicts = operation(
        "GET",
        f"{_BRANCH}/conflicts",
        returns=ConflictRead,
        paged=True,
        query={"source": (str, ...)},
        help="Paths that a merge would stop at.",
    )
    revert = operation(
        "POST", f"{_BRANCH}/revert", body=PickCreate, returns=CommitRead, positional=("commit",), help="Undo a commit by a new one."
    )
    cherry_pick = operation(
        "POST",
        f"{_BRANCH}/cherry-pick",
        body=PickCreate,
        returns=CommitRead,
        positional=("commit",),
        help="Change on a branch what one commit changed.",
    )
    reset = operation(
        "POST", f"{_BRANCH}/reset", body=ResetCreate, returns=RefRead, positional=("commit",), help="Set a branch to another commit."
    )
    diff_stat = operation("GET", f"{_ONE}/diff/stat", returns=DiffStatRead, query=_TWO, help="How much differs between two refs.")
    checks = operation("GET", f"{_ONE}/commits/{{ref}}/checks", returns=CheckRead, paged=True, help="What checks found of a commit.")
    set_check = operation(
        "PUT",
        f"{_ONE}/commits/{{ref}}/checks/{{check}}",
        body=CheckSet,
        returns=CheckRead,
        positional=("state",),
        help="Say what a check found of a commit.",
    )
    protections = operation("GET", f"{_ONE}/protections", returns=ProtectionRead, paged=True, help="Protected branches and their rules.")
    protect = operation(
        "PUT", f"{_ONE}/protections/{{branch}}", body=ProtectionSet, returns=ProtectionRead, help="Protect a branch, or change its rules."
    )
    unprotect = operation("DELETE", f"{_ONE}/protections/{{branch}}", help="Take the protection off a branch.")
