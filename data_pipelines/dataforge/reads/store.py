"""The rows of reads: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any
from uuid import UUID

from cluster.db import Connection, load_queries
from data_pipelines.dataforge.reads.models import FILE_UNIT, FileRead, Read, Reader, ReadFile, ReadSource, ReadsSpec

Q = load_queries(__package__)


async def insert_source(conn: Connection, project_id: UUID, sha256: str, unit: str, size: int) -> None:
    """What is there already stays."""
    await conn.execute(Q.insert_source, {"project_id": project_id, "sha256": bytes.fromhex(sha256), "unit": unit, "size": size})


async def find_source(conn: Connection, project_id: UUID, sha256: str) -> ReadSource | None:
    row = await (await conn.execute(Q.find_source, {"project_id": project_id, "sha256": bytes.fromhex(sha256)})).fetchone()
    return ReadSource(**{**row, "sha256": row["sha256"].hex()}) if row else None


async def insert_files(conn: Connection, project_id: UUID, source: str, first: int, files: Sequence[ReadFile]) -> None:
    """Files that lie one after the other from ordinal ``first`` on; those known already stay."""
    rows = [file.rows for file in files]
    values = {
        "project_id": project_id,
        "source": bytes.fromhex(source),
        "firsts": list(accumulate(rows, initial=first))[:-1],
        "rows": rows,
        "sha256s": [bytes.fromhex(file.sha256) for file in files],
        "paths": [file.path for file in files],
    }
    await conn.execute(Q.insert_files, values)


async def add_ordinals(conn: Connection, project_id: UUID, spec: ReadsSpec) -> bool:
    """Whether they are the first that the run has read of this source and commit."""
    values = {
        "project_id": project_id,
        "run_id": spec.run_id,
        "source": bytes.fromhex(spec.source),
        "dataset": spec.dataset,
        "commit_id": spec.commit_id,
        "firsts": [first for first, _ in spec.ranges],
        "lasts": [last for _, last in spec.ranges],
    }
    row = await (await conn.execute(Q.add_ordinals, values)).fetchone()
    return bool(row and row["inserted"])


async def list_reads_of_run(
    conn: Connection, project_id: UUID, run_id: UUID, after: tuple[UUID, str, int] | None, limit: int
) -> list[Read]:
    """By commit, source and ordinal, those later than ``after``."""
    commit_id, source, first = after or (None, "", 0)
    values = {"project_id": project_id, "run_id": run_id, "commit_id": commit_id, "source": bytes.fromhex(source), "first": first}
    return [_read(row) for row in await (await conn.execute(Q.list_reads_of_run, {**values, "limit": limit})).fetchall()]


async def list_runs_that_read(
    conn: Connection, project_id: UUID, sha256: str, row: int | None, before: UUID | None, limit: int
) -> list[Read]:
    """One of each run, newest first."""
    values = {"project_id": project_id, "sha256": bytes.fromhex(sha256), "row": row, "before": before, "limit": limit}
    return [_read(found) for found in await (await conn.execute(Q.list_runs_that_read, values)).fetchall()]


async def list_readers(conn: Connection, project_id: UUID, sha256: str, commit_ids: Sequence[UUID]) -> list[Reader]:
    values = {"project_id": project_id, "sha256": bytes.fromhex(sha256), "commit_ids": list(commit_ids)}
    return [Reader(**row) for row in await (await conn.execute(Q.list_readers, values)).fetchall()]


async def list_files_read(conn: Connection, project_id: UUID, run_ids: Sequence[UUID], limit: int) -> list[FileRead]:
    """At most ``limit`` of each source."""
    values = {"project_id": project_id, "run_ids": list(run_ids), "limit": limit}
    rows = await (await conn.execute(Q.list_files_read, values)).fetchall()
    return [FileRead(**{**row, "sha256": row["sha256"].hex()}) for row in rows]


def _read(row: Mapping[str, Any]) -> Read:
    values = {**row, "source": row["source"].hex(), "sha256": row["sha256"].hex()}
    if values.pop("unit") == FILE_UNIT:
        values |= {"rows": None, "rows_read": None}
    return Read(**values)
