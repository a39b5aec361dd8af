"""The rows of imports: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from cluster.db import Connection, load_queries
from data_pipelines.dataforge.imports.models import Import, ImportState

Q = load_queries(__package__)


async def create_import(conn: Connection, project_id: UUID, values: Mapping[str, Any]) -> None:
    await conn.execute(Q.create_import, {"project_id": project_id, **values})


async def find_import(conn: Connection, project_id: UUID, id: UUID) -> Import | None:
    row = await (await conn.execute(Q.find_import, {"project_id": project_id, "id": id})).fetchone()
    return _import(row) if row else None


async def list_imports(conn: Connection, project_id: UUID, dataset_id: UUID, before: UUID | None, limit: int) -> list[Import]:
    """Newest first."""
    row = {"project_id": project_id, "dataset_id": dataset_id, "before": before, "limit": limit}
    return [_import(row) for row in await (await conn.execute(Q.list_imports, row)).fetchall()]


async def claim_imports(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Import]:
    rows = await conn.execute(Q.claim_imports, {"token": token, "lock_s": lock_s, "limit": limit})
    return [_import(row) for row in await rows.fetchall()]


async def save_progress(conn: Connection, asked: Import) -> bool:
    """False where the claim was lost."""
    row = {**asked.__dict__, "skipped_keys": Jsonb(asked.skipped_keys)}
    return (await conn.execute(Q.save_progress, row)).rowcount == 1


async def hold_import(conn: Connection, id: UUID, token: UUID) -> bool:
    """Keep it from being canceled or claimed until the end of the transaction; False where the claim was lost."""
    return await (await conn.execute(Q.hold_import, {"id": id, "token": token})).fetchone() is not None


async def end_import(
    conn: Connection, project_id: UUID, id: UUID, state: ImportState, commit_id: UUID | None = None, error: str | None = None
) -> bool:
    """False where it has ended."""
    row = {"project_id": project_id, "id": id, "state": state.value, "commit_id": commit_id, "error": error}
    return (await conn.execute(Q.end_import, row)).rowcount == 1


def _import(row: dict[str, Any]) -> Import:
    return Import(**{**row, "state": ImportState(row["state"]), "tree": bytes(row["tree"]) if row["tree"] is not None else None})
