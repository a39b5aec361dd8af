"""Tasks that are meant for a certain annotator: theirs before any other, and a slot of each is kept for them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from actors.securityvault import service as securityvault
from actors.securityvault.models import Scope
from aidos.errors import NotFound
from aidos.schemas.dataforge.labelling import TaskState
from cluster.db import Connection
from data_pipelines.dataforge.labelling import store
from data_pipelines.dataforge.labelling.errors import AnnotatorUnknown, TaskHasNoSlot, TaskNotFound
from data_pipelines.dataforge.labelling.models import Labelling, Task
from data_pipelines.dataforge.labelling.projects import get_open_labelling, publish


async def assign(conn: Connection, scope: Scope, name: str, annotator: str, task_ids: Sequence[UUID]) -> list[Task]:
    """Keep a slot of each task for the annotator; one who skipped it is asked again. All of the tasks, or none.

    Raises: LabellingNotFound, LabellingClosed, AnnotatorUnknown, TaskNotFound, TaskHasNoSlot.
    """
    labelling = await get_open_labelling(conn, scope, name)
    annotator_id = await _find_annotator(conn, scope, labelling, annotator)
    for task in await _lock(conn, scope, labelling, task_ids):
        if task.state is not TaskState.OPEN or task.gold is not None:
            raise TaskHasNoSlot(task=task.id, reason="is a gold question" if task.gold is not None else f"is {task.state}")
    await store.assign_tasks(conn, scope.project, labelling.id, task_ids, annotator_id, annotator, scope.principal.name)
    await store.recount_reserved(conn, scope.project, task_ids)
    tasks = await _lock(conn, scope, labelling, task_ids)
    for task in tasks:
        if task.taken + task.reserved > task.overlap:
            raise TaskHasNoSlot(task=task.id, reason=f"has {task.overlap} slots, taken or kept for {', '.join(task.assignees)} and others")
    await publish(conn, scope, labelling, "assigned", {"annotator": annotator, "tasks": len(tasks)})
    return tasks


async def unassign(conn: Connection, scope: Scope, name: str, annotator: str, task_ids: Sequence[UUID]) -> list[Task]:
    """Keep the tasks for the annotator no longer; what they hold or have answered stays theirs.

    Raises: LabellingNotFound, LabellingClosed, TaskNotFound.
    """
    labelling = await get_open_labelling(conn, scope, name)
    await _lock(conn, scope, labelling, task_ids)
    await store.unassign_tasks(conn, scope.project, labelling.id, task_ids, annotator)
    await store.recount_reserved(conn, scope.project, task_ids)
    tasks = await _lock(conn, scope, labelling, task_ids)
    await publish(conn, scope, labelling, "unassigned", {"annotator": annotator, "tasks": len(tasks)})
    return tasks


async def _lock(conn: Connection, scope: Scope, labelling: Labelling, task_ids: Sequence[UUID]) -> list[Task]:
    """Raises: TaskNotFound."""
    tasks = {task.id: task for task, _ in await store.lock_tasks(conn, scope.project, labelling.id, task_ids)}
    for id in task_ids:
        if id not in tasks:
            raise TaskNotFound(task=id, name=labelling.name)
    return list(tasks.values())


async def _find_annotator(conn: Connection, scope: Scope, labelling: Labelling, name: str) -> UUID:
    """Who has labelled here under the name, or the member of the project who has it and may label. Raises: AnnotatorUnknown."""
    if known := await store.find_annotator(conn, scope.project, labelling.id, name):
        return known.annotator_id
    try:
        member = await securityvault.get_member(conn, scope, name)
    except NotFound as error:
        raise AnnotatorUnknown(annotator=name, name=labelling.name) from error
    if "dataforge:label" not in securityvault.policy.PERMISSIONS[member.role]:
        raise AnnotatorUnknown(annotator=name, name=labelling.name)
    return member.account_id
