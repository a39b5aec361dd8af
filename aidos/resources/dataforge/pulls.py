"""Pull requests on data, as the client sees them."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.dataforge.pulls import (
    PullRequestCreate,
    PullRequestMerge,
    PullRequestRead,
    PullRequestState,
    PullRequestUpdate,
    ReviewCreate,
    ReviewRead,
    StandingRead,
)
from aidos.schemas.dataforge.versions import ChangeRead

_ALL = "/v1/dataforge/datasets/{dataset}/pull-requests"
_ONE = f"{_ALL}/{{number}}"


class PullRequests(Resource):
    """Branches of data that are to be merged: reviewed, checked, and merged or closed."""

    noun = "pull-request"

    create = operation(
        "POST", _ALL, body=PullRequestCreate, returns=PullRequestRead, positional=("source",), help="Ask for a branch to be merged."
    )
    list = operation(
        "GET",
        _ALL,
        returns=PullRequestRead,
        paged=True,
        query={"state": (PullRequestState, None)},
        help="A dataset's pull requests, newest first.",
    )
    get = operation("GET", _ONE, returns=PullRequestRead, help="One pull request.")
    status = operation("GET", f"{_ONE}/status", returns=StandingRead, help="What it brings, and what keeps it from being merged.")
    diff = operation("GET", f"{_ONE}/diff", returns=ChangeRead, paged=True, help="The files that it changes.")
    update = operation("PATCH", _ONE, body=PullRequestUpdate, returns=PullRequestRead, help="Change its text, close it, or open it again.")
    merge = operation(
        "POST", f"{_ONE}/merge", body=PullRequestMerge, returns=PullRequestRead, help="Merge it, when nothing stands against it."
    )
    review = operation(
        "POST",
        f"{_ONE}/reviews",
        body=ReviewCreate,
        returns=ReviewRead,
        positional=("verdict",),
        help="Approve, ask for changes, or comment.",
    )
    reviews = operation("GET", f"{_ONE}/reviews", returns=ReviewRead, paged=True, help="What people said of it.")
