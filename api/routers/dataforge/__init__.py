"""/v1/dataforge, one file a part of it."""

from fastapi import APIRouter

from api.routers.dataforge import versions

router = APIRouter()
for part in (versions,):
    router.include_router(part.router)
