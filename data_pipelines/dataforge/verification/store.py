"""The rows of verifications: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from cluster.db import Connection, load_queries
from data_pipelines.dataforge.verification.models import Fault, FaultKind, Verification, VerificationState

Q = load_queries(__package__)


async def create_verification(conn: Connection, project_id: UUID, values: Mapping[str, Any]) -> None:
    await conn.execute(Q.create_verification, {"project_id": project_id, **values})


async def find_verification(conn: Connection, project_id: UUID, id: UUID) -> Verification | None:
    row = await (await conn.execute(Q.find_verification, {"project_id": project_id, "id": id})).fetchone()
    return _verification(row) if row else None


async def list_verifications(conn: Connection, project_id: UUID, dataset_id: UUID, before: UUID | None, limit: int) -> list[Verification]:
    """Newest first."""
    row = {"project_id": project_id, "dataset_id": dataset_id, "before": before, "limit": limit}
    return [_verification(row) for row in await (await conn.execute(Q.list_verifications, row)).fetchall()]


async def claim_verifications(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Verification]:
    rows = await conn.execute(Q.claim_verifications, {"token": token, "lock_s": lock_s, "limit": limit})
    return [_verification(row) for row in await rows.fetchall()]


async def save_progress(conn: Connection, asked: Verification) -> bool:
    """False where the claim was lost."""
    return (await conn.execute(Q.save_progress, asked.__dict__)).rowcount == 1


async def record_faults(conn: Connection, asked: Verification, faults: Sequence[Fault]) -> None:
    row = {
        "project_id": asked.project_id,
        "id": asked.id,
        "paths": [fault.path for fault in faults],
        "uris": [fault.uri for fault in faults],
        "kinds": [fault.kind.value for fault in faults],
        "reasons": [fault.reason for fault in faults],
    }
    await conn.execute(Q.record_faults, row)


async def list_faults(conn: Connection, project_id: UUID, id: UUID, after: str | None, limit: int) -> list[Fault]:
    """By path."""
    rows = await conn.execute(Q.list_faults, {"project_id": project_id, "id": id, "after": after, "limit": limit})
    return [Fault(**{**row, "kind": FaultKind(row["kind"])}) for row in await rows.fetchall()]


async def end_verification(
    conn: Connection, project_id: UUID, id: UUID, state: VerificationState, error: str | None = None, token: UUID | None = None
) -> bool:
    """False where it has ended, or the claim with ``token`` was lost."""
    row = {"project_id": project_id, "id": id, "state": state.value, "error": error, "token": token}
    return (await conn.execute(Q.end_verification, row)).rowcount == 1


def _verification(row: dict[str, Any]) -> Verification:
    return Verification(**{**row, "state": VerificationState(row["state"])})
