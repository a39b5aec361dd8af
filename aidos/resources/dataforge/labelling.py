"""Labelling, as the client sees it. ``aidos label`` walks an annotator through the queue."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.dataforge.label_exchange import ExportRead, ImportRead, LabelsCommit, LabelsExport, LabelsImport
from aidos.schemas.dataforge.labelling import (
    AgreementRead,
    AnnotatorsRead,
    AnswerSet,
    AskedTaskRead,
    AssignmentSet,
    AssignmentsRead,
    GuideRead,
    LabellingCreate,
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
    TaskSubmit,
    TurnRead,
    VersionRestore,
    VersionsRead,
)
from aidos.schemas.dataforge.versions import CommitRead

_ALL = "/v1/dataforge/labelling"
_ONE = f"{_ALL}/{{labelling}}"
_MINE = f"{_ONE}/mine/{{task}}"
_TASK = f"{_ONE}/tasks/{{task}}"


class Labelling(Resource):
    """Questions about the files or rows of a commit, answered by people."""

    noun = "labelling"
    plural = "labelling"

    create = operation("POST", _ALL, body=LabellingCreate, returns=LabellingRead, positional=("name",), help="Make a labelling project.")
    list = operation("GET", _ALL, returns=LabellingRead, paged=True, help="The labelling projects, newest first.")
    get = operation("GET", _ONE, returns=LabellingRead, help="One labelling project.")
    update = operation("PATCH", _ONE, body=LabellingUpdate, returns=LabellingRead, help="Change how it is labelled, or close it.")
    delete = operation("DELETE", _ONE, help="Delete it with all that was answered; committed labels stay.")

    guide = operation("GET", f"{_ONE}/guide", returns=GuideRead, help="What is asked, and how to answer.")
    next = operation("POST", f"{_ONE}/next", returns=AskedTaskRead, help="Take the next task, or go on with the one you hold.")
    mine = operation("GET", f"{_ONE}/mine", returns=TurnRead, paged=True, help="The tasks that you have had, newest first.")
    show = operation("GET", _MINE, returns=AskedTaskRead, help="A task that you have had, with your answer.")
    versions = operation("GET", f"{_MINE}/versions", returns=VersionsRead, help="All that you ever answered to a task.")
    draft = operation("PUT", f"{_MINE}/draft", body=AnswerSet, returns=SlotRead, help="Keep an unfinished answer, and the task.")
    heartbeat = operation("POST", f"{_MINE}/heartbeat", returns=SlotRead, help="Keep the task a while longer.")
    restore = operation(
        "POST", f"{_MINE}/restore", body=VersionRestore, returns=SlotRead, positional=("version",), help="Undo: go back to a version."
    )
    submit = operation("POST", f"{_MINE}/submit", body=TaskSubmit, returns=SlotRead, help="Answer a task.")
    skip = operation("POST", f"{_MINE}/skip", body=TaskSkip, help="Leave a task to others.")
    release = operation("POST", f"{_MINE}/release", help="Give a task back for now; the draft stays.")

    tasks = operation("GET", f"{_ONE}/tasks", returns=TaskRead, paged=True, query={"state": str}, help="Tasks in the order of the items.")
    task = operation("GET", _TASK, returns=TaskDetailRead, help="A task with everybody's answers.")
    review = operation(
        "POST",
        f"{_TASK}/review",
        body=TaskReview,
        returns=TaskDetailRead,
        positional=("verdict",),
        help="Accept, correct or reject a label.",
    )
    gold = operation("PUT", f"{_TASK}/gold", body=AnswerSet, returns=TaskDetailRead, help="Make a task a gold question.")
    assign = operation(
        "POST",
        f"{_ONE}/assign",
        body=AssignmentSet,
        returns=AssignmentsRead,
        positional=("annotator",),
        help="Keep tasks for an annotator.",
    )
    unassign = operation(
        "POST",
        f"{_ONE}/unassign",
        body=AssignmentSet,
        returns=AssignmentsRead,
        positional=("annotator",),
        help="Keep tasks for an annotator no longer.",
    )
    predict = operation(
        "PUT", f"{_ONE}/predictions", body=PredictionsSet, returns=PredictionsRead, help="Post what a model thinks of items."
    )
    rerank = operation(
        "POST", f"{_ONE}/rerank", body=Rerank, returns=LabellingRead, positional=("order",), help="Order the queue, also by uncertainty."
    )
    progress = operation("GET", f"{_ONE}/progress", returns=ProgressRead, help="How far it is, and what each annotator has done.")
    agreement = operation("GET", f"{_ONE}/agreement", returns=AgreementRead, help="How far annotators agree.")
    annotators = operation("GET", f"{_ONE}/annotators", returns=AnnotatorsRead, help="How good each annotator's answers are.")
    export = operation("POST", f"{_ONE}/export", body=LabelsExport, returns=ExportRead, help="Write labels as files, to be downloaded.")
    import_ = operation("POST", f"{_ONE}/import", body=LabelsImport, returns=ImportRead, help="Take in labels from files.")
    commit = operation("POST", f"{_ONE}/commit", body=LabelsCommit, returns=CommitRead, help="Commit the labels to the dataset.")
