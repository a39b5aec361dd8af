"""The rows of labelling: one function a block of ``queries.sql``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aidos.schemas.dataforge.labelling import Consensus, QueueOrder, TaskState
from cluster.db import Connection, load_queries, unique
from data_pipelines.dataforge.labelling.errors import LabellingExists
from data_pipelines.dataforge.labelling.models import (
    Annotator,
    Counts,
    Item,
    Labelling,
    Slot,
    SlotState,
    Source,
    Stage,
    Submission,
    Task,
    Turn,
    Value,
    Version,
    Workload,
)

Q = load_queries(__package__)
Row = Mapping[str, Any]


async def create_labelling(conn: Connection, project_id: UUID, labelling: Row) -> None:
    """Raises: LabellingExists."""
    with unique("labellings_name", LabellingExists(name=labelling["name"])):
        await conn.execute(Q.create_labelling, {"project_id": project_id, **labelling, "questions": Jsonb(labelling["questions"])})


async def find_labelling(conn: Connection, project_id: UUID, name: str) -> Labelling | None:
    row = await (await conn.execute(Q.find_labelling, {"project_id": project_id, "name": name})).fetchone()
    return _labelling(row) if row else None


async def list_labellings(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[Labelling]:
    """Newest first."""
    return [_labelling(row) for row in await _rows(conn, Q.list_labellings, project_id, before=before, limit=limit)]


async def update_labelling(conn: Connection, project_id: UUID, labelling: Labelling, *, closed: bool) -> None:
    row = {name: getattr(labelling, name) for name in ("id", "instructions", "review", "consensus", "gold_every", "most_skips", "lease_s")}
    await conn.execute(Q.update_labelling, {"project_id": project_id, **row, "item_order": labelling.order, "closed": closed})


async def delete_labelling(conn: Connection, project_id: UUID, id: UUID) -> None:
    """With its tasks and all that was answered."""
    await conn.execute(Q.delete_labelling, {"project_id": project_id, "id": id})


async def insert_tasks(
    conn: Connection, project_id: UUID, labelling_id: UUID, overlap: int, ids: Sequence[UUID], items: Sequence[Item]
) -> None:
    """One task an item, in their order."""
    columns = {
        "ids": list(ids),
        "ordinals": list(range(1, len(items) + 1)),
        "paths": [item.path for item in items],
        "rows": [item.row for item in items],
        "widths": [item.size and item.size[0] for item in items],
        "heights": [item.size and item.size[1] for item in items],
        "data": [None if item.data is None else Jsonb(item.data) for item in items],
    }
    await conn.execute(Q.insert_tasks, {"project_id": project_id, "labelling_id": labelling_id, "overlap": overlap, **columns})


async def enter_annotator(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID, name: str) -> Annotator:
    """Enter whoever labels here, or find them; locked until the transaction ends, so that one annotator asks once at a time."""
    values = {"annotator_id": annotator_id, "annotator": name}
    (row,) = await _rows(conn, Q.enter_annotator, project_id, labelling_id=labelling_id, **values)
    return Annotator(**row)


async def return_expired(conn: Connection, project_id: UUID, labelling_id: UUID) -> None:
    """Free the slots whose leases have ended."""
    if freed := await _rows(conn, Q.return_expired, project_id, labelling_id=labelling_id):
        await recount_reserved(conn, project_id, [row["id"] for row in freed])


async def find_annotator(conn: Connection, project_id: UUID, labelling_id: UUID, name: str) -> Annotator | None:
    """Who has labelled here under that name."""
    rows = await _rows(conn, Q.find_annotator, project_id, labelling_id=labelling_id, annotator=name)
    return Annotator(**rows[0]) if rows else None


async def assign_tasks(
    conn: Connection, project_id: UUID, labelling_id: UUID, task_ids: Sequence[UUID], annotator_id: UUID, annotator: str, assigned_by: str
) -> None:
    """Locked tasks are the annotator's; what they skipped is given back."""
    who = {"annotator_id": annotator_id, "annotator": annotator, "assigned_by": assigned_by}
    await conn.execute(Q.assign_tasks, {"project_id": project_id, "labelling_id": labelling_id, "task_ids": list(task_ids), **who})


async def unassign_tasks(conn: Connection, project_id: UUID, labelling_id: UUID, task_ids: Sequence[UUID], annotator: str) -> None:
    values = {"labelling_id": labelling_id, "task_ids": list(task_ids), "annotator": annotator}
    await conn.execute(Q.unassign_tasks, {"project_id": project_id, **values})


async def decline_task(conn: Connection, project_id: UUID, slot: Slot) -> None:
    """The task is not kept for whoever skipped it."""
    values = {"task_id": slot.task_id, "annotator_id": slot.annotator_id}
    await conn.execute(Q.decline_task, {"project_id": project_id, **values})


async def recount_reserved(conn: Connection, project_id: UUID, task_ids: Sequence[UUID]) -> None:
    """Count, of locked tasks, the slots that are kept for assignees."""
    await conn.execute(Q.recount_reserved, {"project_id": project_id, "task_ids": list(task_ids)})


async def find_leased(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID) -> UUID | None:
    """The task that the annotator holds."""
    return await _id(conn, Q.find_leased, project_id, labelling_id, annotator_id)


async def pick_task(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID) -> UUID | None:
    """Lock the first task with a free slot that the annotator has not had, passing over those that others are at."""
    return await _id(conn, Q.pick_task, project_id, labelling_id, annotator_id)


async def pick_assigned(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID) -> UUID | None:
    """Lock the first task that is meant for the annotator and that they have not had."""
    return await _id(conn, Q.pick_assigned, project_id, labelling_id, annotator_id)


async def await_task(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID) -> UUID | None:
    """As ``pick_task``, waiting for those that others are at: None means that there is none."""
    return await _id(conn, Q.await_task, project_id, labelling_id, annotator_id)


async def pick_gold(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID) -> UUID | None:
    """Lock a gold question that the annotator has not had; each gets them in an order of their own."""
    return await _id(conn, Q.pick_gold, project_id, labelling_id, annotator_id)


async def take_slot(conn: Connection, project_id: UUID, labelling_id: UUID, task_id: UUID, annotator_id: UUID, lease_s: int) -> None:
    """Lease a slot of the locked task."""
    values = {"labelling_id": labelling_id, "task_id": task_id, "annotator_id": annotator_id, "lease_s": lease_s}
    await conn.execute(Q.take_slot, {"project_id": project_id, **values})


async def renew_slot(conn: Connection, project_id: UUID, task_id: UUID, annotator_id: UUID, lease_s: int) -> None:
    values = {"task_id": task_id, "annotator_id": annotator_id, "lease_s": lease_s}
    await conn.execute(Q.renew_slot, {"project_id": project_id, **values})


async def find_task(conn: Connection, project_id: UUID, labelling_id: UUID, id: UUID) -> Task | None:
    found = await _rows(conn, Q.find_task, project_id, labelling_id=labelling_id, id=id)
    return _task(found[0]) if found else None


async def lock_task(conn: Connection, project_id: UUID, labelling_id: UUID, id: UUID) -> Task | None:
    found = await _rows(conn, Q.lock_task, project_id, labelling_id=labelling_id, id=id)
    return _task(found[0]) if found else None


async def list_tasks(
    conn: Connection, project_id: UUID, labelling_id: UUID, state: TaskState | None = None, after: int = 0, limit: int | None = None
) -> list[Task]:
    """In the order of the items."""
    return [
        _task(row) for row in await _rows(conn, Q.list_tasks, project_id, labelling_id=labelling_id, state=state, after=after, limit=limit)
    ]


async def lock_tasks(conn: Connection, project_id: UUID, labelling_id: UUID, ids: Iterable[UUID]) -> list[tuple[Task, int]]:
    """Tasks with the number of their slots that are leased or submitted."""
    rows = await _rows(conn, Q.lock_tasks, project_id, labelling_id=labelling_id, ids=list(ids))
    return [(_task(row), row["held"]) for row in rows]


async def save_task(conn: Connection, project_id: UUID, task: Task) -> None:
    """Write what may change of a task that is locked."""
    names = ("id", "state", "taken", "submitted", "skips", "source", "decided_by", "comment")
    documents = {"gold": _json(task.gold), "label": _json(task.label)}
    await conn.execute(Q.save_task, {"project_id": project_id, **{name: getattr(task, name) for name in names}, **documents})


async def list_slots(conn: Connection, project_id: UUID, task_id: UUID, annotator_id: UUID | None = None) -> list[Slot]:
    """The turns at a task, or the annotator's alone."""
    rows = await _rows(conn, Q.list_slots, project_id, task_id=task_id, annotator_id=annotator_id)
    return [Slot(**{**row, "state": SlotState(row["state"])}) for row in rows]


async def list_turns(
    conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID, before: datetime | None, limit: int
) -> list[Turn]:
    """What the annotator has had, newest first."""
    values = {"labelling_id": labelling_id, "annotator_id": annotator_id, "before": before, "limit": limit}
    rows = await _rows(conn, Q.list_turns, project_id, **values)
    return [Turn(**{**row, "state": SlotState(row["state"])}) for row in rows]


async def save_slot(
    conn: Connection, project_id: UUID, slot: Slot, state: SlotState, *, reason: str = "", submitted_version: int | None = None
) -> None:
    """End a lease."""
    values = {"task_id": slot.task_id, "annotator_id": slot.annotator_id, "state": state, "reason": reason}
    await conn.execute(Q.save_slot, {"project_id": project_id, **values, "submitted_version": submitted_version})


async def return_slots(conn: Connection, project_id: UUID, task_id: UUID) -> None:
    """Take back what was submitted or skipped; the versions stay."""
    await conn.execute(Q.return_slots, {"project_id": project_id, "task_id": task_id})


async def add_version(conn: Connection, project_id: UUID, slot: Slot, stage: Stage, value: Value) -> int:
    values = {"task_id": slot.task_id, "annotator_id": slot.annotator_id, "stage": stage, "value": Jsonb(dict(value))}
    (row,) = await _rows(conn, Q.add_version, project_id, **values)
    return int(row["version"])


async def list_versions(conn: Connection, project_id: UUID, task_id: UUID, annotator_id: UUID) -> list[Version]:
    rows = await _rows(conn, Q.list_versions, project_id, task_id=task_id, annotator_id=annotator_id)
    return [Version(**{**row, "stage": Stage(row["stage"])}) for row in rows]


async def record_gold(conn: Connection, project_id: UUID, labelling_id: UUID, annotator_id: UUID, asked: int, right: int) -> None:
    values = {"labelling_id": labelling_id, "annotator_id": annotator_id, "asked": asked, "right": right}
    await conn.execute(Q.record_gold, {"project_id": project_id, **values})


async def list_submissions(
    conn: Connection, project_id: UUID, labelling_id: UUID, task_ids: Iterable[UUID] | None = None
) -> list[Submission]:
    """What was submitted, to these tasks or to all."""
    ids = None if task_ids is None else list(task_ids)
    return [Submission(**row) for row in await _rows(conn, Q.list_submissions, project_id, labelling_id=labelling_id, task_ids=ids)]


async def count_tasks(conn: Connection, project_id: UUID, labelling_id: UUID) -> Counts:
    (row,) = await _rows(conn, Q.count_tasks, project_id, labelling_id=labelling_id)
    return Counts(**row)


async def list_workloads(conn: Connection, project_id: UUID, labelling_id: UUID) -> list[Workload]:
    """By annotator."""
    return [Workload(**row) for row in await _rows(conn, Q.list_workloads, project_id, labelling_id=labelling_id)]


async def set_predictions(conn: Connection, project_id: UUID, predictions: Mapping[UUID, Value], priorities: Sequence[float]) -> None:
    values = {"ids": list(predictions), "predictions": [Jsonb(dict(each)) for each in predictions.values()], "priorities": list(priorities)}
    await conn.execute(Q.set_predictions, {"project_id": project_id, **values})


async def set_priorities(conn: Connection, project_id: UUID, ids: Sequence[UUID], priorities: Sequence[float]) -> None:
    await conn.execute(Q.set_priorities, {"project_id": project_id, "ids": list(ids), "priorities": list(priorities)})


async def decide_tasks(conn: Connection, project_id: UUID, labels: Mapping[UUID, Value], decided_by: str, *, gold: bool) -> None:
    """Labels from outside, as decided; ``gold``: as what annotators are tested with."""
    values = {"ids": list(labels), "labels": [Jsonb(dict(each)) for each in labels.values()], "decided_by": decided_by, "gold": gold}
    await conn.execute(Q.decide_tasks, {"project_id": project_id, **values})


async def set_sizes(conn: Connection, project_id: UUID, sizes: Mapping[UUID, tuple[int, int]]) -> None:
    """Sizes of images that had none."""
    values = {"ids": list(sizes), "widths": [width for width, _ in sizes.values()], "heights": [height for _, height in sizes.values()]}
    await conn.execute(Q.set_sizes, {"project_id": project_id, **values})


async def import_annotations(conn: Connection, project_id: UUID, labelling_id: UUID, given: Mapping[tuple[UUID, UUID], Value]) -> None:
    """Submissions by (task, annotator); one that is there gets a new version."""
    columns = {
        "task_ids": [task for task, _ in given],
        "annotator_ids": [annotator for _, annotator in given],
        "values": [Jsonb(dict(value)) for value in given.values()],
    }
    await conn.execute(Q.import_annotations, {"project_id": project_id, "labelling_id": labelling_id, **columns})


async def _rows(conn: Connection, query: Any, project_id: UUID, **values: Any) -> list[dict[str, Any]]:
    return await (await conn.execute(query, {"project_id": project_id, **values})).fetchall()


async def _id(conn: Connection, query: Any, project_id: UUID, labelling_id: UUID, annotator_id: UUID) -> UUID | None:
    rows = await _rows(conn, query, project_id, labelling_id=labelling_id, annotator_id=annotator_id)
    return next(iter(rows[0].values())) if rows else None


def _json(value: Value | None) -> Jsonb | None:
    return None if value is None else Jsonb(dict(value))


def _labelling(row: Row) -> Labelling:
    fields: dict[str, Any] = {**row, "consensus": Consensus(row["consensus"]), "order": QueueOrder(row["item_order"])}
    return Labelling(**{name: fields[name] for name in Labelling.__dataclass_fields__})


def _task(row: Row) -> Task:
    size = (row["width"], row["height"]) if row["width"] else None
    source = Source(row["source"]) if row["source"] else None
    item = Item(row["path"], row["row_number"], row["data"], size)
    fields: dict[str, Any] = {**row, "item": item, "state": TaskState(row["state"]), "source": source}
    return Task(**{name: fields[name] for name in Task.__dataclass_fields__})
