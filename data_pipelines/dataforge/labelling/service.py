"""The verbs of labelling: what the routers call."""

from __future__ import annotations

from data_pipelines.dataforge.labelling.assignments import assign, unassign
from data_pipelines.dataforge.labelling.exchange import commit_labels, export, import_labels
from data_pipelines.dataforge.labelling.projects import (
    create_labelling,
    delete_labelling,
    get_agreement,
    get_labelling,
    get_progress,
    list_annotators,
    list_labellings,
    update_labelling,
)
from data_pipelines.dataforge.labelling.queue import (
    get_mine,
    list_mine,
    list_versions,
    next_task,
    release,
    renew_lease,
    restore_version,
    save_draft,
    skip,
    submit,
)
from data_pipelines.dataforge.labelling.reviews import get_task, list_tasks, post_predictions, rerank, review, set_gold

__all__ = [
    "assign", "commit_labels", "create_labelling", "delete_labelling", "export", "get_agreement", "get_labelling", "get_mine", "get_progress",
    "get_task", "import_labels", "list_annotators", "list_labellings", "list_mine", "list_tasks", "list_versions", "next_task",
    "post_predictions", "release", "renew_lease", "rerank", "restore_version", "review", "save_draft", "set_gold", "skip", "submit",
    "unassign", "update_labelling",
]  # fmt: skip
