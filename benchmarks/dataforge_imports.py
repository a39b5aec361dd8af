"""Importing in place: keys of a bucket become a commit, beside a bare listing of the same keys.

``python -m benchmarks.dataforge_imports [--quick]``, on a PostgreSQL and SeaweedFS of its own. The platform's own bucket is measured before and
after: what it has grown by is what was copied. A listing is the least that any import can do.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from actors.securityvault.models import Principal, PrincipalKind, Scope
from benchmarks.harness import Figure, parse_arguments, report
from benchmarks.storage import own_storage
from cluster.db import Database, new_id
from cluster.objects import Objects
from cluster.settings import Settings
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.imports import service
from data_pipelines.dataforge.imports.models import Import, ImportSpec, ImportState
from data_pipelines.dataforge.imports.reconciler import ImportReconciler

LAKE = "lake"
OBJECT = bytes(1024)
LONGEST_RATIO = 3.0
"""What an import may take, in listings."""


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with own_storage("imports") as (settings, _):
        figures = asyncio.run(measure(settings.model_copy(update={"import_buckets": LAKE}), 5000 if arguments.quick else 100_000))
    return report(figures)


async def measure(settings: Settings, count: int) -> list[Figure]:
    """Seconds of the import, of another one that finds nothing new, and of the listing; bytes that were copied."""
    objects = Objects(settings)
    await objects.ensure_bucket()
    fill(objects, count)
    before = await _stored_bytes(objects)
    listing_s = _list(objects)
    async with Database(settings) as db:
        org_id, project_id = new_id(), new_id()
        scope = Scope(Principal(PrincipalKind.USER, new_id(), "bench", org_id), org_id, project_id)
        async with db.tenant(org_id=org_id, project_id=project_id) as conn:
            await dataforge.create_dataset(conn, scope, "raw")
        first_s, first = await _import(db, objects, scope)
        again_s, again = await _import(db, objects, scope)
    assert (first.files, again.commit_id) == (count, first.commit_id), first.error
    copied = await _stored_bytes(objects) - before
    return [
        Figure(
            f"dataforge.import_{count}_keys", first_s, "s", "minio: list_objects alone", listing_s, bar=LONGEST_RATIO, lower_is_better=True
        ),
        Figure(f"dataforge.import_{count}_keys_again", again_s, "s", lower_is_better=True),
        Figure(f"dataforge.import_{count}_keys_copied", copied, "bytes", bar=0.0, lower_is_better=True),
    ]


def fill(objects: Objects, count: int) -> None:
    """Put ``count`` objects into the lake, a thousand a folder."""
    objects.client.make_bucket(LAKE)

    def put(number: int) -> None:
        objects.client.put_object(LAKE, f"raw/{number // 1000:04}/{number:07}.bin", io.BytesIO(OBJECT), len(OBJECT))

    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(put, range(count)):
            pass


def _list(objects: Objects) -> float:
    started = time.perf_counter()
    for _ in objects.client.list_objects(LAKE, prefix="raw/", recursive=True):
        pass
    return time.perf_counter() - started


async def _stored_bytes(objects: Objects) -> int:
    return sum(found.size_bytes for found in await objects.list_prefix(""))


async def _import(db: Database, objects: Objects, scope: Scope) -> tuple[float, Import]:
    """Seconds from the asking to the commit."""
    started = time.perf_counter()
    async with db.tenant(org_id=scope.org_id, project_id=scope.project) as conn:
        asked = await service.request_import(conn, scope, objects, "raw", ImportSpec(LAKE, "raw/"))
    await ImportReconciler(db, objects).run_once()
    async with db.tenant(org_id=scope.org_id, project_id=scope.project) as conn:
        done = await service.get_import(conn, scope, "raw", asked.id)
    assert done.state is ImportState.FINISHED, done.error or done.last_error
    return time.perf_counter() - started, done


if __name__ == "__main__":
    sys.exit(main())
