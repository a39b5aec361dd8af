"""/v1/dataforge/reads: which runs saw which files and rows."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query

from aidos.schemas.common import PageOf, decode_cursor
from aidos.schemas.dataforge.reads import LARGEST_ORDINAL, ReadRead, ReadSourceRead, ReadSourceSet, ReadsRecord
from api import reads
from api.deps import ApiRoute, PageDep, TxDep, needs
from api.pages import id_of, page_of, whole_below
from data_pipelines.dataforge.reads import service
from data_pipelines.dataforge.reads.models import ReadFile

router = APIRouter(prefix="/v1/dataforge/reads", tags=["dataforge"], route_class=ApiRoute)
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in lower-case hex.")]
RunQuery = Annotated[UUID, Query(description="The run.")]
RowQuery = Annotated[int | None, Query(ge=0, le=LARGEST_ORDINAL, description="Only runs that read this row, counted from 0.")]


def _digest(part: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", part):
        raise ValueError("not a SHA-256")
    return part


@router.put("/sources/{source}", openapi_extra=needs("dataforge:write", audit=False))
async def describe_source(source: Digest, body: ReadSourceSet, tx: TxDep) -> ReadSourceRead:
    """Say which files a source's ordinals mean, in pieces where there are many. A source is named by its content and does not change."""
    files = [ReadFile(file.path, file.sha256, file.rows) for file in body.files]
    return ReadSourceRead.model_validate(
        await service.describe_source(tx.conn, tx.scope, source, body.unit.value, body.size, body.first, files)
    )


@router.post("", status_code=204, openapi_extra=needs("dataforge:write", audit=False))
async def record_reads(body: ReadsRecord, tx: TxDep) -> None:
    """Add to what a run has read. What is known already changes nothing, so it may be sent twice."""
    await reads.record_reads(tx.conn, tx.scope, body)


@router.get("", openapi_extra=needs("dataforge:read"))
async def list_reads(run: RunQuery, tx: TxDep, page: PageDep) -> PageOf[ReadRead]:
    """What a run has read, file by file."""
    key = decode_cursor(page.cursor, [UUID, _digest, whole_below(LARGEST_ORDINAL)])
    rows = await reads.list_reads(tx.conn, tx.scope, run, (key[0], key[1], key[2]) if key else None, page.limit)
    return page_of(ReadRead, rows, page.limit, "commit_id", "source", "first")


@router.get("/files/{sha256}", openapi_extra=needs("dataforge:read"))
async def list_runs_that_read(sha256: Digest, tx: TxDep, page: PageDep, row: RowQuery = None) -> PageOf[ReadRead]:
    """The runs that read a content, or one row of it, newest first: one line a run."""
    rows = await service.list_runs_that_read(tx.conn, tx.scope, sha256, row, id_of(page.cursor), page.limit)
    return page_of(ReadRead, rows, page.limit, "run_id")
