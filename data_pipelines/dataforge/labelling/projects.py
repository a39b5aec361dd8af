"""Labelling projects: made over a commit, with a task for each of its items."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Any
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.labelling import AnnotatorRead, QuestionAgreementRead
from cluster.db import Connection, new_id
from cluster.objects import Objects
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.errors import RefNotFound
from data_pipelines.dataforge.labelling import figures, rows, store
from data_pipelines.dataforge.labelling.errors import ImagesTooSlow, LabellingClosed, LabellingNotFound, NoItems, TooManyItems
from data_pipelines.dataforge.labelling.images import read_sizes
from data_pipelines.dataforge.labelling.labels import draws_on_images, to_schema
from data_pipelines.dataforge.labelling.models import Counts, Item, Labelling, LabellingSpec, Size, Workload
from data_pipelines.dataforge.models import Commit, RefKind, RefSpec
from data_pipelines.dataforge.uploads import Transact

MOST_ITEMS = 100_000
"""Most tasks of a project."""
_MOST_S = 45
_BATCH = 500


async def create_labelling(transaction: Transact, change: Transact, scope: Scope, objects: Objects, spec: LabellingSpec) -> Labelling:
    """Make the project with a task for each file under ``spec.prefix``, or for each row of that file. A tag keeps the commit.

    Where shapes are asked for, each image is looked into for its size.

    Raises: DatasetNotFound, RefNotFound, FileNotFound, NoItems, TooManyItems, ImagesTooSlow, RowsInvalid, LabellingExists, Unavailable.
    """
    async with transaction() as conn:
        commit = await dataforge.get_commit(conn, scope, spec.dataset, spec.ref)
        if spec.rows:
            downloads = await dataforge.create_downloads(conn, scope, objects, spec.dataset, str(commit.id), [spec.prefix])
        else:
            files = await dataforge.list_files(conn, scope, commit.id, limit=MOST_ITEMS + 1, prefix=spec.prefix)
            items = [Item(file.path) for file in files]
    if spec.rows:
        items = await rows.read_items(spec.prefix, await rows.fetch(downloads), MOST_ITEMS)
    if not items:
        raise NoItems(commit=commit.id, dataset=spec.dataset, prefix=spec.prefix)
    if len(items) > MOST_ITEMS:
        raise TooManyItems(most=MOST_ITEMS, prefix=spec.prefix)
    if not spec.rows and draws_on_images(to_schema(spec.questions)):
        items = await _measure(transaction, scope, objects, commit, items)
    async with change() as conn:
        return await _create(conn, scope, spec, commit, items)


async def _measure(transaction: Transact, scope: Scope, objects: Objects, commit: Commit, items: list[Item]) -> list[Item]:
    """The images with their sizes, as far as they can be read. Raises: ImagesTooSlow, Unavailable."""
    sizes: dict[str, Size] = {}
    try:
        async with asyncio.timeout(_MOST_S):
            for start in range(0, len(items), _BATCH):
                paths = [item.path for item in items[start : start + _BATCH]]
                async with transaction() as conn:
                    downloads = await dataforge.create_downloads(conn, scope, objects, commit.dataset, str(commit.id), paths)
                sizes |= await read_sizes(downloads)
    except TimeoutError as error:
        raise ImagesTooSlow(read=len(sizes), images=len(items), most_s=_MOST_S) from error
    return [dataclasses.replace(item, size=sizes.get(item.path)) for item in items]


async def _create(conn: Connection, scope: Scope, spec: LabellingSpec, commit: Commit, items: list[Item]) -> Labelling:
    id = new_id()
    row = {
        name: getattr(spec, name)
        for name in ("name", "questions", "instructions", "overlap", "review", "consensus", "gold_every", "most_skips", "lease_s")
    }
    made_by = {"dataset_id": commit.dataset_id, "commit_id": commit.id, "created_by": scope.principal.name}
    await store.create_labelling(conn, scope.project, {"id": id, **row, **made_by})
    await dataforge.set_ref(conn, scope, spec.dataset, _tag(spec.name), RefSpec(RefKind.TAG, str(commit.id)))
    await store.insert_tasks(conn, scope.project, id, spec.overlap, [new_id() for _ in items], items)
    labelling = await get_labelling(conn, scope, spec.name)
    told = {"tasks": len(items), "measured": sum(item.size is not None for item in items)}
    await publish(conn, scope, labelling, "created", {**told, "dataset": spec.dataset, "commit_id": str(commit.id)})
    return labelling


def _tag(name: str) -> str:
    return f"labelling-{name}"


async def publish(conn: Connection, scope: Scope, labelling: Labelling, what: str, data: dict[str, Any]) -> None:
    """Write the event ``dataforge.labelling.<what>``."""
    await dataforge.publish_change(conn, scope, f"labelling.{what}", labelling.id, {"labelling": labelling.name, **data})


async def get_labelling(conn: Connection, scope: Scope, name: str) -> Labelling:
    """Raises: LabellingNotFound."""
    found = await store.find_labelling(conn, scope.project, name)
    if found is None:
        raise LabellingNotFound(name=name)
    return found


async def get_open_labelling(conn: Connection, scope: Scope, name: str) -> Labelling:
    """Raises: LabellingNotFound, LabellingClosed."""
    found = await get_labelling(conn, scope, name)
    if found.closed_at is not None:
        raise LabellingClosed(name=name)
    return found


async def list_labellings(conn: Connection, scope: Scope, before: UUID | None = None, limit: int = 50) -> list[Labelling]:
    """Newest first."""
    return await store.list_labellings(conn, scope.project, before, limit)


async def update_labelling(conn: Connection, scope: Scope, name: str, changes: dict[str, Any]) -> Labelling:
    """Change how it is labelled from now on; ``closed`` ends or resumes it. Raises: LabellingNotFound."""
    found = await get_labelling(conn, scope, name)
    closed = changes.pop("closed", found.closed_at is not None)
    await store.update_labelling(conn, scope.project, dataclasses.replace(found, **changes), closed=closed)
    if closed != (found.closed_at is not None):
        await publish(conn, scope, found, "closed" if closed else "opened", {})
    return await get_labelling(conn, scope, name)


async def delete_labelling(conn: Connection, scope: Scope, name: str) -> None:
    """Delete it with its tasks and all that was answered; labels that were committed stay. Raises: LabellingNotFound."""
    found = await get_labelling(conn, scope, name)
    await store.delete_labelling(conn, scope.project, found.id)
    with contextlib.suppress(RefNotFound):  # somebody removed the tag by hand
        await dataforge.delete_ref(conn, scope, found.dataset, _tag(name))
    await publish(conn, scope, found, "deleted", {})


async def get_progress(conn: Connection, scope: Scope, name: str) -> tuple[Labelling, Counts, list[Workload]]:
    """How far the project is, and what each annotator has done. Raises: LabellingNotFound."""
    found = await get_labelling(conn, scope, name)
    counts = await store.count_tasks(conn, scope.project, found.id)
    return found, counts, await store.list_workloads(conn, scope.project, found.id)


async def get_agreement(conn: Connection, scope: Scope, name: str) -> list[QuestionAgreementRead]:
    """How far annotators agree, by question. Raises: LabellingNotFound."""
    found = await get_labelling(conn, scope, name)
    submissions = await store.list_submissions(conn, scope.project, found.id)
    return await asyncio.to_thread(figures.agreement, to_schema(found.questions), submissions)


async def list_annotators(conn: Connection, scope: Scope, name: str) -> list[AnnotatorRead]:
    """How good each annotator's answers are, as far as gold, consensus and the others tell. Raises: LabellingNotFound."""
    found = await get_labelling(conn, scope, name)
    submissions = await store.list_submissions(conn, scope.project, found.id)
    labels = {task.id: task.label for task in await store.list_tasks(conn, scope.project, found.id) if task.label is not None}
    workloads = await store.list_workloads(conn, scope.project, found.id)
    return await asyncio.to_thread(figures.quality, to_schema(found.questions), submissions, labels, workloads)
