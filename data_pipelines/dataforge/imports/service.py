"""The verbs of imports in place.

An import reads listings and no byte of content. Each page of a listing is one transaction that leaves a tree and the key to go on behind;
the commit is one more. Whoever dies between two of them is followed by one who goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from uuid import UUID

from actors.securityvault.models import Principal, PrincipalKind, Scope
from aidos.errors import AidosError
from cluster.buckets import Buckets, ObjectVersion
from cluster.db import Connection, new_id, savepoint
from cluster.objects import Objects
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.errors import NothingToCommit, RefNotFound
from data_pipelines.dataforge.imports import policy, store
from data_pipelines.dataforge.imports.errors import ImportEnded, ImportNotFound, NothingToImport
from data_pipelines.dataforge.imports.models import MOST_SKIPPED_TOLD, Import, ImportSpec, ImportState
from data_pipelines.dataforge.models import CommitSpec, Dataset, File, RefKind, RefSpec, TreeSpec


async def request_import(conn: Connection, scope: Scope, objects: Objects, dataset: str, spec: ImportSpec) -> Import:
    """Have the branch made equal to a folder of a bucket, in the background. A new branch begins at main.

    Raises: DatasetNotFound, BucketNotAllowed, BranchNeeded, RefNameInvalid.
    """
    found = await dataforge.get_dataset(conn, scope, dataset)
    Buckets(objects).refuse_unlisted(spec.bucket, spec.prefix)
    values = {
        **dataclasses.asdict(spec),
        "id": new_id(),
        "org_id": scope.org_id,
        "dataset_id": found.id,
        "parent_id": await _head(conn, scope, found, spec.branch),
        "created_by": scope.principal.name,
        "creator_kind": scope.principal.kind.value,
        "creator_id": scope.principal.id,
    }
    await store.create_import(conn, scope.project, values)
    made = await get_import(conn, scope, dataset, values["id"])
    await _publish(conn, scope, "started", made)
    return made


async def _head(conn: Connection, scope: Scope, dataset: Dataset, branch: str) -> UUID | None:
    try:
        return (await dataforge.get_head(conn, scope, dataset, branch)).id
    except RefNotFound:
        if branch == "main":
            return None
    try:
        return (await dataforge.set_ref(conn, scope, dataset.name, branch, RefSpec(RefKind.BRANCH, "main"))).commit_id
    except RefNotFound:
        return None


async def get_import(conn: Connection, scope: Scope, dataset: str, id: UUID) -> Import:
    """Raises: ImportNotFound."""
    found = await store.find_import(conn, scope.project, id)
    if found is None or found.dataset != dataset:
        raise ImportNotFound(dataset=dataset, id=id)
    return found


async def list_imports(conn: Connection, scope: Scope, dataset: str, before: UUID | None = None, limit: int = 50) -> list[Import]:
    """Newest first. Raises: DatasetNotFound."""
    found = await dataforge.get_dataset(conn, scope, dataset)
    return await store.list_imports(conn, scope.project, found.id, before, limit)


async def cancel_import(conn: Connection, scope: Scope, dataset: str, id: UUID) -> Import:
    """End it before it has made a commit; once more changes nothing. Raises: ImportNotFound, ImportEnded."""
    await get_import(conn, scope, dataset, id)
    ended = await store.end_import(conn, scope.project, id, ImportState.CANCELED)
    now = await get_import(conn, scope, dataset, id)
    if ended:
        await _publish(conn, scope, "ended", now)
    elif now.state is not ImportState.CANCELED:
        raise ImportEnded(id=id, state=now.state.value)
    return now


async def add_page(conn: Connection, asked: Import, found: Sequence[ObjectVersion]) -> Import | None:
    """Put a page of the listing into the tree; None where the claim was lost. Raises: PathsCollide, PathsDifferInForm, TreeNotFound."""
    scope, page = _scope(asked), policy.plan_page(asked.prefix, found)
    ids = await dataforge.record_objects(conn, scope, list(page.kept.values()))
    files = [File(path, id, each.size_bytes) for (path, each), id in zip(page.kept.items(), ids, strict=True)]
    tree = await dataforge.create_tree(conn, scope, asked.dataset, TreeSpec(asked.tree.hex() if asked.tree else None, tuple(files)))
    further = dataclasses.replace(
        asked,
        cursor=found[-1].key,
        tree=bytes.fromhex(tree.sha256),
        files=tree.files,
        size_bytes=tree.size_bytes,
        skipped=asked.skipped + len(page.skipped),
        skipped_keys=[*asked.skipped_keys, *page.skipped][:MOST_SKIPPED_TOLD],
    )
    return further if await store.save_progress(conn, further) else None


async def begin_anew(conn: Connection, asked: Import) -> None:
    """Forget how far it was: its tree was collected while nobody worked on it."""
    none = dataclasses.replace(asked, cursor=None, tree=None, files=0, size_bytes=0, skipped=0, skipped_keys=[])
    await store.save_progress(conn, none)


async def finish_import(conn: Connection, asked: Import, token: UUID) -> bool:
    """Commit what was listed, unless the branch has moved; False where the claim was lost."""
    if not await store.hold_import(conn, asked.id, token):
        return False
    try:
        async with savepoint(conn):
            commit_id = await _commit(conn, asked)
    except AidosError as error:
        return await fail_import(conn, asked, token, error)
    await store.end_import(conn, asked.project_id, asked.id, ImportState.FINISHED, commit_id)
    await _publish(conn, _scope(asked), "ended", dataclasses.replace(asked, state=ImportState.FINISHED, commit_id=commit_id))
    return True


async def _commit(conn: Connection, asked: Import) -> UUID:
    if not asked.files or asked.tree is None:
        raise NothingToImport(source=asked.source, skipped=asked.skipped)
    message = asked.message or f"Import {asked.files} files from {asked.source}"
    spec = CommitSpec(asked.branch, message, asked.parent_id, tree=asked.tree.hex(), metadata=asked.metadata)
    try:
        return (await dataforge.create_commit(conn, _scope(asked), asked.dataset, spec)).id
    except NothingToCommit:
        assert asked.parent_id is not None
        return asked.parent_id


async def fail_import(conn: Connection, asked: Import, token: UUID, error: AidosError) -> bool:
    """End it with the reason; False where the claim was lost."""
    if not await store.hold_import(conn, asked.id, token):
        return False
    await store.end_import(conn, asked.project_id, asked.id, ImportState.FAILED, error=str(error))
    await _publish(conn, _scope(asked), "ended", dataclasses.replace(asked, state=ImportState.FAILED))
    return True


def _scope(asked: Import) -> Scope:
    """Whoever asked for it: the commit has their name."""
    creator = Principal(PrincipalKind(asked.creator_kind), asked.creator_id, asked.created_by, asked.org_id)
    return Scope(creator, asked.org_id, asked.project_id)


async def _publish(conn: Connection, scope: Scope, what: str, asked: Import) -> None:
    commit_id = str(asked.commit_id) if asked.commit_id else None
    data = {"dataset": asked.dataset, "branch": asked.branch, "source": asked.source, "state": asked.state.value, "commit_id": commit_id}
    await dataforge.publish_change(conn, scope, f"import.{what}", asked.id, data)
