"""/v1/dataforge collections and retention: how long what no commit needs stays stored."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from aidos.schemas.common import Name, PageOf
from aidos.schemas.dataforge.storage import CollectionCreate, CollectionRead, RetentionRead, RetentionSet
from api import collection as collections
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, WaitS, needs
from api.pages import id_of, page_of
from data_pipelines.dataforge.collection import service
from data_pipelines.dataforge.collection.models import CollectionSpec

router = APIRouter(prefix="/v1/dataforge", tags=["dataforge"], route_class=ApiRoute)


@router.post("/collections", status_code=201, openapi_extra=needs("dataforge:manage", transaction=False))
async def create_collection(body: CollectionCreate, session: SessionDep, wait: WaitS) -> CollectionRead:
    """Delete, in the background, what no branch, tag, labelling, run or model leads to; one at a time in a project."""
    async with session.change() as conn:
        made = await service.request_collection(conn, session.scope, CollectionSpec(**body.model_dump()))
    return await get_collection(made.id, session, wait)


@router.get("/collections", openapi_extra=needs("dataforge:read"))
async def list_collections(page: PageDep, tx: TxDep) -> PageOf[CollectionRead]:
    rows = await service.list_collections(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(CollectionRead, [collections.read(row) for row in rows], page.limit, "id")


@router.get("/collections/{collection}", openapi_extra=needs("dataforge:read", transaction=False))
async def get_collection(collection: UUID, session: SessionDep, wait: WaitS) -> CollectionRead:
    """A collection; with `wait`, once it has ended."""
    found = await session.wait_until(
        lambda conn: service.get_collection(conn, session.scope, collection), lambda now: now.finished_at is not None, wait
    )
    return collections.read(found)


@router.get("/datasets/{dataset}/retention", openapi_extra=needs("dataforge:read"))
async def get_retention(dataset: Name, tx: TxDep) -> RetentionRead:
    return RetentionRead.model_validate(await service.get_retention(tx.conn, tx.scope, dataset))


@router.put("/datasets/{dataset}/retention", openapi_extra=needs("dataforge:manage"))
async def set_retention(dataset: Name, body: RetentionSet, tx: TxDep) -> RetentionRead:
    """Say for how many days commits stay that nothing leads to any more."""
    return RetentionRead.model_validate(await service.set_retention(tx.conn, tx.scope, dataset, body.keep_days))
