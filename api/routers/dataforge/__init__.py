"""/v1/dataforge, one file a part of it."""

from fastapi import APIRouter

from api.routers.dataforge import history, labelling, pulls, reads, reports, storage, versions

router = APIRouter()
for part in (versions, history, labelling, reports, pulls, reads, storage):
    router.include_router(part.router)
