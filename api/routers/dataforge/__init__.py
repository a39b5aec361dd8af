"""/v1/dataforge, one file a part of it."""

from fastapi import APIRouter

from api.routers.dataforge import history, imports, labelling, pulls, reads, reports, storage, tables, verifications, versions

router = APIRouter()
for part in (versions, history, labelling, reports, pulls, reads, storage, imports, verifications, tables):
    router.include_router(part.router)
