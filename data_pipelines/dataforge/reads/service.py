"""The verbs of reads: which files and rows runs have seen. That a run exists is ModelHub's to say, in ``api/reads.py``."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from actors.securityvault.models import Scope
from cluster.db import Connection
from data_pipelines.dataforge.reads import store
from data_pipelines.dataforge.reads.errors import ReadSourceDiffers, ReadSourceNotFound, ReadsOutside
from data_pipelines.dataforge.reads.models import FileRead, Read, Reader, ReadFile, ReadSource, ReadsSpec


async def describe_source(
    conn: Connection, scope: Scope, sha256: str, unit: str, size: int, first: int, files: Sequence[ReadFile]
) -> ReadSource:
    """Say which files stand from ordinal ``first`` on; a source may be told in pieces. Raises: ReadSourceDiffers, ReadsOutside."""
    last = first + sum(file.rows for file in files)
    if last > size:
        raise ReadsOutside(first=first, last=last, size=size)
    await store.insert_source(conn, scope.project, sha256, unit, size)
    known = await _get_source(conn, scope, sha256)
    if (known.unit, known.size) != (unit, size):
        raise ReadSourceDiffers(source=sha256, size=known.size, unit=known.unit)
    if known.complete:
        return known
    await store.insert_files(conn, scope.project, sha256, first, files)
    return await _get_source(conn, scope, sha256)


async def record_reads(conn: Connection, scope: Scope, spec: ReadsSpec) -> bool:
    """Add to what a run has read; whether this is its first of the commit. Raises: ReadSourceNotFound, ReadsOutside."""
    source = await _get_source(conn, scope, spec.source)
    for first, last in spec.ranges:
        if not first < last <= source.size:
            raise ReadsOutside(first=first, last=last, size=source.size)
    return bool(spec.ranges) and await store.add_ordinals(conn, scope.project, spec)


async def list_reads_of_run(conn: Connection, scope: Scope, run_id: UUID, after: tuple[UUID, str, int] | None, limit: int) -> list[Read]:
    """What a run has read, file by file."""
    return await store.list_reads_of_run(conn, scope.project, run_id, after, limit)


async def list_runs_that_read(conn: Connection, scope: Scope, sha256: str, row: int | None, before: UUID | None, limit: int) -> list[Read]:
    """The runs that read a content (with ``row``, that row of it, from 0), newest first."""
    return await store.list_runs_that_read(conn, scope.project, sha256, row, before, limit)


async def list_readers(conn: Connection, scope: Scope, sha256: str, commit_ids: Sequence[UUID]) -> list[Reader]:
    """The runs that noted what they read of a content, or of these commits."""
    return await store.list_readers(conn, scope.project, sha256, commit_ids)


async def list_files_read(conn: Connection, scope: Scope, run_ids: Sequence[UUID], limit: int) -> list[FileRead]:
    """Files that the runs have read, at most ``limit`` of each source that they streamed."""
    return await store.list_files_read(conn, scope.project, run_ids, limit)


async def _get_source(conn: Connection, scope: Scope, sha256: str) -> ReadSource:
    found = await store.find_source(conn, scope.project, sha256)
    if found is None:
        raise ReadSourceNotFound(source=sha256)
    return found
