"""SQL of exceptions: a function a named query."""

from __future__ import annotations

from uuid import UUID

from actors.modelhub.exceptions.models import SignedException
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.exceptions")


async def insert_exception(conn: Connection, project_id: UUID, exception: SignedException) -> None:
    await conn.execute(Q.insert_exception, {"project_id": project_id, **vars(exception)})


async def list_exceptions(
    conn: Connection, project_id: UUID, version_id: UUID, before: UUID | None = None, limit: int | None = None
) -> list[SignedException]:
    """Newest first, each as it is stored: whether it holds is not known here."""
    values = {"project_id": project_id, "version_id": version_id, "before": before, "limit": limit}
    return [SignedException(**row) for row in await (await conn.execute(Q.list_exceptions, values)).fetchall()]


async def revoke_exception(conn: Connection, project_id: UUID, version_id: UUID, id: UUID, revoked_by: str) -> str | None:
    """The kind of finding that it excepted; None: there is no such exception."""
    values = {"project_id": project_id, "version_id": version_id, "id": id, "revoked_by": revoked_by}
    row = await (await conn.execute(Q.revoke_exception, values)).fetchone()
    return row["finding"] if row else None
