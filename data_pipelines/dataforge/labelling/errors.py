"""What labelling refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class LabellingNotFound(NotFound):
    title = "Labelling project not found"
    detail = "There is no labelling project '{name}' in this project. 'aidos labelling list' shows those there are."


class LabellingExists(Conflict):
    title = "Labelling project exists"
    detail = "There is already a labelling project '{name}'. Choose another name."


class LabellingClosed(Conflict):
    title = "Labelling project is closed"
    detail = "'{name}' is closed: its labels can be read, exported and committed. Open it to go on labelling."


class TaskNotFound(NotFound):
    title = "Task not found"
    detail = "There is no task {task} in labelling project '{name}', or it is not yours."


class NoTaskLeft(NotFound):
    title = "No task is left"
    detail = "'{name}' has no task for you now: you have done yours, or others hold what is left ({held} are held)."


class TaskNotHeld(Conflict):
    title = "Task is not held"
    detail = "You do not hold task {task}: the lease ended, or you gave it back. Your draft is kept; ask for the next task."


class TaskDecided(Conflict):
    title = "Task is decided"
    detail = "Task {task} was decided by a reviewer or an import; its label changes only by another review."


class TaskHasNoSlot(Conflict):
    title = "Task has no free slot"
    detail = "Task {task} {reason}, so it cannot be assigned. Choose others; 'unassign' frees what is kept for someone."


class AnnotatorUnknown(InvalidPayload):
    title = "No such annotator"
    detail = (
        "'{annotator}' has not labelled in '{name}', and no member of the project who may label has that name. "
        "'aidos member put' gives the role 'annotator'."
    )


class TaskNotReviewable(Conflict):
    title = "Nothing to accept"
    detail = "Task {task} is {state}, so there is no proposed label to {verdict}. Send the right label with verdict 'correct'."


class NoItems(InvalidPayload):
    title = "Nothing to label"
    detail = "Commit {commit} of dataset '{dataset}' has no file that begins with '{prefix}', or the file has no rows."


class TooManyItems(InvalidPayload):
    title = "Too many items"
    detail = "There are more than {most} items under '{prefix}'. Label a part of them: narrow the prefix, or split the file."


class ImagesTooSlow(InvalidPayload):
    title = "Too many images to look into"
    detail = (
        "Of {images} images {read} could be looked into in {most_s} s, and shapes need the size of each. "
        "Label a part of them: narrow the prefix. Small files that were pushed together are read fastest."
    )


class RowsInvalid(InvalidPayload):
    title = "Rows cannot be read"
    detail = "'{path}' cannot be read as rows: {reason}."


class LabelInvalid(InvalidPayload):
    title = "Label is outside its schema"
    detail = "'{field}' does not fit the label schema: {reason}."


class VersionNotFound(NotFound):
    title = "Version not found"
    detail = "Task {task} has no version {version} of yours."


class ItemUnknown(InvalidPayload):
    title = "Item is not of this project"
    detail = "'{path}' is not, or not unambiguously, among the items of labelling project '{name}'."


class FormatCannotHold(InvalidPayload):
    title = "Format cannot hold the labels"
    detail = "{format} cannot hold {what}. Use jsonl or labelstudio for these labels."


class LabelFileInvalid(InvalidPayload):
    title = "Label file cannot be read"
    detail = "'{file}' is not as its format asks: {reason}."
