"""What pull requests refuse."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class PullRequestNotFound(NotFound):
    title = "Pull request not found"
    detail = "Dataset '{dataset}' has no pull request {number}. 'aidos pull-request list {dataset}' shows those there are."


class PullRequestExists(Conflict):
    title = "There is a pull request already"
    detail = "An open pull request of dataset '{dataset}' brings '{source}' into '{target}' already. Go on there, or close it first."


class NothingToPull(Conflict):
    title = "Nothing to merge"
    detail = "'{target}' of dataset '{dataset}' has all that '{source}' has. Commit to '{source}' first."


class PullRequestEnded(Conflict):
    title = "The pull request has ended"
    detail = (
        "Pull request {number} of dataset '{dataset}' is {state}. Only open ones are reviewed and merged; a closed one may be opened again."
    )


class PullRequestBlocked(Conflict):
    title = "The pull request cannot be merged yet"
    detail = "Pull request {number} of dataset '{dataset}' waits: {reason}."


class HeadChanged(Conflict):
    title = "The branch has moved"
    detail = "'{source}' points to {actual}, not to {expected}: look at what came since, and repeat."


class ReviewNotYours(Conflict):
    title = "Somebody else must approve"
    detail = "A pull request is approved by people who did not open it. A comment is welcome from all."


class SameBranch(InvalidPayload):
    title = "Source and target are one branch"
    detail = "'{branch}' cannot be merged into itself. Name two branches."
