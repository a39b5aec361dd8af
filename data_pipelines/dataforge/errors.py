"""What DataForge refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class DatasetNotFound(NotFound):
    title = "Dataset not found"
    detail = "There is no dataset '{name}' in this project. 'aidos dataset list' shows those there are."


class DatasetExists(Conflict):
    title = "Dataset exists"
    detail = "There is already a dataset '{name}' in this project. Push to it, or choose another name."


class RefNotFound(NotFound):
    title = "Ref not found"
    detail = "Dataset '{dataset}' has no branch, tag or commit '{ref}'. 'aidos dataset refs {dataset}' shows its branches and tags."


class RefMoved(Conflict):
    title = "Ref moved"
    detail = (
        "'{ref}' of dataset '{dataset}' points to {actual}, and {expected} was expected (None: no such ref): someone else moved it. "
        "Repeat on top of what is there now; a push does so when it is run again."
    )


class RefNameTaken(Conflict):
    title = "Ref has the other kind"
    detail = "'{ref}' of dataset '{dataset}' is a {kind} already. Choose another name."


class TagFixed(Conflict):
    title = "Tags do not move"
    detail = "Tag '{ref}' of dataset '{dataset}' points to commit {actual} and stays there. Choose another name, or delete it first."


class RefNameInvalid(InvalidPayload):
    title = "Not a ref name"
    detail = "'{ref}' has the form of a commit id, so it cannot name a branch or tag."


class TreeNotFound(NotFound):
    title = "Tree not found"
    detail = "There is no tree {tree} in this project. Build it again from its files."


class FileNotFound(NotFound):
    title = "File not found"
    detail = "Commit {commit} of dataset '{dataset}' has no file '{path}'."


class BlobsMissing(Conflict):
    title = "Files were not uploaded"
    detail = (
        "{count} of the added files have no content here with the stated size, the first is '{path}'. Upload them and repeat the commit."
    )


class PathsCollide(InvalidPayload):
    title = "A path is a file and a folder"
    detail = "'{file}' cannot be a file while '{path}' lies under it. Remove one of them."


class PathsDifferInForm(InvalidPayload):
    title = "Paths differ by case or Unicode form only"
    detail = (
        "'{path}' cannot stand beside '{other}': they, or one of them and a folder of the other, differ by case or Unicode form only, "
        "so many file systems take them for one. Rename or remove one of them."
    )


class PathRepeated(InvalidPayload):
    title = "A path is named twice"
    detail = "'{path}' is added or removed more than once in one request. Name each path once."


class NothingToCommit(Conflict):
    title = "Nothing changed"
    detail = "The commit would equal its parent {parent}. Nothing was written."


class MergeConflict(Conflict):
    title = "Merge conflict"
    detail = (
        "{count} paths were changed on both sides in different ways, the first is '{path}'. Say for each which side counts ('take'), "
        "give its content ('add', 'remove'), or choose a side for all ('strategy'). 'aidos dataset conflicts' lists them."
    )


class HistoriesUnrelated(Conflict):
    title = "Histories have nothing in common"
    detail = (
        "'{source}' and '{branch}' of dataset '{dataset}' come from no common commit, so there is nothing to merge from. "
        "Begin a branch at '{branch}' and commit the files there."
    )


class NotFastForward(Conflict):
    title = "Not a fast-forward"
    detail = "'{branch}' has commits that '{source}' lacks. Merge '{branch}' into '{source}' first, or allow a merge commit."


class NotInConflict(InvalidPayload):
    title = "The path is not in conflict"
    detail = "'{path}' was changed on one side at most, so no side need be chosen for it. Leave it out of 'take'."


class MainlineNeeded(InvalidPayload):
    title = "Which parent is not clear"
    detail = "Commit {commit} has {parents} parents, and 'mainline' is {mainline}. Give the number of the parent to compare it with, for a merge only."


class BranchNeeded(InvalidPayload):
    title = "Only branches move"
    detail = "'{ref}' of dataset '{dataset}' is a {kind}. Name a branch."


class BranchProtected(Conflict):
    title = "The branch is protected"
    detail = (
        "'{branch}' of dataset '{dataset}' is protected: {reason}. "
        "'aidos dataset protections {dataset}' shows its rules; owners may override them."
    )


class CheckReported(Conflict):
    title = "A report holds the check"
    detail = "Check '{check}' of commit {commit} is what a report finds, and cannot be set by hand. Ask for the report with 'aidos report create'."


class ProtectionNotFound(NotFound):
    title = "Branch is not protected"
    detail = "Branch '{branch}' of dataset '{dataset}' has no protection. 'aidos dataset protections {dataset}' lists those there are."


class PackInvalid(InvalidPayload):
    title = "A pack does not hold what it says"
    detail = "Pack {sha256}: {reason}. Build and upload it again."


class BlobSizeDiffers(InvalidPayload):
    title = "The size of a blob differs"
    detail = "Blob {sha256} has {actual} bytes, not {stated}. State the size of the content that has this SHA-256."
