"""Protected branches, and the checks that they ask of what lands on them."""

from __future__ import annotations

from actors.securityvault.models import Scope
from actors.securityvault.policy import require
from cluster.db import Connection
from data_pipelines.dataforge import policy, store
from data_pipelines.dataforge.datasets import get_dataset, publish_change
from data_pipelines.dataforge.errors import BranchProtected, CheckReported, ProtectionNotFound
from data_pipelines.dataforge.models import REPORTED_CHECKS, Check, CheckSpec, Commit, Dataset, Protection, ProtectionSpec

OVERRIDE = "dataforge:protect"
"""The permission to protect branches and to override their protection: an owner's."""


async def set_protection(conn: Connection, scope: Scope, dataset: str, branch: str, spec: ProtectionSpec) -> Protection:
    """Protect a branch, which need not be there yet. Raises: DatasetNotFound."""
    found = await get_dataset(conn, scope, dataset)
    protection = await store.set_protection(conn, scope.project, found.id, branch, spec)
    await publish_change(conn, scope, "branch.protected", found.id, {"dataset": dataset, "branch": branch})
    return protection


async def list_protections(conn: Connection, scope: Scope, dataset: str, after: str | None = None, limit: int = 50) -> list[Protection]:
    """By branch. Raises: DatasetNotFound."""
    found = await get_dataset(conn, scope, dataset)
    return await store.list_protections(conn, scope.project, found.id, after, limit)


async def find_protection(conn: Connection, scope: Scope, dataset: Dataset, branch: str) -> Protection | None:
    """What the branch asks for; None: nothing."""
    return await store.find_protection(conn, scope.project, dataset.id, branch)


async def delete_protection(conn: Connection, scope: Scope, dataset: str, branch: str) -> None:
    """Raises: DatasetNotFound, ProtectionNotFound."""
    found = await get_dataset(conn, scope, dataset)
    if await store.delete_protection(conn, scope.project, found.id, branch) is None:
        raise ProtectionNotFound(dataset=dataset, branch=branch)
    await publish_change(conn, scope, "branch.unprotected", found.id, {"dataset": dataset, "branch": branch})


async def set_check(conn: Connection, scope: Scope, commit: Commit, name: str, spec: CheckSpec) -> Check:
    """Say what a check found of a commit; the last word counts, and what a report finds only a report sets.

    Raises: CheckReported.
    """
    if name in REPORTED_CHECKS and spec.report_id is None:
        raise CheckReported(check=name, commit=commit.id)
    row = {
        "dataset_id": commit.dataset_id,
        "commit_id": commit.id,
        "name": name,
        "state": spec.state.value,
        "summary": spec.summary,
        "url": spec.url,
        "report_id": spec.report_id,
        "author": scope.principal.name,
    }
    check = await store.set_check(conn, scope.project, row)
    if check is None:
        raise CheckReported(check=name, commit=commit.id)
    data = {"dataset": commit.dataset, "check": name, "state": spec.state.value}
    await publish_change(conn, scope, "check.reported", commit.id, data)
    return check


async def list_checks(conn: Connection, scope: Scope, commit: Commit, after: str | None = None, limit: int = 50) -> list[Check]:
    """The checks of a commit, by name."""
    return await store.list_checks(conn, scope.project, commit.id, after, limit)


async def list_checks_of_files(conn: Connection, scope: Scope, commit: Commit) -> list[Check]:
    """The latest word of each check on these very files, whichever commit it was said of."""
    return await store.list_checks_of_tree(conn, scope.project, commit.dataset_id, commit.tree)


async def refuse_landing(
    conn: Connection, scope: Scope, dataset: Dataset, branch: str, commit: Commit, *, override: bool, by_pull_request: bool
) -> None:
    """Refuse a commit that the branch's protection keeps out. Raises: BranchProtected; Forbidden for an override by someone else than an owner."""
    reason = await find_obstacle(conn, scope, dataset, branch, commit, by_pull_request=by_pull_request)
    await _refuse(conn, scope, dataset, branch, reason, override=override)


async def find_obstacle(
    conn: Connection, scope: Scope, dataset: Dataset, branch: str, commit: Commit, *, by_pull_request: bool
) -> str | None:
    """What the branch's protection has against these files landing on it; None: nothing."""
    protection = await store.find_protection(conn, scope.project, dataset.id, branch)
    if protection is None:
        return None
    checks = await store.list_checks_of_tree(conn, scope.project, dataset.id, commit.tree) if protection.required_checks else []
    return policy.obstacle(protection, checks, by_pull_request=by_pull_request)


def require_override(scope: Scope) -> None:
    """Raises: Forbidden unless the caller may pass over protections."""
    require(scope, OVERRIDE)


async def refuse_setting_back(conn: Connection, scope: Scope, dataset: Dataset, branch: str, *, override: bool) -> None:
    """Refuse to delete a protected branch or to move it elsewhere than on. Raises: BranchProtected, Forbidden."""
    if await store.find_protection(conn, scope.project, dataset.id, branch):
        await _refuse(conn, scope, dataset, branch, "it only moves on, by commits and merges", override=override)


async def _refuse(conn: Connection, scope: Scope, dataset: Dataset, branch: str, reason: str | None, *, override: bool) -> None:
    if reason is None:
        return
    if not override:
        raise BranchProtected(dataset=dataset.name, branch=branch, reason=reason)
    require_override(scope)
    data = {"dataset": dataset.name, "branch": branch, "reason": reason}
    await publish_change(conn, scope, "branch.protection_overridden", dataset.id, data)
