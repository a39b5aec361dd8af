"""/v1/dataforge viewer: what is in the tables and images of a commit, without downloading them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from aidos.schemas.common import Name, decode_cursor
from aidos.schemas.dataforge.tables import ARROW, SQL_CHARS, QueryCreate, QueryRead, RowChangeRead, RowDiffRead, RowsRead, SchemaRead
from aidos.schemas.dataforge.versions import ChangeKind, FilePath, RefName
from api.deps import ApiRoute, IfNoneMatch, Session, SessionDep, is_current, needs
from api.routers.dataforge.versions import RefQuery
from data_pipelines.dataforge.tables import service
from data_pipelines.dataforge.tables.models import Answer, Located, RowsSpec

router = APIRouter(prefix="/v1/dataforge/datasets/{dataset}", tags=["dataforge"], route_class=ApiRoute)
LOOK = needs("dataforge:read", transaction=False, audit=False)
Path = Annotated[FilePath, Query(description="The file.")]
# The server takes 64 KiB of address and answers more by itself, without a problem document: so names fit in it, all as long as allowed.
Columns = Annotated[list[Annotated[str, Query(max_length=500)]] | None, Query(max_length=100, description="Only these columns.")]
Filter = Annotated[str, Query(max_length=SQL_CHARS, pattern=r"^[^\x00]*$", description="Only rows of which this SQL condition is true.")]
Sort = Annotated[
    list[Annotated[str, Query(max_length=500)]] | None,
    Query(max_length=20, description="Columns to sort by; `-` before one: largest first."),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Rows a page.")]
Offset = Annotated[int, Query(ge=0, le=2**53, description="Begin at this row.")]
Most = Annotated[int, Query(ge=1, le=100, description="Rows that are given of each kind.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]
Size = Annotated[int, Query(ge=16, le=1024, description="Most pixels of each side.")]
ARROW_TOO: dict[int | str, dict[str, Any]] = {200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}}
WEBP: dict[int | str, dict[str, Any]] = {
    200: {"description": "The thumbnail", "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The thumbnail is the one that the caller has"},
}


@router.get("/schema", openapi_extra=LOOK, response_model=SchemaRead)
async def get_table_schema(dataset: Name, path: Path, session: SessionDep, ref: RefQuery = "main") -> Response:
    """Columns, types and the number of rows of a table (Parquet, CSV, TSV, JSON; text also packed)."""
    (file,) = await _locate(session, dataset, ref, [path])
    return _json(await service.get_schema(session.edge.viewer, file))


@router.get("/rows", openapi_extra=LOOK, response_model=RowsRead)
async def list_table_rows(
    dataset: Name, path: Path, session: SessionDep, ref: RefQuery = "main", columns: Columns = None, filter: Filter = "", sort: Sort = None,
    limit: Limit = 100, offset: Offset = 0, cursor: Cursor = None,
) -> Response:  # fmt: skip
    """Rows of a table; the pages stay at the commit that the first one saw."""
    seen, after = decode_cursor(cursor, [str, int]) or (ref, None)
    (file,) = await _locate(session, dataset, seen, [path])
    spec = RowsSpec(tuple(columns or ()), filter, tuple(sort or ()), limit, offset, after)
    return _json(await service.list_rows(session.edge.viewer, file, spec))


@router.post("/query", openapi_extra=LOOK, response_model=QueryRead, responses=ARROW_TOO)
async def query_tables(
    dataset: Name, body: QueryCreate, session: SessionDep, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """Answer one SELECT over files of a commit: JSON, or the stream of Arrow where `Accept` asks for it."""
    files = await _locate(session, dataset, body.ref, list(body.files.values()))
    arrow = ARROW in accept
    tables = dict(zip(body.files, files, strict=True))
    answer = await service.run_query(session.edge.viewer, tables, body.sql, body.limit, arrow=arrow)
    return (
        Response(answer.body, media_type=ARROW, headers={"X-Truncated": str(answer.facts["truncated"]).lower()}) if arrow else _json(answer)
    )


@router.get("/diff/rows", openapi_extra=LOOK)
async def compare_rows(
    dataset: Name, path: Path, base: RefName, head: RefName, session: SessionDep, key: Columns = None, most: Most = 10
) -> RowDiffRead:
    """Rows of a table that differ between two commits; `key` says which columns make a row the same one."""
    (old,), (new,) = [await _locate(session, dataset, ref, [path]) for ref in (base, head)]
    found = await service.compare_rows(session.edge.viewer, old, new, key or (), most)
    counts = {kind.value: found.totals.get(kind, 0) for kind in ChangeKind}
    rows = [RowChangeRead.model_validate(row) for row in found.rows]
    return RowDiffRead(base_id=old.commit_id, head_id=new.commit_id, path=path, rows=rows, **counts)


@router.get("/thumbnail", openapi_extra=LOOK, response_class=Response, responses=WEBP)
async def get_thumbnail(
    dataset: Name, path: Path, session: SessionDep, ref: RefQuery = "main", size: Size = 256, known: IfNoneMatch = None
) -> Response:
    """An image as WebP, upright and without metadata; of a moving picture, the first."""
    (file,) = await _locate(session, dataset, ref, [path])
    etag = f'"{file.sha256}-{size}"'
    # What a commit id leads to never changes; what a branch leads to does.
    headers = {"ETag": etag, "Cache-Control": f"private, {'max-age=31536000, immutable' if ref == str(file.commit_id) else 'no-cache'}"}
    if is_current(known, etag):
        return Response(status_code=304, headers=headers)
    return Response(await service.get_thumbnail(session.edge.viewer, file, size), media_type="image/webp", headers=headers)


async def _locate(session: Session, dataset: str, ref: RefName, paths: list[str]) -> list[Located]:
    async with session.transaction() as conn:
        return await service.locate(conn, session.scope, session.edge.objects, dataset, ref, paths)


def _json(answer: Answer) -> Response:
    return Response(answer.body, media_type="application/json")
