"""What an annotator does: take a task, keep it, answer it, give it back.

A claim locks its task's row, so that no slot is given out twice; the annotator's own row is locked first, so that two
windows of one annotator get the same task. Leases end by PostgreSQL's clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.labelling import TaskState
from cluster.db import Connection
from cluster.objects import Objects
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.labelling import policy, store
from data_pipelines.dataforge.labelling.errors import NoTaskLeft, TaskDecided, TaskNotFound, TaskNotHeld, VersionNotFound
from data_pipelines.dataforge.labelling.labels import check_value, to_schema, with_told_size
from data_pipelines.dataforge.labelling.models import (
    Asked,
    Labelling,
    Size,
    Slot,
    SlotState,
    Source,
    Stage,
    Submission,
    Task,
    Turn,
    Value,
    Version,
)
from data_pipelines.dataforge.labelling.projects import get_labelling, get_open_labelling, publish


def annotator_id(scope: Scope) -> UUID:
    """Who labels: the account behind the credential, so that a person with two keys is one annotator."""
    return scope.principal.user_id or scope.principal.id


async def next_task(conn: Connection, scope: Scope, objects: Objects, name: str) -> Asked:
    """Lease the next task, or the one that the caller holds already. Raises: LabellingNotFound, LabellingClosed, NoTaskLeft."""
    labelling = await get_open_labelling(conn, scope, name)
    me = await store.enter_annotator(conn, scope.project, labelling.id, annotator_id(scope), scope.principal.name)
    await store.return_expired(conn, scope.project, labelling.id)
    task_id = await store.find_leased(conn, scope.project, labelling.id, me.annotator_id)
    if task_id is None:
        task_id = await _pick(conn, scope, labelling, me.annotator_id, gold=policy.asks_gold(me.asked, labelling.gold_every))
        await store.take_slot(conn, scope.project, labelling.id, task_id, me.annotator_id, labelling.lease_s)
        await store.recount_reserved(conn, scope.project, [task_id])
    else:
        await store.renew_slot(conn, scope.project, task_id, me.annotator_id, labelling.lease_s)
    return await get_mine(conn, scope, objects, name, task_id)


async def _pick(conn: Connection, scope: Scope, labelling: Labelling, me: UUID, *, gold: bool) -> UUID:
    picked = await store.pick_gold(conn, scope.project, labelling.id, me) if gold else None
    picked = picked or await store.pick_assigned(conn, scope.project, labelling.id, me)
    picked = picked or await store.pick_task(conn, scope.project, labelling.id, me)
    # What was passed over because another was at it may still have a slot free when that one is done.
    picked = picked or await store.await_task(conn, scope.project, labelling.id, me)
    if picked is None:
        held = (await store.count_tasks(conn, scope.project, labelling.id)).leased
        raise NoTaskLeft(name=labelling.name, held=held)
    return picked


async def get_mine(conn: Connection, scope: Scope, objects: Objects, name: str, task_id: UUID) -> Asked:
    """A task that the caller has had, with its own answer. Raises: LabellingNotFound, TaskNotFound, FileNotFound."""
    labelling = await get_labelling(conn, scope, name)
    task = await store.find_task(conn, scope.project, labelling.id, task_id)
    slot = await _find_slot(conn, scope, task_id) if task else None
    if task is None or slot is None:
        raise TaskNotFound(task=task_id, name=name)
    prelabel = (task.prediction or {}).get("value")
    asked = Asked(task.id, task.item, slot.state, slot.version, slot.value, slot.leased_until, prelabel, task.comment)
    if task.item.row is not None:
        return asked
    downloads = await dataforge.create_downloads(conn, scope, objects, labelling.dataset, str(labelling.commit_id), [task.item.path])
    (file,) = downloads.files
    url = downloads.sources[file.source] if file.source is not None else None
    headers = file.place.headers if file.place else {}
    return dataclasses.replace(asked, url=url, offset_bytes=file.offset_bytes, size_bytes=file.size_bytes, headers=headers)


async def _find_slot(conn: Connection, scope: Scope, task_id: UUID) -> Slot | None:
    found = await store.list_slots(conn, scope.project, task_id, annotator_id(scope))
    return found[0] if found else None


async def list_mine(conn: Connection, scope: Scope, name: str, before: datetime | None, limit: int) -> list[Turn]:
    """What the caller has had, newest first. Raises: LabellingNotFound."""
    labelling = await get_labelling(conn, scope, name)
    return await store.list_turns(conn, scope.project, labelling.id, annotator_id(scope), before, limit)


async def list_versions(conn: Connection, scope: Scope, name: str, task_id: UUID) -> list[Version]:
    """All that the caller ever answered to the task, oldest first. Raises: LabellingNotFound, TaskNotFound."""
    labelling = await get_labelling(conn, scope, name)
    if await store.find_task(conn, scope.project, labelling.id, task_id) is None or await _find_slot(conn, scope, task_id) is None:
        raise TaskNotFound(task=task_id, name=name)
    return await store.list_versions(conn, scope.project, task_id, annotator_id(scope))


@dataclasses.dataclass(frozen=True)
class _Held:
    labelling: Labelling
    task: Task
    slot: Slot


async def _hold(conn: Connection, scope: Scope, name: str, task_id: UUID, *, submitted: bool = True) -> _Held:
    """The task, locked, and the caller's slot, leased or (where that will do) submitted.

    Raises: LabellingNotFound, LabellingClosed, TaskNotFound, TaskNotHeld, TaskDecided.
    """
    labelling = await get_open_labelling(conn, scope, name)
    task = await store.lock_task(conn, scope.project, labelling.id, task_id)
    slot = await _find_slot(conn, scope, task_id) if task else None
    if task is None or slot is None:
        raise TaskNotFound(task=task_id, name=name)
    if slot.state is not SlotState.LEASED and not (submitted and slot.state is SlotState.SUBMITTED):
        raise TaskNotHeld(task=task_id)
    if slot.state is SlotState.SUBMITTED and task.source in (Source.REVIEW, Source.IMPORTED) and task.gold is None:
        raise TaskDecided(task=task_id)
    return _Held(labelling, task, slot)


async def renew_lease(conn: Connection, scope: Scope, name: str, task_id: UUID) -> Slot:
    """Keep the task for another lease. Raises: LabellingNotFound, LabellingClosed, TaskNotFound, TaskNotHeld."""
    held = await _hold(conn, scope, name, task_id, submitted=False)
    await store.renew_slot(conn, scope.project, task_id, held.slot.annotator_id, held.labelling.lease_s)
    return await _slot_after(conn, scope, task_id)


async def _slot_after(conn: Connection, scope: Scope, task_id: UUID) -> Slot:
    slot = await _find_slot(conn, scope, task_id)
    assert slot is not None
    return slot


async def save_draft(conn: Connection, scope: Scope, name: str, task_id: UUID, value: Value) -> Slot:
    """Keep an unfinished answer as a version, and the lease. Saving the same again makes none.

    Raises: LabellingNotFound, LabellingClosed, TaskNotFound, TaskNotHeld, TaskDecided, LabelInvalid.
    """
    held = await _hold(conn, scope, name, task_id)
    checked = check_value(to_schema(held.labelling.questions), value, held.task.item, whole=False)
    await _keep_version(conn, scope, held.slot, Stage.DRAFT, checked)
    await store.renew_slot(conn, scope.project, task_id, held.slot.annotator_id, held.labelling.lease_s)
    return await _slot_after(conn, scope, task_id)


async def _keep_version(conn: Connection, scope: Scope, slot: Slot, stage: Stage, value: Value) -> int:
    if stage is Stage.DRAFT and slot.value is not None and dict(slot.value) == dict(value):
        return slot.version
    return await store.add_version(conn, scope.project, slot, stage, value)


async def restore_version(conn: Connection, scope: Scope, name: str, task_id: UUID, version: int) -> Slot:
    """Undo: make an earlier version the draft; nothing is lost. Raises: as ``save_draft``, VersionNotFound."""
    held = await _hold(conn, scope, name, task_id)
    known = await store.list_versions(conn, scope.project, task_id, held.slot.annotator_id)
    wanted = next((each for each in known if each.version == version), None)
    if wanted is None:
        raise VersionNotFound(task=task_id, version=version)
    await _keep_version(conn, scope, held.slot, Stage.DRAFT, wanted.value)
    return await _slot_after(conn, scope, task_id)


async def submit(conn: Connection, scope: Scope, name: str, task_id: UUID, value: Value, size: Size | None = None) -> Slot:
    """Answer the task, or answer it anew while no reviewer has decided it; the last of its annotators decides it by consensus.

    ``size``: of the image as the annotator saw it, kept where the platform does not look for itself.

    Raises: LabellingNotFound, LabellingClosed, TaskNotFound, TaskNotHeld, TaskDecided, LabelInvalid.
    """
    held = await _hold(conn, scope, name, task_id)
    schema = to_schema(held.labelling.questions)
    item = with_told_size(schema, held.task.item, size)
    checked = check_value(schema, value, item)
    if item.size and held.task.item.size is None:
        await store.set_sizes(conn, scope.project, {task_id: item.size})
    before = await _submission_of(conn, scope, held)
    version = await _keep_version(conn, scope, held.slot, Stage.SUBMITTED, checked)
    await store.save_slot(conn, scope.project, held.slot, SlotState.SUBMITTED, submitted_version=version)
    task = held.task if before else dataclasses.replace(held.task, submitted=held.task.submitted + 1)
    if task.gold is not None:
        right = int(policy.is_right(schema, checked, task.gold)) - int(
            before is not None and policy.is_right(schema, before.value, task.gold)
        )
        await store.record_gold(conn, scope.project, held.labelling.id, held.slot.annotator_id, int(before is None), right)
    else:
        task = decided(held.labelling, task, await store.list_submissions(conn, scope.project, held.labelling.id, [task_id]))
    await store.save_task(conn, scope.project, task)
    await publish(conn, scope, held.labelling, "submitted", {"task": str(task_id), "annotator": held.slot.annotator})
    return await _slot_after(conn, scope, task_id)


async def _submission_of(conn: Connection, scope: Scope, held: _Held) -> Submission | None:
    if held.slot.state is not SlotState.SUBMITTED:
        return None
    submissions = await store.list_submissions(conn, scope.project, held.labelling.id, [held.task.id])
    return next(each for each in submissions if each.annotator == held.slot.annotator)


def decided(labelling: Labelling, task: Task, submissions: Sequence[Submission]) -> Task:
    """The task as its submissions leave it: open while slots are free, else what consensus says."""
    if task.submitted < task.overlap:
        if task.state is TaskState.DISPUTED:  # by those who skipped it
            return task
        return dataclasses.replace(task, state=TaskState.OPEN, label=None, source=None, decided_by=None)
    weights = [policy.weight_of(each.gold_right, each.gold_asked) for each in submissions]
    values = [each.value for each in submissions]
    made = policy.decide(to_schema(labelling.questions), values, weights, labelling.consensus, review=labelling.review)
    source = Source.CONSENSUS if made.state is TaskState.DONE else None
    return dataclasses.replace(task, state=made.state, label=made.label, source=source, decided_by=labelling.consensus if source else None)


async def skip(conn: Connection, scope: Scope, name: str, task_id: UUID, reason: str) -> None:
    """Leave the task to others; enough skips send it to an adjudicator. Raises: as ``renew_lease``."""
    held = await _hold(conn, scope, name, task_id, submitted=False)
    await store.save_slot(conn, scope.project, held.slot, SlotState.SKIPPED, reason=reason)
    await store.decline_task(conn, scope.project, held.slot)
    task = dataclasses.replace(held.task, taken=held.task.taken - 1, skips=held.task.skips + 1)
    if task.skips >= held.labelling.most_skips and task.gold is None:
        task = dataclasses.replace(task, state=TaskState.DISPUTED)
    await store.save_task(conn, scope.project, task)
    await publish(conn, scope, held.labelling, "skipped", {"task": str(task_id), "annotator": held.slot.annotator, "reason": reason})


async def release(conn: Connection, scope: Scope, name: str, task_id: UUID) -> None:
    """Give the task back for now; the draft stays. Raises: as ``renew_lease``."""
    held = await _hold(conn, scope, name, task_id, submitted=False)
    await store.save_slot(conn, scope.project, held.slot, SlotState.RETURNED)
    await store.save_task(conn, scope.project, dataclasses.replace(held.task, taken=held.task.taken - 1))
    await store.recount_reserved(conn, scope.project, [task_id])
