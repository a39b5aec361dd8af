"""The verbs of verification: files of a commit that nobody has hashed are read, and what is not what it is said to be is told by path.

These are the files in place, and those that were pushed in parts. The SHA-256 that is found is remembered beside the content's id: whoever reads the file from then on checks its bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from uuid import UUID

from actors.securityvault.models import Scope, platform_scope
from aidos.schemas.dataforge.versions import is_in_place
from cluster.buckets import Seen
from cluster.db import Connection, new_id
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.models import File, Place
from data_pipelines.dataforge.verification import policy, store
from data_pipelines.dataforge.verification.errors import VerificationEnded, VerificationNotFound
from data_pipelines.dataforge.verification.models import Fault, Unchecked, Verification, VerificationState

_LISTED = 1000


async def request_verification(conn: Connection, scope: Scope, dataset: str, ref: str) -> Verification:
    """Have the files of a commit that nobody has hashed read in the background. Raises: DatasetNotFound, RefNotFound."""
    commit = await dataforge.get_commit(conn, scope, dataset, ref)
    id, author = new_id(), scope.principal.name
    values = {"id": id, "org_id": scope.org_id, "dataset_id": commit.dataset_id, "commit_id": commit.id, "created_by": author}
    await store.create_verification(conn, scope.project, values)
    made = await get_verification(conn, scope, dataset, id)
    await _publish(conn, scope, "started", made)
    return made


async def get_verification(conn: Connection, scope: Scope, dataset: str, id: UUID) -> Verification:
    """Raises: VerificationNotFound."""
    found = await store.find_verification(conn, scope.project, id)
    if found is None or found.dataset != dataset:
        raise VerificationNotFound(dataset=dataset, id=id)
    return found


async def list_verifications(
    conn: Connection, scope: Scope, dataset: str, before: UUID | None = None, limit: int = 50
) -> list[Verification]:
    """Newest first. Raises: DatasetNotFound."""
    found = await dataforge.get_dataset(conn, scope, dataset)
    return await store.list_verifications(conn, scope.project, found.id, before, limit)


async def list_faults(conn: Connection, scope: Scope, dataset: str, id: UUID, after: str | None = None, limit: int = 50) -> list[Fault]:
    """What was found so far, by path. Raises: VerificationNotFound."""
    await get_verification(conn, scope, dataset, id)
    return await store.list_faults(conn, scope.project, id, after, limit)


async def cancel_verification(conn: Connection, scope: Scope, dataset: str, id: UUID) -> Verification:
    """End it; what it found stays. Once more changes nothing. Raises: VerificationNotFound, VerificationEnded."""
    await get_verification(conn, scope, dataset, id)
    ended = await store.end_verification(conn, scope.project, id, VerificationState.CANCELED)
    now = await get_verification(conn, scope, dataset, id)
    if ended:
        await _publish(conn, scope, "ended", now)
    elif now.state is not VerificationState.CANCELED:
        raise VerificationEnded(id=id, state=now.state.value)
    return now


async def list_contents(conn: Connection, asked: Verification) -> tuple[Sequence[File], Mapping[str, Place | Unchecked]]:
    """The next files of the commit, and those of their contents that are to be read, by content."""
    scope = platform_scope(asked.org_id, asked.project_id)
    files = policy.cut_batch(await dataforge.list_files(conn, scope, asked.commit_id, asked.cursor, _LISTED))
    places = await dataforge.find_places(conn, scope, {file.sha256 for file in files if is_in_place(file.sha256)})
    return files, {**places, **policy.find_unchecked(asked.project_id, files)}


async def add_seen(
    conn: Connection, asked: Verification, files: Sequence[File], contents: Mapping[str, Place | Unchecked], seen: Mapping[str, Seen]
) -> Verification | None:
    """Note what was seen of the files' objects, by content; None where the claim was lost."""
    read = [file for file in files if file.sha256 in contents]
    faults = {file.path: policy.find_fault(file.path, contents[file.sha256], seen[file.sha256]) for file in read}
    told = [fault for fault in faults.values() if fault]
    further = dataclasses.replace(
        asked,
        cursor=files[-1].path,
        files=asked.files + len(read),
        size_bytes=asked.size_bytes + sum(each.size_bytes for each in seen.values()),
        faults=asked.faults + len(told),
    )
    if not await store.save_progress(conn, further):
        return None
    placed = [file for file in read if is_in_place(file.sha256)]
    sound = {file.sha256: digest for file in placed if faults[file.path] is None and (digest := seen[file.sha256].sha256)}
    await dataforge.record_verified(conn, platform_scope(asked.org_id, asked.project_id), sound)
    await store.record_faults(conn, asked, told)
    return further


async def end_verification(conn: Connection, asked: Verification, token: UUID, state: VerificationState, error: str | None = None) -> bool:
    """False where the claim was lost."""
    if not await store.end_verification(conn, asked.project_id, asked.id, state, error, token):
        return False
    await _publish(conn, platform_scope(asked.org_id, asked.project_id), "ended", dataclasses.replace(asked, state=state))
    return True


async def _publish(conn: Connection, scope: Scope, what: str, asked: Verification) -> None:
    data = {"dataset": asked.dataset, "commit_id": str(asked.commit_id), "state": asked.state.value, "faults": asked.faults}
    await dataforge.publish_change(conn, scope, f"verification.{what}", asked.id, data)
