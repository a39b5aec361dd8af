"""/v1/dataforge, one file a part of it."""

from fastapi import APIRouter

from api.routers.dataforge import history, pulls, reports, versions

router = APIRouter()
for part in (versions, history, reports, pulls):
    router.include_router(part.router)
