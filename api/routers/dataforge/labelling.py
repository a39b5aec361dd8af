"""/v1/dataforge/labelling: projects, the annotators' queue (`dataforge:label`), reviews, and labels in files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from aidos.schemas.common import PageOf, encode_cursor
from aidos.schemas.dataforge.label_exchange import ExportRead, ImportRead, LabelFileRead, LabelsCommit, LabelsExport, LabelsImport
from aidos.schemas.dataforge.labelling import (
    AgreementRead,
    AnnotatorsRead,
    AnswerSet,
    AskedTaskRead,
    AssignmentSet,
    AssignmentsRead,
    GuideRead,
    LabellingCreate,
    LabellingName,
    LabellingRead,
    LabellingUpdate,
    PredictionsRead,
    PredictionsSet,
    ProgressRead,
    Rerank,
    SlotRead,
    TaskDetailRead,
    TaskRead,
    TaskReview,
    TaskSkip,
    TaskState,
    TaskSubmit,
    TurnRead,
    VersionRestore,
    VersionsRead,
)
from aidos.schemas.dataforge.versions import CommitRead
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, needs
from api.pages import id_of, key_of, page_of, whole_below
from data_pipelines.dataforge.labelling import models, service

router = APIRouter(prefix="/v1/dataforge/labelling", tags=["dataforge"], route_class=ApiRoute)
READ, WRITE, MANAGE, LABEL = needs("dataforge:read"), needs("dataforge:write"), needs("dataforge:manage"), needs("dataforge:label")
# Leases and drafts are no changes that an auditor looks for; every version of an answer is kept anyway.
KEEP = needs("dataforge:label", audit=False)
State = Annotated[TaskState | None, Query(description="Only tasks in this state.")]


def _detail(task: models.Task, slots: list[models.Slot]) -> TaskDetailRead:
    return TaskDetailRead(**TaskRead.model_validate(task).model_dump(), slots=[SlotRead.model_validate(slot) for slot in slots])


@router.post("", status_code=201, openapi_extra=needs("dataforge:write", transaction=False))
async def create_labelling(body: LabellingCreate, session: SessionDep) -> LabellingRead:
    """Ask questions about the files of a commit, or about the rows of one of them."""
    spec = models.LabellingSpec(**{**body.model_dump(), "questions": body.questions.model_dump(mode="json")})
    made = await service.create_labelling(session.transaction, session.change, session.scope, session.edge.objects, spec)
    return LabellingRead.model_validate(made)


@router.get("", openapi_extra=READ)
async def list_labellings(page: PageDep, tx: TxDep) -> PageOf[LabellingRead]:
    rows = await service.list_labellings(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(LabellingRead, rows, page.limit, "id")


@router.get("/{labelling}", openapi_extra=READ)
async def get_labelling(labelling: LabellingName, tx: TxDep) -> LabellingRead:
    return LabellingRead.model_validate(await service.get_labelling(tx.conn, tx.scope, labelling))


@router.patch("/{labelling}", openapi_extra=WRITE)
async def update_labelling(labelling: LabellingName, body: LabellingUpdate, tx: TxDep) -> LabellingRead:
    """Change how it is labelled from now on; `closed` ends or resumes it."""
    changes = {name: value for name, value in body.model_dump().items() if value is not None}
    return LabellingRead.model_validate(await service.update_labelling(tx.conn, tx.scope, labelling, changes))


@router.delete("/{labelling}", status_code=204, openapi_extra=MANAGE)
async def delete_labelling(labelling: LabellingName, tx: TxDep) -> None:
    """Delete it with all that was answered; labels that were committed stay."""
    await service.delete_labelling(tx.conn, tx.scope, labelling)


@router.get("/{labelling}/guide", openapi_extra=LABEL)
async def get_guide(labelling: LabellingName, tx: TxDep) -> GuideRead:
    """What is asked, and how to answer."""
    return GuideRead.model_validate(await service.get_labelling(tx.conn, tx.scope, labelling))


@router.post("/{labelling}/next", openapi_extra=KEEP)
async def next_task(labelling: LabellingName, tx: TxDep) -> AskedTaskRead:
    """Lease the next task, or go on with the one that the caller holds. 404 `no-task-left` when there is none."""
    return AskedTaskRead.model_validate(await service.next_task(tx.conn, tx.scope, tx.objects, labelling))


@router.get("/{labelling}/mine", openapi_extra=LABEL)
async def list_mine(labelling: LabellingName, page: PageDep, tx: TxDep) -> PageOf[TurnRead]:
    """The tasks that the caller has had, newest first."""
    key = key_of(page.cursor, datetime.fromisoformat)
    rows = await service.list_mine(tx.conn, tx.scope, labelling, key, page.limit)
    return page_of(TurnRead, rows, page.limit, "started_at")


@router.get("/{labelling}/mine/{task}", openapi_extra=LABEL)
async def get_mine(labelling: LabellingName, task: UUID, tx: TxDep) -> AskedTaskRead:
    """A task that the caller has had, with its own answer."""
    return AskedTaskRead.model_validate(await service.get_mine(tx.conn, tx.scope, tx.objects, labelling, task))


@router.get("/{labelling}/mine/{task}/versions", openapi_extra=LABEL)
async def list_label_versions(labelling: LabellingName, task: UUID, tx: TxDep) -> VersionsRead:
    """All that the caller ever answered to the task, oldest first."""
    return VersionsRead.model_validate({"versions": await service.list_versions(tx.conn, tx.scope, labelling, task)})


@router.put("/{labelling}/mine/{task}/draft", openapi_extra=KEEP)
async def save_draft(labelling: LabellingName, task: UUID, body: AnswerSet, tx: TxDep) -> SlotRead:
    """Keep an unfinished answer, and the lease."""
    slot = await service.save_draft(tx.conn, tx.scope, labelling, task, body.value)
    return SlotRead.model_validate(slot)


@router.post("/{labelling}/mine/{task}/heartbeat", openapi_extra=KEEP)
async def renew_lease(labelling: LabellingName, task: UUID, tx: TxDep) -> SlotRead:
    """Keep the task for another lease."""
    return SlotRead.model_validate(await service.renew_lease(tx.conn, tx.scope, labelling, task))


@router.post("/{labelling}/mine/{task}/restore", openapi_extra=LABEL)
async def restore_label_version(labelling: LabellingName, task: UUID, body: VersionRestore, tx: TxDep) -> SlotRead:
    """Undo: make an earlier version the draft. Nothing is lost by it."""
    return SlotRead.model_validate(await service.restore_version(tx.conn, tx.scope, labelling, task, body.version))


@router.post("/{labelling}/mine/{task}/submit", openapi_extra=LABEL)
async def submit_task(labelling: LabellingName, task: UUID, body: TaskSubmit, tx: TxDep) -> SlotRead:
    """Answer the task, or answer it anew while no reviewer has decided it."""
    return SlotRead.model_validate(await service.submit(tx.conn, tx.scope, labelling, task, body.value, body.size))


@router.post("/{labelling}/mine/{task}/skip", status_code=204, openapi_extra=LABEL)
async def skip_task(labelling: LabellingName, task: UUID, body: TaskSkip, tx: TxDep) -> None:
    """Leave the task to others."""
    await service.skip(tx.conn, tx.scope, labelling, task, body.reason)


@router.post("/{labelling}/mine/{task}/release", status_code=204, openapi_extra=KEEP)
async def release_task(labelling: LabellingName, task: UUID, tx: TxDep) -> None:
    """Give the task back for now; the draft stays."""
    await service.release(tx.conn, tx.scope, labelling, task)


@router.get("/{labelling}/tasks", openapi_extra=READ)
async def list_tasks(labelling: LabellingName, page: PageDep, tx: TxDep, state: State = None) -> PageOf[TaskRead]:
    """In the order of the items."""
    key = key_of(page.cursor, whole_below(2**31))
    rows = await service.list_tasks(tx.conn, tx.scope, labelling, state, key or 0, page.limit)
    cursor = encode_cursor(rows[-1].ordinal) if len(rows) == page.limit else None
    return PageOf(items=[TaskRead.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/{labelling}/tasks/{task}", openapi_extra=READ)
async def get_task(labelling: LabellingName, task: UUID, tx: TxDep) -> TaskDetailRead:
    """A task with everybody's answers."""
    return _detail(*await service.get_task(tx.conn, tx.scope, labelling, task))


@router.post("/{labelling}/tasks/{task}/review", openapi_extra=WRITE)
async def review_task(labelling: LabellingName, task: UUID, body: TaskReview, tx: TxDep) -> TaskDetailRead:
    """Accept the proposed label, put the right one in its place, or send the task back."""
    return _detail(*await service.review(tx.conn, tx.scope, labelling, task, body.verdict, body.value, body.comment))


@router.put("/{labelling}/tasks/{task}/gold", openapi_extra=WRITE)
async def set_gold(labelling: LabellingName, task: UUID, body: AnswerSet, tx: TxDep) -> TaskDetailRead:
    """Make the task a gold question. A review that rejects it makes it a task again."""
    return _detail(*await service.set_gold(tx.conn, tx.scope, labelling, task, body.value))


@router.post("/{labelling}/assign", openapi_extra=WRITE)
async def assign_tasks(labelling: LabellingName, body: AssignmentSet, tx: TxDep) -> AssignmentsRead:
    """Keep a slot of each task for an annotator, who is given them before any other. All of the tasks, or none."""
    tasks = await service.assign(tx.conn, tx.scope, labelling, body.annotator, body.tasks)
    return AssignmentsRead(annotator=body.annotator, tasks=len(tasks))


@router.post("/{labelling}/unassign", openapi_extra=WRITE)
async def unassign_tasks(labelling: LabellingName, body: AssignmentSet, tx: TxDep) -> AssignmentsRead:
    """Keep the tasks for the annotator no longer; what they hold or have answered stays theirs."""
    tasks = await service.unassign(tx.conn, tx.scope, labelling, body.annotator, body.tasks)
    return AssignmentsRead(annotator=body.annotator, tasks=len(tasks))


@router.put("/{labelling}/predictions", openapi_extra=WRITE)
async def post_predictions(labelling: LabellingName, body: PredictionsSet, tx: TxDep) -> PredictionsRead:
    """Keep what a model thinks of items: annotators start from it, and the queue can be ordered by how unsure it is."""
    given = [models.Prediction(model=body.model, **each.model_dump()) for each in body.predictions]
    return PredictionsRead(items=await service.post_predictions(tx.conn, tx.scope, labelling, given))


@router.post("/{labelling}/rerank", openapi_extra=WRITE)
async def rerank(labelling: LabellingName, body: Rerank, tx: TxDep) -> LabellingRead:
    """Order the queue: as listed, at random, or the most uncertain first."""
    found = await service.rerank(tx.conn, tx.scope, labelling, body.order, body.seed)
    return LabellingRead.model_validate(found)


@router.get("/{labelling}/progress", openapi_extra=READ)
async def get_progress(labelling: LabellingName, tx: TxDep) -> ProgressRead:
    """Counts by state and by annotator. Follow the events `dataforge.labelling` for changes as they happen."""
    found, counts, workloads = await service.get_progress(tx.conn, tx.scope, labelling)
    return ProgressRead.model_validate({"labelling": found.name, **counts.as_dict(found.overlap), "annotators": workloads})


@router.get("/{labelling}/agreement", openapi_extra=READ)
async def get_agreement(labelling: LabellingName, tx: TxDep) -> AgreementRead:
    """How far annotators agree, by question."""
    return AgreementRead(questions=await service.get_agreement(tx.conn, tx.scope, labelling))


@router.get("/{labelling}/annotators", openapi_extra=READ)
async def list_annotators(labelling: LabellingName, tx: TxDep) -> AnnotatorsRead:
    """How good each annotator's answers are."""
    return AnnotatorsRead(annotators=await service.list_annotators(tx.conn, tx.scope, labelling))


@router.post("/{labelling}/export", openapi_extra=needs("dataforge:read", transaction=False))
async def export_labels(labelling: LabellingName, body: LabelsExport, session: SessionDep) -> ExportRead:
    """Write labels as files, to be downloaded."""
    made = await service.export(
        session.transaction, session.scope, session.edge.objects, labelling, body.format, annotations=body.annotations
    )
    files = [LabelFileRead.model_validate({**vars(blob), "path": path, "url": made.urls.get(path)}) for path, blob in made.files.items()]
    return ExportRead(records=made.records, files=files)


@router.post("/{labelling}/import", openapi_extra=needs("dataforge:write", transaction=False))
async def import_labels(labelling: LabellingName, body: LabelsImport, session: SessionDep) -> ImportRead:
    """Take in labels: all of them, or none."""
    files = {file.path: file.text.encode() for file in body.files}
    committed = (body.ref, body.prefix) if body.ref else None
    return await service.import_labels(
        session.transaction, session.change, session.scope, session.edge.objects, labelling, body.format, files, committed, body.become
    )


@router.post("/{labelling}/commit", status_code=201, openapi_extra=needs("dataforge:write", transaction=False))
async def commit_labels(labelling: LabellingName, body: LabelsCommit, session: SessionDep) -> CommitRead:
    """Commit the labels to the dataset, like any data."""
    made = await service.commit_labels(session.transaction, session.change, session.scope, session.edge.objects, labelling, body)
    return CommitRead.model_validate(made)
