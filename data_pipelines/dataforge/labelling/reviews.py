"""What a reviewer does: look at all answers, decide, set gold questions, post predictions, order the queue."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.labelling import QueueOrder, TaskState, Verdict
from cluster.db import Connection
from data_pipelines.dataforge.labelling import policy, store
from data_pipelines.dataforge.labelling.errors import ItemUnknown, TaskNotFound, TaskNotReviewable
from data_pipelines.dataforge.labelling.labels import check_value, to_schema
from data_pipelines.dataforge.labelling.models import Labelling, Prediction, Slot, SlotState, Source, Task, Value
from data_pipelines.dataforge.labelling.projects import get_labelling, get_open_labelling, publish


async def list_tasks(conn: Connection, scope: Scope, name: str, state: TaskState | None, after: int, limit: int) -> list[Task]:
    """In the order of the items. Raises: LabellingNotFound."""
    labelling = await get_labelling(conn, scope, name)
    return await store.list_tasks(conn, scope.project, labelling.id, state, after, limit)


async def get_task(conn: Connection, scope: Scope, name: str, task_id: UUID) -> tuple[Task, list[Slot]]:
    """A task with everybody's answers. Raises: LabellingNotFound, TaskNotFound."""
    labelling = await get_labelling(conn, scope, name)
    task = await store.find_task(conn, scope.project, labelling.id, task_id)
    if task is None:
        raise TaskNotFound(task=task_id, name=name)
    return task, await store.list_slots(conn, scope.project, task_id)


async def review(
    conn: Connection, scope: Scope, name: str, task_id: UUID, verdict: Verdict, value: Value | None, comment: str
) -> tuple[Task, list[Slot]]:
    """Accept the proposed label, put the right one in its place, or send the task back to be labelled anew.

    Raises: LabellingNotFound, LabellingClosed, TaskNotFound, TaskNotReviewable, LabelInvalid.
    """
    labelling = await get_open_labelling(conn, scope, name)
    task = await _lock(conn, scope, labelling, task_id)
    if verdict is Verdict.REJECT:
        await store.return_slots(conn, scope.project, task_id)
        leased = sum(slot.state is SlotState.LEASED for slot in await store.list_slots(conn, scope.project, task_id))
        task = dataclasses.replace(
            task,
            state=TaskState.OPEN,
            taken=leased,
            submitted=0,
            skips=0,
            gold=None,
            label=None,
            source=None,
            decided_by=None,
            comment=comment,
        )
    else:
        label = _right_label(labelling, task, verdict, value)
        task = _decide(scope, task, label, comment)
    await store.save_task(conn, scope.project, task)
    await store.recount_reserved(conn, scope.project, [task_id])
    await publish(conn, scope, labelling, "reviewed", {"task": str(task_id), "verdict": verdict.value})
    return await get_task(conn, scope, name, task_id)


async def _lock(conn: Connection, scope: Scope, labelling: Labelling, task_id: UUID) -> Task:
    task = await store.lock_task(conn, scope.project, labelling.id, task_id)
    if task is None:
        raise TaskNotFound(task=task_id, name=labelling.name)
    return task


def _right_label(labelling: Labelling, task: Task, verdict: Verdict, value: Value | None) -> Value:
    if verdict is Verdict.CORRECT:
        return check_value(to_schema(labelling.questions), value or {}, task.item)
    if task.label is None:
        raise TaskNotReviewable(task=task.id, state=task.state.value, verdict=verdict.value)
    return task.label


def _decide(scope: Scope, task: Task, label: Value, comment: str = "") -> Task:
    return dataclasses.replace(
        task, state=TaskState.DONE, label=label, source=Source.REVIEW, decided_by=scope.principal.name, comment=comment
    )


async def set_gold(conn: Connection, scope: Scope, name: str, task_id: UUID, value: Value) -> tuple[Task, list[Slot]]:
    """Make the task a gold question: each annotator may get it once, and is measured by it. Raises: as ``review``."""
    labelling = await get_open_labelling(conn, scope, name)
    task = await _lock(conn, scope, labelling, task_id)
    gold = check_value(to_schema(labelling.questions), value, task.item)
    await store.save_task(conn, scope.project, dataclasses.replace(_decide(scope, task, gold), gold=gold))
    return await get_task(conn, scope, name, task_id)


async def post_predictions(conn: Connection, scope: Scope, name: str, predictions: Sequence[Prediction]) -> int:
    """Keep what a model thinks of items: shown to annotators as a first answer, and what the queue is ordered by.

    Raises: LabellingNotFound, LabellingClosed, ItemUnknown, LabelInvalid.
    """
    labelling = await get_open_labelling(conn, scope, name)
    schema = to_schema(labelling.questions)
    tasks = {task.item.key: task for task in await store.list_tasks(conn, scope.project, labelling.id)}
    found: dict[UUID, dict[str, Any]] = {}
    for each in predictions:
        task = tasks.get(each.key)
        if task is None:
            raise ItemUnknown(path=each.key, name=name)
        value = check_value(schema, each.value, task.item, whole=False) if each.value is not None else None
        found[task.id] = {"value": value, "probabilities": each.probabilities, "confidence": each.confidence, "model": each.model}
    ordered = policy.priorities(list(found.values()), labelling.order, seed=labelling.id.int)
    await store.set_predictions(conn, scope.project, found, ordered)
    await publish(conn, scope, labelling, "predicted", {"items": len(found)})
    return len(found)


async def rerank(conn: Connection, scope: Scope, name: str, order: QueueOrder, seed: int = 0) -> Labelling:
    """QueueOrder the queue, now and for predictions to come. Raises: LabellingNotFound, LabellingClosed."""
    labelling = await get_open_labelling(conn, scope, name)
    tasks = await store.list_tasks(conn, scope.project, labelling.id, TaskState.OPEN)
    ordered = policy.priorities([task.prediction for task in tasks], order, seed)
    await store.set_priorities(conn, scope.project, [task.id for task in tasks], ordered)
    await store.update_labelling(conn, scope.project, dataclasses.replace(labelling, order=order), closed=False)
    return await get_labelling(conn, scope, name)
