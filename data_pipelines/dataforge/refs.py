"""Branches and tags: what they lead to, and the one way in which a branch moves."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection
from data_pipelines.dataforge import protection, store
from data_pipelines.dataforge.datasets import get_dataset, publish_change
from data_pipelines.dataforge.errors import BranchNeeded, RefMoved, RefNameInvalid, RefNameTaken, RefNotFound, TagFixed
from data_pipelines.dataforge.models import Commit, Dataset, Ref, RefKind, RefSpec


async def get_commit(conn: Connection, scope: Scope, dataset: str, ref: str) -> Commit:
    """The commit behind a branch, a tag or a commit id. Raises: DatasetNotFound, RefNotFound."""
    return await resolve(conn, scope, await get_dataset(conn, scope, dataset), ref)


async def resolve(conn: Connection, scope: Scope, dataset: Dataset, ref: str) -> Commit:
    """``get_commit`` of a dataset that was found already. Raises: RefNotFound."""
    known = await store.find_ref(conn, scope.project, dataset.id, ref)
    commit_id = known.commit_id if known else _to_uuid(ref)
    commit = await store.find_commit(conn, scope.project, commit_id) if commit_id else None
    if commit is None or commit.dataset_id != dataset.id:
        raise RefNotFound(dataset=dataset.name, ref=ref)
    return commit


def _to_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def list_refs(conn: Connection, scope: Scope, dataset: str, after: str | None = None, limit: int = 50) -> list[Ref]:
    """Branches and tags by name. Raises: DatasetNotFound."""
    found = await get_dataset(conn, scope, dataset)
    return await store.list_refs(conn, scope.project, found.id, after, limit)


async def set_ref(conn: Connection, scope: Scope, dataset: str, name: str, spec: RefSpec) -> Ref:
    """Make a ref, or move a branch from ``spec.expected``; repeating it changes nothing.

    Raises: DatasetNotFound, RefNotFound, RefNameInvalid, RefNameTaken, TagFixed, RefMoved, BranchProtected.
    """
    found = await get_dataset(conn, scope, dataset)
    target = await resolve(conn, scope, found, spec.commit)
    if _to_uuid(name):
        raise RefNameInvalid(ref=name)
    known = await store.find_ref(conn, scope.project, found.id, name)
    if known and known.kind is not spec.kind:
        raise RefNameTaken(dataset=dataset, ref=name, kind=known.kind.value)
    if known and known.commit_id == target.id:
        return known
    if known and known.kind is RefKind.TAG:
        raise TagFixed(dataset=dataset, ref=name, actual=str(known.commit_id))
    if known:
        await protection.refuse_setting_back(conn, scope, found, name, override=spec.override)
    if spec.expected is None:
        ref = await store.create_ref(conn, scope.project, found.id, name, spec.kind, target.id)
    else:
        ref = await store.move_ref(conn, scope.project, found.id, name, target.id, spec.expected)
    if ref is None:
        await _refuse_moved(conn, scope, found, name, spec.expected)
    await publish_move(conn, scope, found, ref)
    return ref


async def reset_branch(conn: Connection, scope: Scope, dataset: str, branch: str, spec: RefSpec) -> Ref:
    """Make a branch point to any commit; without ``spec.expected``, whichever it points to now.

    Raises: DatasetNotFound, RefNotFound, BranchNeeded, RefMoved, BranchProtected.
    """
    found = await get_dataset(conn, scope, dataset)
    head = await get_head(conn, scope, found, branch)
    return await set_ref(conn, scope, dataset, branch, replace(spec, expected=spec.expected or head.id))


async def get_head(conn: Connection, scope: Scope, dataset: Dataset, branch: str) -> Commit:
    """The commit that a branch points to. Raises: RefNotFound, BranchNeeded."""
    ref = await store.find_ref(conn, scope.project, dataset.id, branch)
    if ref is None:
        raise RefNotFound(dataset=dataset.name, ref=branch)
    if ref.kind is not RefKind.BRANCH:
        raise BranchNeeded(dataset=dataset.name, ref=branch, kind=ref.kind.value)
    return await resolve(conn, scope, dataset, branch)


async def expect_head(conn: Connection, scope: Scope, dataset: Dataset, branch: str, expected: UUID | None) -> Commit | None:
    """The commit that the branch must point to, None if it must not be there: looked at before the work, and again when it moves.

    Raises: RefNameTaken, RefNameInvalid, RefMoved.
    """
    ref = await store.find_ref(conn, scope.project, dataset.id, branch)
    if ref and ref.kind is not RefKind.BRANCH:
        raise RefNameTaken(dataset=dataset.name, ref=ref.name, kind=ref.kind.value)
    if _to_uuid(branch):
        raise RefNameInvalid(ref=branch)
    actual = ref.commit_id if ref else None
    if actual != expected:
        raise RefMoved(dataset=dataset.name, ref=branch, expected=_name(expected), actual=_name(actual))
    return await store.find_commit(conn, scope.project, actual) if actual else None


async def advance(
    conn: Connection,
    scope: Scope,
    dataset: Dataset,
    branch: str,
    commit: Commit,
    expected: UUID | None,
    *,
    override: bool = False,
    by_pull_request: bool = False,
) -> Ref:
    """Move the branch on to ``commit``, if it still points to ``expected``; None makes it. Raises: BranchProtected, RefMoved."""
    if expected is None:
        ref = await store.create_ref(conn, scope.project, dataset.id, branch, RefKind.BRANCH, commit.id)
    else:
        await protection.refuse_landing(conn, scope, dataset, branch, commit, override=override, by_pull_request=by_pull_request)
        ref = await store.move_ref(conn, scope.project, dataset.id, branch, commit.id, expected)
    if ref is None:
        await _refuse_moved(conn, scope, dataset, branch, expected)
    return ref


async def publish_move(conn: Connection, scope: Scope, dataset: Dataset, ref: Ref) -> None:
    """Tell that a ref points elsewhere now."""
    data = {"dataset": dataset.name, "ref": ref.name, "kind": ref.kind.value, "commit_id": str(ref.commit_id)}
    await publish_change(conn, scope, "ref.moved", dataset.id, data)


async def delete_ref(conn: Connection, scope: Scope, dataset: str, name: str) -> None:
    """Forget a branch or tag; its commits stay. Raises: DatasetNotFound, RefNotFound, BranchProtected."""
    found = await get_dataset(conn, scope, dataset)
    await protection.refuse_setting_back(conn, scope, found, name, override=False)
    ref = await store.delete_ref(conn, scope.project, found.id, name)
    if ref is None:
        raise RefNotFound(dataset=dataset, ref=name)
    await publish_change(conn, scope, "ref.deleted", found.id, {"dataset": dataset, "ref": name, "commit_id": str(ref.commit_id)})


async def _refuse_moved(conn: Connection, scope: Scope, dataset: Dataset, name: str, expected: UUID | None) -> NoReturn:
    actual = await store.find_ref(conn, scope.project, dataset.id, name)
    raise RefMoved(dataset=dataset.name, ref=name, expected=_name(expected), actual=_name(actual.commit_id if actual else None))


def _name(commit_id: UUID | None) -> str | None:
    return str(commit_id) if commit_id else None
