"""/v1/dataforge verifications of what was imported in place."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from aidos.schemas.common import Name, PageOf
from aidos.schemas.dataforge.imports import FaultRead, VerificationCreate, VerificationRead
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, WaitS, needs
from api.pages import id_of, key_of, page_of, stored_text
from api.routers.dataforge.versions import Limit, PathCursor
from data_pipelines.dataforge.verification import service
from data_pipelines.dataforge.verification.models import VerificationState

router = APIRouter(prefix="/v1/dataforge/datasets/{dataset}/verifications", tags=["dataforge"], route_class=ApiRoute)
READ, WRITE = needs("dataforge:read"), needs("dataforge:write")


@router.post("", status_code=202, openapi_extra=WRITE)
async def create_verification(dataset: Name, body: VerificationCreate, tx: TxDep) -> VerificationRead:
    """Read every file in place of a commit in the background: what changed or vanished is told, the SHA-256 of the rest remembered."""
    return VerificationRead.model_validate(await service.request_verification(tx.conn, tx.scope, dataset, body.ref))


@router.get("", openapi_extra=READ)
async def list_verifications(dataset: Name, page: PageDep, tx: TxDep) -> PageOf[VerificationRead]:
    rows = await service.list_verifications(tx.conn, tx.scope, dataset, id_of(page.cursor), page.limit)
    return page_of(VerificationRead, rows, page.limit, "id")


@router.get("/{verification}", openapi_extra=needs("dataforge:read", transaction=False))
async def get_verification(dataset: Name, verification: UUID, session: SessionDep, wait: WaitS) -> VerificationRead:
    """A verification; with `wait`, once it has ended."""
    found = await session.wait_until(
        lambda conn: service.get_verification(conn, session.scope, dataset, verification),
        lambda now: now.state is not VerificationState.RUNNING,
        wait,
    )
    return VerificationRead.model_validate(found)


@router.get("/{verification}/faults", openapi_extra=READ)
async def list_faults(dataset: Name, verification: UUID, tx: TxDep, limit: Limit = 500, cursor: PathCursor = None) -> PageOf[FaultRead]:
    """Files that are not what was imported, by path."""
    rows = await service.list_faults(tx.conn, tx.scope, dataset, verification, key_of(cursor, stored_text), limit)
    return page_of(FaultRead, rows, limit, "path")


@router.post("/{verification}/cancel", openapi_extra=WRITE)
async def cancel_verification(dataset: Name, verification: UUID, tx: TxDep) -> VerificationRead:
    """End it; what it found stays."""
    return VerificationRead.model_validate(await service.cancel_verification(tx.conn, tx.scope, dataset, verification))
