"""/v1/dataforge: datasets, commits, refs, files and their bytes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from aidos.schemas.common import Name, PageOf, decode_cursor, encode_cursor
from aidos.schemas.dataforge.versions import (
    PATH_BYTES,
    BlobState,
    ChangeRead,
    CommitCreate,
    CommitRead,
    CompletedRead,
    DatasetCreate,
    DatasetRead,
    DownloadsCreate,
    DownloadsRead,
    FileAdd,
    FileRead,
    MissingBlobRead,
    PartsRead,
    RefName,
    RefRead,
    RefSet,
    TreeCreate,
    TreeRead,
    UploadsComplete,
    UploadsCreate,
    UploadsRead,
)
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, needs
from api.pages import id_of, key_of, page_of, stored_text, whole_below
from data_pipelines.dataforge import service
from data_pipelines.dataforge.models import Blob, CommitSpec, File, Pack, RefKind, RefSpec, StoredBlob, TreeSpec

router = APIRouter(prefix="/v1/dataforge/datasets", tags=["dataforge"], route_class=ApiRoute)
READ, WRITE, MANAGE = needs("dataforge:read"), needs("dataforge:write"), needs("dataforge:manage")
RefQuery = Annotated[RefName, Query(description="Branch, tag or commit id.")]
PathQuery = Annotated[str, Query(max_length=PATH_BYTES, pattern=r"^[^\x00]*$", description="Only paths that begin with this.")]
# A cursor holds a path, so it may be longer than the other lists'.
PathCursor = Annotated[
    str | None, Query(max_length=5 * PATH_BYTES, pattern=r"^[A-Za-z0-9_-]*$", description="`next_cursor` of the page before.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Rows a page.")]


def added_files(added: list[FileAdd]) -> tuple[File, ...]:
    """What a body adds, as the services take it."""
    return tuple(File(file.path, file.sha256, file.size_bytes) for file in added)


def _blobs(blobs: list[BlobState]) -> list[Blob]:
    return [Blob(blob.sha256, blob.size_bytes) for blob in blobs]


def _packs(body: UploadsComplete) -> list[Pack]:
    return [
        Pack(pack.sha256, pack.size_bytes, tuple(StoredBlob(e.sha256, e.size_bytes, pack.sha256, e.offset_bytes) for e in pack.entries))
        for pack in body.packs
    ]


@router.post("", status_code=201, openapi_extra=WRITE)
async def create_dataset(body: DatasetCreate, tx: TxDep) -> DatasetRead:
    return DatasetRead.model_validate(await service.create_dataset(tx.conn, tx.scope, body.name, body.description))


@router.get("", openapi_extra=READ)
async def list_datasets(page: PageDep, tx: TxDep) -> PageOf[DatasetRead]:
    rows = await service.list_datasets(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(DatasetRead, rows, page.limit, "id")


@router.get("/{dataset}", openapi_extra=READ)
async def get_dataset(dataset: Name, tx: TxDep) -> DatasetRead:
    return DatasetRead.model_validate(await service.get_dataset(tx.conn, tx.scope, dataset))


@router.delete("/{dataset}", status_code=204, openapi_extra=MANAGE)
async def delete_dataset(dataset: Name, tx: TxDep) -> None:
    await service.delete_dataset(tx.conn, tx.scope, dataset)


@router.post("/{dataset}/uploads", openapi_extra=needs("dataforge:write", audit=False))
async def request_uploads(dataset: Name, body: UploadsCreate, tx: TxDep) -> UploadsRead:
    """Which contents are not here yet, and where to PUT them: a URL takes only the content with that SHA-256."""
    missing = await service.request_uploads(tx.conn, tx.scope, tx.objects, dataset, _blobs(body.blobs), presign=body.presign)
    return UploadsRead(missing=[MissingBlobRead.model_validate(blob) for blob in missing])


@router.post("/{dataset}/uploads/parts", openapi_extra=needs("dataforge:write", transaction=False))
async def request_parts(dataset: Name, body: BlobState, session: SessionDep) -> PartsRead:
    """Where the parts of a large content go that are not here yet; none: it is complete."""
    blob = Blob(body.sha256, body.size_bytes)
    return PartsRead.model_validate(await service.request_parts(session.transaction, session.scope, session.edge.objects, dataset, blob))


@router.post("/{dataset}/uploads/complete", openapi_extra=needs("dataforge:write", transaction=False))
async def complete_uploads(dataset: Name, body: UploadsComplete, session: SessionDep) -> CompletedRead:
    """Have the platform look at what was uploaded; from then on commits may name it."""
    objects, blobs = session.edge.objects, _blobs(body.blobs)
    done = await service.complete_uploads(session.transaction, session.change, session.scope, objects, dataset, blobs, _packs(body))
    return CompletedRead.model_validate(done)


@router.post("/{dataset}/trees", status_code=201, openapi_extra=WRITE)
async def create_tree(dataset: Name, body: TreeCreate, tx: TxDep) -> TreeRead:
    """Store changes ahead of the commit that names the tree: so a commit of any size comes in pieces."""
    spec = TreeSpec(body.base, added_files(body.add), tuple(body.remove))
    return TreeRead.model_validate(await service.create_tree(tx.conn, tx.scope, dataset, spec))


@router.post("/{dataset}/commits", status_code=201, openapi_extra=WRITE)
async def create_commit(dataset: Name, body: CommitCreate, tx: TxDep) -> CommitRead:
    """Commit and move the branch, if its head is still `parent`; else 409 with both commits."""
    spec = CommitSpec(
        body.branch, body.message, body.parent, added_files(body.add), tuple(body.remove), body.tree, body.metadata, body.override
    )
    return CommitRead.model_validate(await service.create_commit(tx.conn, tx.scope, dataset, spec))


@router.get("/{dataset}/commits", openapi_extra=READ)
async def list_commits(dataset: Name, page: PageDep, tx: TxDep, ref: RefQuery = "main") -> PageOf[CommitRead]:
    """The log, children before parents; the pages stay at the commit that the first one saw."""
    seen = decode_cursor(page.cursor, [UUID, whole_below(2**31), UUID])
    before = (seen[1], seen[2]) if seen else None
    rows = await service.list_commits(tx.conn, tx.scope, dataset, str(seen[0]) if seen else ref, page.limit, before)
    head = seen[0] if seen else rows[0].id
    following = encode_cursor(head, rows[-1].generation, rows[-1].id) if len(rows) == page.limit else None
    return PageOf(items=[CommitRead.model_validate(row) for row in rows], next_cursor=following)


@router.get("/{dataset}/commits/{ref}", openapi_extra=READ)
async def get_commit(dataset: Name, ref: RefName, tx: TxDep) -> CommitRead:
    """The commit behind a branch, a tag or a commit id."""
    return CommitRead.model_validate(await service.get_commit(tx.conn, tx.scope, dataset, ref))


@router.get("/{dataset}/refs", openapi_extra=READ)
async def list_refs(dataset: Name, page: PageDep, tx: TxDep) -> PageOf[RefRead]:
    rows = await service.list_refs(tx.conn, tx.scope, dataset, key_of(page.cursor, stored_text), page.limit)
    return page_of(RefRead, rows, page.limit, "name")


@router.put("/{dataset}/refs/{ref}", openapi_extra=WRITE)
async def set_ref(dataset: Name, ref: Name, body: RefSet, tx: TxDep) -> RefRead:
    """Make a branch or tag, or move a branch from the commit `expected`."""
    spec = RefSpec(RefKind(body.kind), body.commit, body.expected, body.override)
    return RefRead.model_validate(await service.set_ref(tx.conn, tx.scope, dataset, ref, spec))


@router.delete("/{dataset}/refs/{ref}", status_code=204, openapi_extra=MANAGE)
async def delete_ref(dataset: Name, ref: Name, tx: TxDep) -> None:
    await service.delete_ref(tx.conn, tx.scope, dataset, ref)


@router.get("/{dataset}/files", openapi_extra=READ)
async def list_files(
    dataset: Name, tx: TxDep, ref: RefQuery = "main", prefix: PathQuery = "", limit: Limit = 500, cursor: PathCursor = None
) -> PageOf[FileRead]:
    """Files by path; the pages stay at the commit that the first one saw."""
    seen, after = decode_cursor(cursor, [UUID, stored_text]) or (ref, "")
    commit = await service.get_commit(tx.conn, tx.scope, dataset, str(seen))
    rows = await service.list_files(tx.conn, tx.scope, commit.id, after, limit, prefix)
    following = encode_cursor(commit.id, rows[-1].path) if len(rows) == limit else None
    return PageOf(items=[FileRead.model_validate(row) for row in rows], next_cursor=following)


@router.get("/{dataset}/diff", openapi_extra=READ)
async def compare_commits(
    dataset: Name, base: RefQuery, head: RefQuery, tx: TxDep, limit: Limit = 500, cursor: PathCursor = None
) -> PageOf[ChangeRead]:
    """Paths that differ from `base` to `head`, in order."""
    after = key_of(cursor, stored_text)
    changes = await service.compare_commits(tx.conn, tx.scope, dataset, base, head)
    rows = [change for change in changes if after is None or change.path > after][:limit]
    return page_of(ChangeRead, rows, limit, "path")


@router.post("/{dataset}/downloads", openapi_extra=needs("dataforge:read", audit=False))
async def create_downloads(dataset: Name, body: DownloadsCreate, tx: TxDep) -> DownloadsRead:
    """URLs for up to 1,000 files of a commit; small files are slices of a common object, read with HTTP Range."""
    return DownloadsRead.model_validate(await service.create_downloads(tx.conn, tx.scope, tx.objects, dataset, body.ref, body.paths))
